"""`ftkit kto`: every method leaves a run that loads, from labelled answers and from pairs; it resumes bit by bit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ftkit.commands.data.show import main as show
from ftkit.config.errors import UserError
from ftkit.evaluation.verdict.pairing import read_run
from ftkit.kto import main

RUN_FILES = {
    "run.yaml", "receipt.json", "metrics.jsonl", "samples.jsonl", "results.json", "report.html", "loss.png", "golden.json", "README.md",
    "template.lock.json",
}  # fmt: skip
LOGGED = {
    "loss", "kl", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected",
    "lengths/chosen", "lengths/rejected",
}  # fmt: skip


@pytest.fixture(scope="session")
def labelled(tmp_path_factory, word_rows) -> Path:
    """Upper case is wanted and the word as it was is not; sorted by label, a third as many unwanted ones."""
    path = tmp_path_factory.mktemp("labelled") / "labelled.jsonl"
    wanted = [{"prompt": row["input"], "completion": row["output"], "label": "👍"} for row in word_rows]
    unwanted = [{"prompt": row["input"], "completion": row["input"], "label": "👎"} for row in word_rows[::3]]
    path.write_text("".join(json.dumps(row) + "\n" for row in wanted + unwanted))
    return path


@pytest.fixture
def kto(tiny_folder, labelled, tmp_path):
    """Runs `ftkit kto` on the tiny model into a fresh OUT, with further flags; returns OUT."""

    def start(*flags, out="out", data=None) -> Path:
        folder = tmp_path / out
        main([
            "--model_name_or_path", str(tiny_folder), "--dataset_name", str(data or labelled), "--output_dir", str(folder),
            "--template", "plain", "--max_steps", "2", "--logging_steps", "1", "--disable_tqdm", "--bf16", "false",
            "--dtype", "float32", *flags,
        ])  # fmt: skip
        return folder

    return start


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "flags",
    [
        ["--use_peft"],
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["--precompute_ref_log_probs"], marks=pytest.mark.slow),
        pytest.param(["--use_peft", "--load_in_4bit"], marks=pytest.mark.slow),
        pytest.param(["--use_peft", "--loss_type", "apo_zero_unpaired"], marks=pytest.mark.slow),
    ],
    ids=["lora", "full", "full-precomputed", "qlora", "apo"],
)
def test_a_run_leaves_what_the_contract_names_and_learns_the_labels(kto, flags, capsys):
    out = kto(*flags, "--test_size", "16", "--max_steps", "12", "--learning_rate", "2e-3", "--num_samples", "1")
    assert RUN_FILES <= {path.name for path in out.iterdir()}
    before, after = (read_run(path).results.tasks["labelled answers"] for path in (out / "before", out))
    assert before.num_items == after.num_items == 16 and before.task_hash == after.task_hash
    assert after.scores["moved_rightly"].low > 0.5  # of answers it was not trained on
    assert after.scores["signed_logps"].value > before.scores["signed_logps"].value
    training = [record for record in records(out) if "loss" in record]
    assert LOGGED - ({"kl"} if "apo_zero_unpaired" in flags else set()) <= training[-1].keys()
    assert training[0]["rewards/margins"] == pytest.approx(0, abs=1e-4) and training[-1]["rewards/margins"] > 0.01
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["num_wanted"] + receipt["num_unwanted"] == receipt["num_rows"] == 70
    card, page = ((out / name).read_text() for name in ("README.md", "report.html"))
    assert "| undesirable_weight |" in card and "| own |" not in card
    assert "loss of an answer, from 0 to its weight" in card and "half of that is a coin" in page
    said = capsys.readouterr().err
    wanted, unwanted = receipt["num_wanted"], receipt["num_unwanted"]
    weight = f"{wanted / unwanted:.3g}"
    assert f"labels     {wanted} wanted (weight 1), {unwanted} unwanted (weight {weight}); batches of 8 hold" in said
    assert "held-out answers moved the way of their label (16): " in said


def test_pairs_are_made_labels_and_that_is_said(kto, tmp_path, capsys):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps({"prompt": f"p{n}", "chosen": "YES", "rejected": "no"}) + "\n" for n in range(9))
    )
    out = kto("--use_peft", "--max_steps", "1", data=pairs)
    receipt = json.loads((out / "receipt.json").read_text())
    assert (receipt["num_wanted"], receipt["num_unwanted"]) == (9, 9)
    assert (
        "pairs      each is two answers here: the chosen one wanted, the rejected one unwanted"
        in capsys.readouterr().err
    )


def test_resume_ends_as_the_whole_run(kto, unfinish):
    flags = ["--use_peft", "--max_steps", "4", "--save_steps", "2", "--learning_rate", "1e-3"]
    out = kto(*flags)
    losses = [record["loss"] for record in records(out)]
    weights = load_file(out / "adapter_model.safetensors")
    kto(*flags, out=unfinish(out, "checkpoint-4"))
    assert [record["loss"] for record in records(out)] == losses
    resumed = load_file(out / "adapter_model.safetensors")
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


ONE = {"prompt": "a", "completion": "b", "label": True}
MISTAKES = {  # rows, flags, message
    "label": ([ONE, ONE | {"label": 3}], [], 'rows.jsonl:2: "label" must be true or false (or 1 or 0, up or down), got int 3'),
    "empty answer": ([ONE, ONE | {"completion": ""}], [], 'rows.jsonl:2: "completion" is empty'),
    "no label": ([{"prompt": "a", "completion": "b"}], [], "fit no format"),
    "equal pairs": ([{"prompt": "a", "chosen": "b", "rejected": "b"}], [], "chosen and rejected are equal"),
    "batch of one": ([ONE], ["--per_device_train_batch_size", "1"], "give 2 or more, or --loss_type apo_zero_unpaired"),
    "other order": ([ONE], ["--train_sampling_strategy", "random"], "which ftkit mixes by --seed; drop it"),
    "a stream": ([ONE], ["--dataset_streaming", "--max_steps", "2"], "kto mixes wanted and unwanted ones"),
    "beta": ([ONE], ["--beta", "0"], "--beta is 0"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "flags", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(rows, flags, message, kto, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as mistake:
        kto(*flags, data=path)
    assert message in str(mistake.value)


@pytest.mark.parametrize(("label", "said"), [(True, "every answer is wanted"), (False, "every answer is unwanted")])
def test_labels_that_are_all_the_same_are_warned_of(label, said, kto, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(ONE | {"prompt": f"p{n}", "label": label}) + "\n" for n in range(4)))
    kto("--use_peft", "--plan", data=path)
    assert f"warning    {said}, so nothing says what to prefer" in capsys.readouterr().err


def test_an_answer_with_both_labels_is_counted(kto, tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    given = [ONE, ONE | {"label": False}, ONE | {"completion": "c"}, ONE | {"prompt": "b", "label": False}]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    kto("--use_peft", "--plan", data=path)
    assert "1 answer marked both as wanted and as unwanted" in caplog.text


def test_a_labelled_answer_is_shown_as_it_is_trained(labelled, tiny_folder, capsys):
    show([str(labelled), "--model", str(tiny_folder), "--template", "plain", "--row", "65"])
    shown = capsys.readouterr().out
    assert "mask unwanted" in shown and shown.rstrip().endswith("⟦bal<eos>⟧")
