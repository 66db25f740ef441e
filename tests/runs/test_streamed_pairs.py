"""A stream of pairs trains as it comes and goes on bit for bit; what can't be done on a stream is one line."""

import json

import pytest
from safetensors.torch import load_file

from ftkit.config.errors import UserError

STREAM = (
    "--dataset_streaming",
    "--test_size",
    "4",
    "--max_steps",
    "4",
    "--logging_steps",
    "1",
    "--learning_rate",
    "1e-3",
)
SAVED = ("--save_strategy", "steps", "--save_steps", "2", "--per_device_train_batch_size", "4")


def losses(out) -> list[float]:
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


@pytest.mark.parametrize(
    ("command", "more"),
    [("dpo", ()), pytest.param("dpo", ("--loss_type", "orpo"), marks=pytest.mark.slow), ("reward", ())],
    ids=["dpo", "orpo", "reward"],
)
def test_a_stream_of_pairs_trains_and_goes_on_bit_for_bit(command, more, files, tmp_path, unfinish):
    for name in ("whole", "part"):
        files.run(command, tmp_path / name, *STREAM, *SAVED, *more)
    receipt = json.loads((tmp_path / "whole/receipt.json").read_text())
    assert receipt["run"]["num_rows"] >= 13 and receipt["run"]["num_sequences"] == 2 * 13
    assert (tmp_path / "whole/results.json").is_file()
    unfinish(tmp_path / "part", "checkpoint-4")
    files.run(command, tmp_path / "part", *STREAM, *SAVED, *more)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "part"))
    assert all(one[name].equal(other[name]) for name in one)
    assert losses(tmp_path / "whole") == losses(tmp_path / "part") and losses(tmp_path / "whole")[-1] > 0


REFUSED = {  # trainer, flags, what is said
    "reference kept beforehand": ("dpo", ("--precompute_ref_log_probs",), "scores all rows before training, and --data"),
    "without an end": ("reward", ("--max_steps", "-1"), "--dataset_streaming needs --max_steps"),
    "a share held out": ("reward", ("--test_size", "0.1"), "--test_size 0.1 of a stream"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "more", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_stream_of_pairs_can_not_do_is_one_line(command, more, message, files, tmp_path):
    with pytest.raises(UserError) as refused:
        files.run(command, tmp_path / "out", *STREAM, *more)
    assert message in str(refused.value) and "\n" not in str(refused.value)
