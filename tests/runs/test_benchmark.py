"""--benchmark_tasks: a training command benchmarks before and after by itself, as `ftkit bench` would."""

import json
import shutil

import pytest

from ftkit import dpo, pretrain, sft
from ftkit.commands import bench
from ftkit.config.errors import UserError
from ftkit.data.templates.templates import install_template
from ftkit.evaluation.results import read_items, read_results
from ftkit.model.loading import load_tokenizer

TASK = """version: 1
about: "upper case"
kind: multiple_choice
metrics: [acc]
data: rows.jsonl
template: {template}
prompt: "Write in upper case.\\n\\n{{{{ input }}}}"
choices: "choices"
answer: "0"
"""


@pytest.fixture
def task_files(tmp_path, word_rows):
    rows = [{"input": row["input"], "choices": [row["output"], row["output"][::-1]]} for row in word_rows[:24]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "plain.yaml").write_text(TASK.format(template="false"))
    (tmp_path / "asked.yaml").write_text(TASK.format(template="true"))
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    return tmp_path


def train(tiny_folder, task_files, *flags) -> None:
    sft.main([
        "--model_name_or_path", str(tiny_folder), "--dataset_name", str(task_files / "train.jsonl"),
        *"--template alpaca --max_steps 3 --learning_rate 1e-2 --eval_strategy no --disable_tqdm --bf16 false".split(),
        "--dtype", "float32", "--output_dir", str(task_files / "out"), *flags,
    ])  # fmt: skip


@pytest.mark.parametrize("method", [[], ["--use_peft", "--lora_r", "4"]], ids=["all weights", "lora"])
def test_before_and_after_are_what_ftkit_bench_says_of_base_and_result(tiny_folder, task_files, method, capsys):
    names = f"{task_files / 'plain.yaml'},{task_files / 'asked.yaml'}"
    train(tiny_folder, task_files, "--benchmark_tasks", names, *method)
    out = task_files / "out"
    assert "plain" in capsys.readouterr().err and (out / "benchmark/verdict.html").is_file()
    assert not (out / "benchmark/before-own-template").exists()  # the base has no template
    model = {
        "before": ["--model_name_or_path", str(tiny_folder), "--template", "alpaca"],
        "after": ["--adapter", str(out)] if method else ["--model_name_or_path", str(out)],
    }
    found = {}
    for name, flags in model.items():
        bench.main([*flags, "--tasks", names, "--dtype", "float32", "--output_dir", str(task_files / name)])
        for task in ("plain", "asked"):
            paths = [folder / "results.json" for folder in (out / "benchmark" / name, task_files / name)]
            items = [read_items(path, read_results(path).tasks[task]) for path in paths]
            found[name, task] = [item.extra["log_likelihoods"] for item in items[0]]
            for one, other in zip(found[name, task], [item.extra["log_likelihoods"] for item in items[1]], strict=True):
                assert one == pytest.approx(other, abs=1e-3)
    assert found["before", "asked"] != found["after", "asked"]


def test_a_base_with_a_template_of_its_own_is_asked_in_that_one_too(tiny_folder, task_files):
    folder = task_files / "chat"
    shutil.copytree(tiny_folder, folder)
    tokenizer = load_tokenizer(folder)
    install_template(tokenizer, "chatml")
    tokenizer.save_pretrained(folder)
    names = f"{task_files / 'plain.yaml'},{task_files / 'asked.yaml'}"
    train(folder, task_files, "--benchmark_tasks", names)
    runs = [read_results(path) for path in sorted((task_files / "out/benchmark").glob("*/results.json"))]
    assert [sorted(run.tasks) for run in runs] == [["asked", "plain"], ["asked", "plain"], ["asked"]]
    assert [run.model["template"] for run in runs] == ["alpaca", "alpaca", "auto"]
    assert len({run.model["template_hash"] for run in runs[1:]}) == 2


def test_rows_of_a_task_are_named_and_recorded(tiny_folder, task_files):
    rows = task_files / "other.jsonl"
    rows.write_text("".join((task_files / "rows.jsonl").read_text().splitlines(keepends=True)[:5]))
    flags = ["--benchmark_tasks", str(task_files / "plain.yaml"), "--benchmark_data", f"plain={rows}"]
    train(tiny_folder, task_files, *flags)
    for name in ("before", "after"):
        results = read_results(task_files / "out/benchmark" / name / "results.json")
        assert (results.settings["task_data"], results.tasks["plain"].num_items) == ({"plain": str(rows)}, 5)


@pytest.mark.parametrize("command", ["dpo", "pretrain"])
def test_preferences_and_pretraining_are_benchmarked_too(tiny_folder, task_files, word_rows, command, capsys):
    pairs = [{"prompt": row["input"], "chosen": row["output"], "rejected": row["input"]} for row in word_rows]
    texts = [{"text": " ".join(row.values())} for row in word_rows * 8]
    rows, method = {"dpo": (pairs, "--template alpaca"), "pretrain": (texts, "--block_size 32")}[command]
    (task_files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main = {"dpo": dpo.main, "pretrain": pretrain.main}[command]
    main([
        "--model_name_or_path", str(tiny_folder), "--dataset_name", str(task_files / "train.jsonl"), *method.split(),
        *"--max_steps 3 --learning_rate 1e-2 --eval_strategy no --disable_tqdm --bf16 false".split(),
        "--output_dir", str(task_files / "out"), "--benchmark_tasks", str(task_files / "plain.yaml"),
    ])  # fmt: skip
    assert (task_files / "out/benchmark/verdict.html").is_file() and "plain" in capsys.readouterr().err
    bench.main([
        "--model_name_or_path", str(task_files / "out"), "--tasks", str(task_files / "plain.yaml"),
        "--dtype", "float32", "--output_dir", str(task_files / "again"),
    ])  # fmt: skip
    found = {}
    for folder in ("out/benchmark/before", "out/benchmark/after", "again"):
        path = task_files / folder / "results.json"
        items = read_items(path, read_results(path).tasks["plain"])
        found[folder] = [value for item in items for value in item.extra["log_likelihoods"]]
    assert found["out/benchmark/after"] == pytest.approx(found["again"], abs=1e-3)
    assert found["out/benchmark/before"] != pytest.approx(found["again"], abs=1e-1)


def test_a_mistyped_task_ends_the_run_before_it_begins(tiny_folder, task_files):
    with pytest.raises(UserError, match='unknown task "knowlege"; did you mean "knowledge"'):
        train(tiny_folder, task_files, "--benchmark_tasks", "knowlege")
    assert not (task_files / "out").exists()


@pytest.mark.slow
def test_a_continued_training_is_benchmarked_again(tiny_folder, task_files):
    flags = ["--benchmark_tasks", str(task_files / "plain.yaml"), "--save_strategy", "steps", "--save_steps", "3"]
    path = task_files / "out/benchmark/after/results.json"
    train(tiny_folder, task_files, *flags)
    first = read_results(path)
    train(tiny_folder, task_files, *flags, "--max_steps", "6", "--allow_changes", "max_steps")
    second = read_results(path)
    assert (first.model["step"], second.model["step"]) == (3, 6)
    assert first.model["weights_hash"] != second.model["weights_hash"] and second.model["load_in_4bit"] is False
    likelihoods = [item.extra["log_likelihoods"] for item in read_items(path, second.tasks["plain"])]
    bench.main([
        "--model_name_or_path", str(task_files / "out"), "--tasks", str(task_files / "plain.yaml"),
        "--dtype", "float32", "--output_dir", str(task_files / "again"),
    ])  # fmt: skip
    again = read_items(task_files / "again/results.json", second.tasks["plain"])
    for one, other in zip(likelihoods, [item.extra["log_likelihoods"] for item in again], strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_run_of_other_weights_is_forgotten_and_its_own_is_not(tmp_path):
    from ftkit.evaluation.bench.bench import forget_other_run, open_folder

    for kept, found in ((True, None), (False, '{"model": {"step": 6}}'), (False, "{")):
        open_folder(tmp_path / "after", {"model": {"step": 3}})
        if found:
            (tmp_path / "after/bench.json").write_text(found)
        forget_other_run(tmp_path / "after", {"model": {"step": 3}})
        assert (tmp_path / "after").exists() == kept
    forget_other_run(tmp_path / "after", {})


def test_pretraining_warns_of_items_that_its_documents_hold(tiny_folder, task_files, capsys):
    words = [json.loads(line)["input"] for line in (task_files / "rows.jsonl").read_text().splitlines()]
    (task_files / "train.jsonl").write_text("".join(json.dumps({"text": word}) + "\n" for word in words * 16))
    pretrain.main([
        "--model_name_or_path", str(tiny_folder), "--dataset_name", str(task_files / "train.jsonl"),
        *"--block_size 16 --max_steps 1 --eval_strategy no --disable_tqdm --bf16 false".split(),
        "--output_dir", str(task_files / "out"), "--benchmark_tasks", str(task_files / "plain.yaml"),
    ])  # fmt: skip
    assert "warning: plain: 24 of 24 items are asked in the training data" in capsys.readouterr().err


def test_the_verdict_warns_of_items_that_were_trained_on(tiny_folder, task_files, capsys):
    rows = [json.loads(line) for line in (task_files / "rows.jsonl").read_text().splitlines()]
    trained = [{"instruction": row["input"], "output": row["choices"][0]} for row in rows]
    (task_files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in trained))
    text = (task_files / "plain.yaml").read_text().replace("Write in upper case.\\n\\n", "")
    (task_files / "plain.yaml").write_text(text)
    train(tiny_folder, task_files, "--benchmark_tasks", str(task_files / "plain.yaml"))
    assert "warning: plain: 24 of 24 items are asked in the training data" in capsys.readouterr().err
    assert "are asked in the training data" in (task_files / "out/benchmark/verdict.html").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--benchmark_limit", "4"], "--benchmark_limit has no effect without --benchmark_tasks"),
        (["--benchmark_data", "plain=x"], "--benchmark_data has no effect without --benchmark_tasks"),
        (["--benchmark_tasks", "knowledge", "--benchmark_limit", "0"], "--benchmark_limit is 0; give 1 or more"),
    ],
)
def test_benchmark_settings_that_do_nothing_are_refused(tiny_folder, task_files, flags, message):
    with pytest.raises(UserError, match=message):
        train(tiny_folder, task_files, *flags)


def test_sharded_weights_are_refused(tiny_folder, task_files):
    from types import SimpleNamespace

    from ftkit.runs.benchmark import check_benchmark

    training = SimpleNamespace(benchmark_tasks="knowledge", fsdp="full_shard")
    with pytest.raises(UserError, match="needs whole weights in each process"):
        check_benchmark(training)
