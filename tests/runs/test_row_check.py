"""What `ftkit data check` passes its trainer takes, and what it refuses is what the trainer refuses, in the same words."""

import json
import subprocess
import sys

import pytest

from ftkit.commands.data.data import main
from ftkit.config.errors import UserError
from ftkit.runs.recipe import found
from ftkit.runs.recipes import load_recipe

LONG = "x" * 600  # tokens; the tiny model's context is 512
ANSWERED = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(200)]
PAIRS = [{"prompt": f"Question {number}?", "chosen": "yes", "rejected": "no"} for number in range(200)]
LABELLED = [{"text": f"text {number}", "label": number % 2} for number in range(200)]
CASES = {
    "answers": ("sft", ANSWERED, (), None),
    "two of 202 answers cut": ("sft", ANSWERED + [{"instruction": "a", "output": LONG}] * 2, (), None),
    "three of 203 answers cut": ("sft", ANSWERED + [{"instruction": "a", "output": LONG}] * 3, (), "cuts 3 of 203"),
    "cut answers that are allowed": (
        "sft", ANSWERED + [{"instruction": "a", "output": LONG}] * 3, ("--max_truncated_share", "0.02"), None,
    ),
    "a prompt longer than the context": ("sft", [*ANSWERED, {"instruction": LONG, "output": "a"}], (), "--max_length 512"),
    "rows to drop": (
        "sft", [*ANSWERED, {"instruction": LONG, "output": "a"}], ("--untrained_rows", "drop"), None,
    ),
    "no end token": ("sft", [{"instruction": "a", "output": LONG}], (), "end-of-turn token .*is never trained"),
    "more than the context": ("sft", ANSWERED, ("--max_length", "513"), "more than the model's context of 512"),
    "a limit": ("sft", ANSWERED, ("--max_length", "8"), "no answer token is left"),
    "text": ("sft", [{"text": "one"}, {"text": "two"}], (), None),
    "pairs": ("dpo", PAIRS, (), None),
    "cut pairs": ("dpo", PAIRS + [{"prompt": "a", "chosen": LONG, "rejected": "b"}] * 6, (), "cuts 6 of 412"),
    "equal pairs": ("dpo", PAIRS[:2] + [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 3, (), None),
    "pairs without an answer": ("dpo", [*PAIRS, {"prompt": LONG, "chosen": "b", "rejected": "c"}], (), "no answer token"),
    "labels": ("classify", LABELLED, (), None),
    "long labelled text": ("classify", [*LABELLED, {"text": LONG, "label": 1}], (), None),
    "a negative label": ("classify", [*LABELLED, {"text": "a", "label": -1}], (), ":201: label -1 is out of range"),
    "a huge label": ("classify", [*LABELLED, {"text": "a", "label": 10**30}], (), ":201: label 1000.* is out of range"),
    "names among numbers": ("classify", [*LABELLED, {"text": "a", "label": "spam"}], (), ":201: label \"spam\" is a name"),
    "one class": ("classify", LABELLED[::2], (), "all 100 rows have the label \"0\""),
    "one row": ("classify", LABELLED[:1], (), "this is the only row"),
}  # fmt: skip


def mistake_of(action) -> str:
    """What a UserError says; an empty text without one."""
    try:
        action()
    except UserError as error:
        return str(error)
    return ""


def prepare(command: str, folder, data, flags):
    """What a training does up to the point at which it reads weights."""
    recipe = load_recipe(command)
    given = ["--model_name_or_path", str(folder), "--dataset_name", str(data), "--output_dir", str(data.parent / "out")]
    template = [] if command == "classify" else ["--template", "alpaca"]
    found(recipe.method).prepare(recipe.parse([*given, *template, *flags]))


@pytest.mark.parametrize(("command", "rows", "flags", "message"), CASES.values(), ids=CASES)
def test_the_check_says_what_the_trainer_says(tiny_folder, tmp_path, command, rows, flags, message):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = [] if command == "classify" else ["--template", "alpaca"]
    said = mistake_of(lambda: main(["check", str(data), "--model", str(tiny_folder), *template, *flags]))
    assert said == mistake_of(lambda: prepare(command, tiny_folder, data, flags))
    if message:
        with pytest.raises(UserError, match=message):
            raise UserError(said)
    else:
        assert not said


def test_text_that_fine_tuning_would_cut_is_for_pretraining(tiny_folder, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"text": LONG}) + "\n")
    main(["check", str(data), "--model", str(tiny_folder)])
    refusal = mistake_of(lambda: prepare("sft", tiny_folder, data, ()))
    said = capsys.readouterr().out
    assert f"ftkit sft would refuse them: {refusal}" in said and "next: ftkit pretrain --dataset_name" in said
    data.write_text(json.dumps({"text": "short"}) + "\n")
    main(["check", str(data), "--model", str(tiny_folder)])
    assert "next: ftkit sft or ftkit pretrain --dataset_name" in capsys.readouterr().out


def test_show_cuts_where_training_does(tiny_folder, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"instruction": LONG, "output": "a"}) + "\n")
    flags = ["--model", str(tiny_folder), "--template", "alpaca", "--stage", "mask"]
    assert "no answer token is left after --max_length 512" in mistake_of(lambda: main(["show", str(data), *flags]))


def test_held_out_labels_are_checked_as_well(tiny_folder, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in (("train", LABELLED), ("test", [{"text": "a", "label": 0}, {"text": "b", "label": 2}])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = mistake_of(lambda: main(["check", str(folder)]))
    assert said.endswith('test.jsonl:2: no training row has the label "2"; there are: 0, 1')
    assert said == mistake_of(lambda: prepare("classify", tiny_folder, folder, ()))


def test_a_check_without_a_model_needs_no_torch(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ANSWERED))
    program = (
        "import sys; from ftkit.commands.data.data import main; main(['check', sys.argv[1]]); "
        "sys.exit(bool({'torch', 'transformers', 'trl'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program, str(data)]).returncode == 0


def test_settings_of_a_tokenizer_need_a_model(tmp_path):
    for flags in (["--max_length", "100"], ["--allow_empty_mask"], ["--untrained_rows", "drop"]):
        with pytest.raises(UserError, match=f"{flags[0]} needs --model"):
            main(["check", "rows.jsonl", *flags])
