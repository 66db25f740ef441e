"""Samples ask held-out rows that the run holds on to, and whose question leaves room for an answer."""

import json

import pytest

from ftkit.sft import main


@pytest.mark.parametrize(
    ("num_tokens", "flags", "asked"),
    [  # the tiny model's context is 512
        pytest.param(600, ("--untrained_rows", "drop"), {"a"}, marks=pytest.mark.slow),
        pytest.param(600, ("--untrained_rows", "keep"), {"a"}, marks=pytest.mark.slow),
        (300, ("--untrained_rows", "drop", "--max_length", "256"), {"a", "x" * 300}),
    ],
)
def test_rows_that_were_dropped_or_leave_no_room_are_not_asked(
    tiny_folder, word_rows, tmp_path, num_tokens, flags, asked
):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    held_out = [
        [{"role": "user", "content": "y" * num_tokens}, talk[1]],  # of which no token is trained
        [*talk, {"role": "user", "content": "x" * num_tokens}, talk[1]],  # of which the first answer is
        talk,
    ]
    train = [
        [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]
        for row in word_rows
    ]
    for split, rows in (("train", train), ("test", held_out)):
        lines = [json.dumps({"messages": messages}) + "\n" for messages in rows]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    main([
        "--model_name_or_path", str(tiny_folder), "--dataset_name", str(tmp_path), "--output_dir", str(tmp_path / "out"),
        "--template", "chatml", "--max_steps", "1", *flags, "--sample_max_new_tokens", "2",
        "--disable_tqdm", "--bf16", "false", "--dtype", "float32",
    ])  # fmt: skip
    samples = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().split("\n")[:-1]]
    assert {sample["prompt"] for sample in samples} == asked
