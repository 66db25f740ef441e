"""What held-out answers and text score before and after equals the trainers' own evaluation, and gives a verdict."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftkit.commands.compare import main as compare
from ftkit.config.errors import UserError
from ftkit.evaluation.held_out.likelihoods import MAX_ITEMS, Part, evenly, measure
from ftkit.evaluation.results import read_items, read_results
from ftkit.runs import lifecycle
from ftkit.runs.recipes import load_recipe

QUIET = ("--disable_tqdm", "--bf16", "false", "--dtype", "float32", "--num_samples", "0", "--max_steps", "3")


@pytest.fixture(scope="module")
def data(tmp_path_factory, word_rows) -> Path:
    """Rows of unequal lengths, and texts that fill some blocks; a quarter of each is held out."""
    folder = tmp_path_factory.mktemp("held_out")
    rows = [{"prompt": row["input"], "completion": " ".join([row["output"]] * (1 + number % 3))}
            for number, row in enumerate(word_rows[:32])]  # fmt: skip
    texts = [{"text": f"{row['input']} {row['output']} " * (3 + number % 4)} for number, row in enumerate(word_rows)]
    for name, held in (("sft", rows), ("pretrain", texts)):
        for split, part in (("train", held[::4] + held[1::4] + held[2::4]), ("test", held[3::4])):
            path = folder / name / f"{split}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.fixture(scope="module")
def train(data, tiny_folder):
    def start(command: str, out: Path, *more: str) -> Path:
        model = ["--model_name_or_path", str(tiny_folder), "--learning_rate", "3e-3", *QUIET]
        model += ["--template", "alpaca"] if command == "sft" else ["--block_size", "32"]
        recipe = load_recipe(command)
        argv = ["--dataset_name", str(data / command), "--output_dir", str(out), *model, *more]
        recipe.train(recipe.parse(argv))
        return out

    return start


@pytest.fixture(scope="module")
def full_run(train, tmp_path_factory) -> Path:
    return train("sft", tmp_path_factory.mktemp("full") / "out", "--packing", "false")


def evaluations(out: Path) -> list[dict]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().strip().split("\n")]
    return [record for record in records if "eval_loss" in record]


def test_the_answers_before_and_after_score_as_in_trls_own_evaluation(full_run):
    first, last = evaluations(full_run)
    for name, evaluation in (("before/results.json", first), ("results.json", last)):
        task = read_results(full_run / name).tasks["answers"]
        assert task.main_metric == "answer_loss" and task.num_items == 8
        assert task.scores["answer_loss"].value == pytest.approx(evaluation["eval_loss"], rel=1e-4)
        accuracy = task.scores["token_accuracy"]
        assert accuracy.value == pytest.approx(evaluation["eval_mean_token_accuracy"], abs=1e-4) and accuracy.is_share
    items = read_items(full_run / "results.json", read_results(full_run / "results.json").tasks["answers"])
    assert {len(item.reference.split()) for item in items} == {1, 2, 3} and all(item.prompt for item in items)
    assert len({item.weight for item in items}) > 1  # each counts by its tokens


def test_compare_gives_a_verdict_of_one_run_and_of_two(full_run, train, tmp_path, capsys):
    compare([str(full_run)])
    assert capsys.readouterr().out.startswith("better: better on answers")
    lora = train("sft", tmp_path / "lora", "--use_peft", "--learning_rate", "1e-5")
    said = capsys.readouterr().err
    assert "\n8 held-out rows  " in said and "\nverdict: better: answer loss, nats per token " in said
    compare([str(full_run), str(lora)])
    assert capsys.readouterr().out.startswith("worse: worse on answers")


def test_losses_of_other_tokens_are_not_compared(full_run, train, tmp_path):
    out = train("sft", tmp_path / "chatml", "--template", "chatml", "--add_template_tokens")
    with pytest.raises(UserError, match="task answers: different settings or items"):
        compare([str(full_run), str(out)])


@pytest.mark.parametrize("isolated", ["false", "true"])
def test_blocks_score_as_in_the_evaluation_of_pretraining(train, tmp_path, isolated):
    out = train("pretrain", tmp_path / "out", "--isolate_documents", isolated, "--logging_steps", "1")
    first, last = evaluations(out)
    for name, evaluation in (("before/results.json", first), ("results.json", last)):
        task = read_results(out / name).tasks["text"]
        assert task.num_items == json.loads((out / "receipt.json").read_text())["num_held_out_blocks"]
        for metric, wanted in (("bits_per_byte", "eval_bits_per_byte"), ("loss", "eval_loss")):
            assert task.scores[metric].value == pytest.approx(evaluation[wanted], rel=1e-4)
    assert not task.scores["bits_per_byte"].higher_is_better


def test_without_held_out_rows_or_evaluation_there_is_no_file(data, train, tmp_path):
    alone = train("sft", tmp_path / "alone", "--dataset_name", str(data / "sft" / "train.jsonl"), "--max_steps", "1")
    unwanted = train("sft", tmp_path / "unwanted", "--eval_strategy", "no", "--max_steps", "1")
    assert not [path for out in (alone, unwanted) for path in out.rglob("results.json")]


def test_sharded_weights_are_reported_and_not_measured(monkeypatch, train, tmp_path, capsys):
    monkeypatch.setattr(lifecycle, "is_sharded", lambda trainer: True)
    out = train("sft", tmp_path / "out", "--max_steps", "1")
    assert "no results.json: a held-out row is scored by one process" in capsys.readouterr().err
    assert not list(out.rglob("results.json"))


def test_no_more_than_the_limit_is_measured_evenly_from_all():
    assert [len(evenly(range(count))) for count in (0, 1, 200, 201, 1000)] == [0, 1, 200, 101, 200]
    assert evenly(range(3 * MAX_ITEMS))[-1] == 3 * MAX_ITEMS - 3


def test_broken_weights_are_no_result(monkeypatch):
    from ftkit.evaluation.held_out import likelihoods

    monkeypatch.setattr(likelihoods, "shared", lambda *parts: [likelihoods.TokenScores(float("nan"), 3, 0)])
    run = SimpleNamespace(
        decided=SimpleNamespace(eval_strategy="epoch"), config=SimpleNamespace(per_device_eval_batch_size=8),
        data=SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0)),
    )  # fmt: skip
    with pytest.raises(UserError, match="the held-out loss is nan; the weights or the precision are broken"):
        measure(run, SimpleNamespace(accelerator=None), [Part("a", "", "", [])])
