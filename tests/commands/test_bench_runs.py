"""What `ftkit bench` does with rows, models and folders that do not fit: counted, refused in one line, before answers."""

import json
import logging
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ftkit.commands import bench
from ftkit.config.errors import UserError
from ftkit.evaluation.results import read_items, read_results

TASK = """version: 1
about: "made up"
kind: {kind}
metrics: [{metrics}]
data: rows.jsonl
prompt: "{{{{ text }}}}"
{rest}
"""
KINDS = {
    "multiple_choice": 'choices: "choices"\nanswer: "{{ answer }}"\ntarget_delimiter: " "',
    "generation": 'target: "{{ choices[0] }}"\nmax_new_tokens: 20',
    "perplexity": "",
}
ROW = {"text": "uno", "choices": ["ENO", "DUE"], "answer": 0}


def write_task(folder, rows, kind="generation", metrics="exact_match", rest="", name="made"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / f"{name}.yaml"
    path.write_text(TASK.format(kind=kind, metrics=metrics, rest=f"{KINDS[kind]}\n{rest}"))
    return path


def run(model, tasks, out, *extra):
    bench.main([
        "--model_name_or_path", str(model), "--tasks", str(tasks), "--output_dir", str(out), "--dtype", "float32", *extra,
    ])  # fmt: skip
    return read_results(out / "results.json")


@pytest.fixture(scope="module")
def token_text(tiny_folder):
    """A text of so many tokens for the tiny model."""
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(tiny_folder)

    def text(length: int) -> str:
        found = "q" * length  # a letter that no merge has
        assert len(tokenizer(found)["input_ids"]) == length
        return found

    return text


def test_answers_do_not_depend_on_what_shares_their_batch_and_short_room_is_counted(
    tiny_folder, tmp_path, token_text, caplog, capsys
):
    rows = [ROW | {"text": token_text(505)}, ROW, ROW | {"text": "due"}, ROW | {"text": token_text(490)}]
    task = write_task(tmp_path, rows)
    together = run(tiny_folder, task, tmp_path / "together")
    run(tiny_folder, task, tmp_path / "alone", "--batch_size", "1")
    items = [read_items(tmp_path / name / "results.json", together.tasks["made"]) for name in ("together", "alone")]
    assert [item.prediction for item in items[0]] == [item.prediction for item in items[1]]
    assert together.tasks["made"].num_cut == 1
    assert "made: 1 of 4 items leave the answer less than 20 tokens of the context of 512" in caplog.text
    assert "1 of 4 items are longer than the model" in (tmp_path / "together/report.html").read_text()
    assert "made: 1 of 4 items are longer than the model" in (tmp_path / "together/report.md").read_text()


def test_choices_behind_a_prompt_that_is_cut_are_counted(tiny_folder, tmp_path, token_text, caplog):
    fits = [ROW | {"text": token_text(length), "choices": ["q", "r"]} for length in (511, 600)]  # 1 + 511, 1 + 600
    results = run(tiny_folder, write_task(tmp_path, fits, "multiple_choice", "acc"), tmp_path / "out")
    assert results.tasks["made"].num_cut == 1
    assert "made: 1 of 2 items do not fit the context of 512; their beginning is cut" in caplog.text


def test_a_prompt_that_leaves_no_room_is_named_before_any_task_is_asked(tiny_folder, tmp_path, token_text, monkeypatch):
    monkeypatch.setattr("ftkit.evaluation.bench.units.MultipleChoiceRun.run", None)
    first = write_task(tmp_path / "a", [ROW], "multiple_choice", "acc", name="first")
    rows = [ROW, ROW | {"text": token_text(300)}, ROW | {"text": token_text(200)}]
    second = write_task(tmp_path / "b", rows, rest="fewshot_split: train\nnum_fewshot: 2")
    (tmp_path / "b/data").mkdir()
    shutil.move(tmp_path / "b/rows.jsonl", tmp_path / "b/data/test.jsonl")
    examples = [ROW | {"text": token_text(150)}] * 2
    (tmp_path / "b/data/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    flags = ["--task_data", f"made={tmp_path / 'b/data'}"]
    message = (
        r"test.jsonl:2: task made: the prompt has 6\d\d tokens and the model's context only 512 "
        r"\(2 of 3 prompts do not fit\); with 1 examples all do: --num_fewshot 1"
    )
    with pytest.raises(UserError, match=message):
        run(tiny_folder, f"{first},{second}", tmp_path / "out", *flags)
    monkeypatch.undo()
    assert "made" in run(tiny_folder, f"{second}", tmp_path / "out", *flags, "--num_fewshot", "1").tasks
    rows[1]["text"] = token_text(512)
    (tmp_path / "b/data/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="leave those rows out"):
        run(tiny_folder, second, tmp_path / "other", *flags)


def test_a_choice_longer_than_the_context_is_named(tiny_folder, tmp_path, token_text):
    task = write_task(tmp_path, [ROW, ROW | {"choices": ["a", token_text(513)]}], "multiple_choice", "acc")
    with pytest.raises(
        UserError, match="rows.jsonl:2: task made: a choice has 51. tokens and the model's context only 512"
    ):
        run(tiny_folder, task, tmp_path / "out")


@pytest.mark.parametrize(("metrics", "answer"), [("acc, acc_norm", "c"), ("acc_norm, acc", "abab")])
def test_the_answer_shown_is_the_one_that_the_main_metric_scores(tmp_path, metrics, answer):
    from ftkit.evaluation.bench.task_file import load_task
    from ftkit.evaluation.bench.task_items import build_items
    from ftkit.evaluation.bench.units import MultipleChoiceRun

    run_ = object.__new__(MultipleChoiceRun)  # without a model
    run_.task = load_task(str(write_task(tmp_path, [ROW | {"choices": ["abab", "c"]}], "multiple_choice", metrics)))
    item = run_.record(build_items(run_.task)[0], [[-4.0, -3.0]])  # -1 and -3 a character
    assert item.prediction == answer and item.scores == {"acc": 0.0, "acc_norm": 1.0}


def test_weights_that_are_no_numbers_are_refused_by_name(tiny_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="tensor model.norm.weight holds NaN or infinity"):
        run(folder, write_task(tmp_path, [ROW], "perplexity", "perplexity"), tmp_path / "out")


def test_weights_that_were_cut_are_named(tiny_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="model.safetensors: not a readable safetensors file"):
        run(folder, write_task(tmp_path, [ROW]), tmp_path / "out")


def test_other_examples_are_another_run(tiny_folder, tmp_path):
    rest = "fewshot_split: train\nnum_fewshot: 1"
    task = write_task(tmp_path, [], "multiple_choice", "acc", rest)
    data = tmp_path / "data"
    data.mkdir()
    (data / "test.jsonl").write_text(json.dumps(ROW) + "\n")
    found = []
    for number, text in enumerate(("due", "tre")):
        (data / "train.jsonl").write_text(json.dumps(ROW | {"text": text}) + "\n")
        flags = ["--task_data", f"made={data}"]
        found.append(run(tiny_folder, task, tmp_path / str(number), *flags).tasks["made"])
    assert found[0].task_hash == found[1].task_hash and found[0].examples_hash != found[1].examples_hash
    with pytest.raises(UserError, match=r"holds a different benchmark run \(not the same tasks\)"):
        run(tiny_folder, task, tmp_path / "0", *flags)
    assert run(tiny_folder, task, tmp_path / "none", *flags, "--num_fewshot", "0").tasks["made"].examples_hash == ""


def test_texts_that_end_an_answer_bring_no_deprecation_warning(tiny_folder, tmp_path, caplog):
    logger = logging.getLogger("transformers")  # which hands nothing on to the root logger
    transformers.utils.logging.get_logger("transformers.generation.utils").warning_once.cache_clear()
    logger.addHandler(caplog.handler)
    try:
        run(tiny_folder, write_task(tmp_path, [ROW], rest='stop: ["\\n"]'), tmp_path / "out")
    finally:
        logger.removeHandler(caplog.handler)
    assert "deprecated" not in caplog.text


@pytest.mark.parametrize(
    ("kind", "metric"), [("generation", "exact_match"), ("multiple_choice", "acc"), ("perplexity", "perplexity")]
)
def test_the_bare_question_is_recorded(tiny_folder, tmp_path, kind, metric):
    task = write_task(tmp_path, [ROW], kind, metric)
    results = run(tiny_folder, task, tmp_path / "out")
    (item,) = read_items(tmp_path / "out/results.json", results.tasks["made"])
    assert item.extra["question"] == "uno"


@pytest.mark.parametrize("name", ["bench.json", "times.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"a'])
def test_a_broken_file_of_the_run_is_one_line(tiny_folder, tmp_path, name, content):
    task = write_task(tmp_path, [ROW])
    run(tiny_folder, task, tmp_path / "out")
    (tmp_path / "out" / name).write_text(content)
    (tmp_path / "out/results.json").unlink()  # an unfinished one
    with pytest.raises(UserError, match=f"{name}:1: .*; restore it, or choose another --output_dir"):
        run(tiny_folder, task, tmp_path / "out")


@pytest.mark.parametrize("out", ["file", "file/inside", "/dev/null", "/proc/inside"])
def test_a_folder_that_cannot_be_written_is_refused_before_a_model_is_loaded(tiny_folder, tmp_path, out, monkeypatch):
    monkeypatch.setattr("ftkit.evaluation.bench.subject.load_subject", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written|give --output_dir a folder"):
        run(tiny_folder, write_task(tmp_path, [ROW]), tmp_path / out)


def test_tasks_that_would_write_one_file_are_refused(tiny_folder, tmp_path):
    one = write_task(tmp_path, [ROW], name="x-y")
    other = write_task(tmp_path, [ROW | {"part": "y"}], rest="group_by: part", name="x")
    with pytest.raises(UserError, match='"x/y" and "x-y" would both write items/x-y.jsonl; rename one'):
        run(tiny_folder, f"{one},{other}/y", tmp_path / "out")


def test_the_items_of_a_group_are_not_told_as_those_of_the_task(tiny_folder, tmp_path, capsys):
    rows = [ROW | {"part": part} for part in "aab"]
    task = write_task(tmp_path, rows, rest="group_by: part")
    run(tiny_folder, f"{task},", tmp_path / "out")
    lines = [line for line in capsys.readouterr().out.splitlines() if "exact_match" in line]
    assert [line.endswith("3 items") for line in lines] == [True, False, False]


def test_rows_of_this_machine_and_own_tasks_are_no_dataset_of_the_hub(tmp_path, monkeypatch):
    from ftkit.evaluation.bench.bench import choose, hub_dataset
    from ftkit.evaluation.bench.task_file import load_task
    from ftkit.evaluation.bench.task_items import ItemSettings

    mmlu, own = load_task("mmlu"), load_task(str(write_task(tmp_path, [ROW], name="gsm8k")))
    assert hub_dataset(mmlu, None) == "cais/mmlu" and hub_dataset(mmlu, "other/mmlu") == "other/mmlu"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared/mmlu").mkdir(parents=True)
    (tmp_path / "shared/mmlu/test.jsonl").write_text("{}\n")
    assert hub_dataset(mmlu, "shared/mmlu") == "" and hub_dataset(own, "openai/gsm8k") == ""
    assert choose("reasoning", load_task("reasoning"), ItemSettings(limit=1)).data == ""


def test_the_bundled_generation_tasks_fit_the_bundled_base():
    from ftkit.config.assets import bundled_base
    from ftkit.evaluation.bench.task_file import bundled_tasks, load_task
    from ftkit.evaluation.bench.task_items import build_items, plain_prompt
    from ftkit.inference.log_likelihood import encode
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(bundled_base())
    tasks = [
        task
        for task in map(load_task, bundled_tasks())
        if task.kind == "generation" and task.data and "/" not in task.data
    ]
    assert "reasoning" in [task.name for task in tasks]
    for task in tasks:
        lengths = [len(encode(tokenizer, plain_prompt(task, item, item.prompts[0]))) for item in build_items(task)]
        assert max(lengths) + task.max_new_tokens <= 512, task.name


def test_a_finished_benchmark_says_so_and_changes_nothing(tiny_folder, tmp_path, capsys):
    task, out = write_task(tmp_path, [ROW]), tmp_path / "out"
    run(tiny_folder, task, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    scores = capsys.readouterr().out.split("done:")[0]
    run(tiny_folder, task, out)
    printed = capsys.readouterr().out
    assert printed.startswith(scores) and "holds this benchmark already; --overwrite starts over" in printed
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


def test_overwrite_starts_a_benchmark_over_and_leaves_a_persons_files(tiny_folder, tmp_path):
    out = tmp_path / "out"
    run(tiny_folder, write_task(tmp_path, [ROW]), out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"\(not the same tasks\); --overwrite starts over"):
        run(tiny_folder, write_task(tmp_path, [ROW, ROW | {"text": "due", "answer": 1}]), out)
    run(tiny_folder, write_task(tmp_path, [ROW, ROW | {"text": "due", "answer": 1}]), out, "--overwrite")
    assert (out / "notes.txt").is_file()


def test_a_hidden_leftover_is_no_other_run(tiny_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.bench.json.4242").write_text("{}")
    run(tiny_folder, write_task(tmp_path, [ROW]), tmp_path / "out")
