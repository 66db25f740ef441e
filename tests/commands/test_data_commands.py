"""`ftkit data`: what each action prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest

from ftkit.commands.data.data import main
from ftkit.config.errors import UserError
from ftkit.data.reading.reader import read_records

ROWS = [
    {"instruction": f"Question number {number}?", "output": f"Answer {number}.", "id": number} for number in range(40)
]


@pytest.fixture
def rows_file(tmp_path):
    return write(tmp_path / "rows.jsonl", ROWS)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def values(path):
    return [record.values for record in read_records(path)]


def test_an_unknown_action_names_the_nearest():
    with pytest.raises(UserError, match='unknown action "chek"; did you mean "check"\\?; give one of: check, show'):
        main(["chek"])
    with pytest.raises(UserError, match="an action is missing"):
        main([])


def test_help_shows_a_line_for_each_action(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.count("\nftkit data ") == 9


def test_check_tells_what_the_file_is_and_what_to_run_next(rows_file, capsys):
    main(["check", str(rows_file)])
    printed = capsys.readouterr().out
    assert f"{rows_file}: 40 rows, alpaca (instruction, output)" in printed
    assert "columns not used: id" in printed and f"next: ftkit sft --dataset_name {rows_file}" in printed


def test_check_says_a_cause_once_with_its_first_rows_and_their_number(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": ""}] * 25)
    with pytest.raises(UserError) as error:
        main(["check", str(path)])
    others = "(25 rows; also lines 2, 3, 4, 5 and 20 more)"
    assert str(error.value) == f'{path}:1: "text" is empty; fill it in or delete the row {others}'


@pytest.mark.parametrize("label", [-1, 3, 10**30])
def test_check_refuses_the_labels_that_training_refuses(label, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": one} for one in (0, 1, label)])
    with pytest.raises(UserError, match=rf"a\.jsonl:3: label {label} is out of range: 3 classes are numbered 0 to 2"):
        main(["check", str(path)])


def test_check_of_a_folder_reads_all_splits(tmp_path, capsys):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.jsonl", [{"text": "another format"}, {"instruction": "a", "output": None}])
    with pytest.raises(UserError) as error:
        main(["check", str(tmp_path)])
    assert [line.split(":")[1] for line in str(error.value).splitlines()] == ["1", "2"]


def test_check_with_a_model_finds_rows_whose_answer_is_cut_off(tiny_folder, tmp_path, capsys):
    rows = [
        {"instruction": "a", "output": "b"},
        {"instruction": "long " * 200, "output": "b"},
        {"instruction": "x" * 900, "output": "b"},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError) as error:
        main(["check", str(path), "--model", str(tiny_folder), "--template", "alpaca", "--max_length", "200"])
    assert str(error.value).startswith(f"{path}:2: no answer token is left")
    assert str(error.value).endswith("(2 rows; also line 3)")
    main(["check", str(write(tmp_path / "b.jsonl", rows[:1])), "--model", str(tiny_folder), "--template", "alpaca"])
    assert "of which 2 are trained" in capsys.readouterr().out  # "b" and the end token


def test_check_says_which_pairs_are_left_out(tmp_path, capsys):
    pairs = [{"prompt": "a", "chosen": "b", "rejected": answer} for answer in "bcb"]
    path = write(tmp_path / "a.jsonl", pairs)
    main(["check", str(path)])
    assert f"2 pairs have equal answers and are left out in training: {path}:1, {path}:3" in capsys.readouterr().out


def test_a_template_without_a_model_is_refused(rows_file):
    with pytest.raises(UserError, match="--template needs --model"):
        main(["check", str(rows_file), "--template", "alpaca"])


def test_an_unknown_format_names_the_nearest(rows_file):
    with pytest.raises(
        UserError, match='unknown format "preferense"; did you mean "preference"\\?; allowed: auto, preference, kto'
    ):
        main(["check", str(rows_file), "--format", "preferense"])


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("target", ["messages", "prompt_completion", "alpaca", "sharegpt"])
def test_convert_writes_files_that_hold_the_same_conversations(target, suffix, rows_file, tmp_path):
    from ftkit.data.reading.loading import load_rows

    output = tmp_path / f"out.{suffix}"
    main(["convert", str(rows_file), "--to", target, "--output", str(output)])
    found, expected = load_rows(str(output)), load_rows(str(rows_file))
    assert found.format == target
    assert [row["messages"] for row in found.train] == [row["messages"] for row in expected.train]


def test_convert_makes_two_kto_rows_of_a_pair(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    main(["convert", str(path), "--to", "kto", "--output", str(tmp_path / "b.jsonl")])
    prompt = [{"role": "user", "content": "a"}]
    assert values(tmp_path / "b.jsonl") == [
        {"prompt": prompt, "completion": [{"role": "assistant", "content": "b"}], "label": True},
        {"prompt": prompt, "completion": [{"role": "assistant", "content": "c"}], "label": False},
    ]


def test_convert_writes_nothing_if_a_row_does_not_fit(tmp_path):
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")]
    untrained = [turns[0], turns[1] | {"weight": 0}, *turns]
    path = write(tmp_path / "a.jsonl", [{"messages": turns}, {"messages": untrained}])
    output = tmp_path / "b.jsonl"
    with pytest.raises(UserError, match=r"a\.jsonl:2: it holds answers that are not trained, which this format can't"):
        main(["convert", str(path), "--to", "alpaca", "--output", str(output)])
    with pytest.raises(UserError, match="messages rows can't become kto; --to is one of: messages"):
        main(["convert", str(path), "--to", "kto", "--output", str(output)])
    with pytest.raises(
        UserError, match=r'"messages" is a list or an object, which a table can\'t hold; write to \.jsonl'
    ):
        main(["convert", str(path), "--output", str(tmp_path / "b.csv")])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl"]


def test_untrained_answers_are_not_made_trained_ones(tmp_path):
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant")]
    path = write(tmp_path / "a.jsonl", [{"prompt": turns[:3], "completion": turns[3:]}])
    main(["convert", str(path), "--to", "messages", "--output", str(tmp_path / "c.jsonl")])
    assert values(tmp_path / "c.jsonl") == [{"messages": [turns[0], turns[1] | {"weight": 0}, *turns[2:]]}]
    main(["convert", str(path), "--to", "prompt_completion", "--output", str(tmp_path / "b.jsonl")])
    assert values(tmp_path / "b.jsonl") == [{"prompt": turns[:3], "completion": turns[3:]}]


@pytest.mark.parametrize(
    "output, message",
    [("rows.jsonl", "exists already"), ("a.xlsx", "can't write"), ("no/a.csv", "there is no folder")],
)
def test_a_file_that_cannot_be_written_is_refused_before_reading(output, message, rows_file, tmp_path):
    with pytest.raises(UserError, match=message):
        main(["dedup", str(rows_file), "--output", str(tmp_path / output)])


NEAR = [
    {"text": "The quick brown fox jumps over the lazy dog near the river bank today.", "id": 1},
    {"text": "An entirely different sentence about something else.", "id": 2},
    {"text": "the quick brown fox jumps over the lazy dog near the river bank, today", "id": 3},
    {"text": "An  entirely different sentence\nabout something else.", "id": 4},
]


def test_dedup_keeps_the_first_of_exact_and_near_copies_as_it_was(tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", NEAR)
    main(["dedup", str(path), "--output", str(tmp_path / "b.jsonl")])
    assert values(tmp_path / "b.jsonl") == NEAR[:2]
    printed = capsys.readouterr().out
    assert "4 rows; exact copies 1 (25.0%); near ones (similarity from 0.9) 1 (25.0%)" in printed
    main(["dedup", str(path), "--near", "1", "--output", str(tmp_path / "c.jsonl")])
    assert [row["id"] for row in values(tmp_path / "c.jsonl")] == [1, 2, 3]
    with pytest.raises(UserError, match="--near is 2.0; give a similarity"):
        main(["dedup", str(path), "--near", "2", "--output", str(tmp_path / "d.jsonl")])


def test_dedup_by_question_keeps_one_answer(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": answer} for answer in "bc"])
    main(["dedup", str(path), "--by", "question", "--output", str(tmp_path / "b.jsonl")])
    assert values(tmp_path / "b.jsonl") == [{"prompt": "a", "completion": "b"}]


def test_split_keeps_questions_and_groups_together_and_rows_added_later_move_no_others(tmp_path, capsys):
    rows = [{"prompt": f"q {number // 2}", "completion": f"a {number}", "user": number % 7} for number in range(200)]
    path = write(tmp_path / "a.jsonl", rows)
    main(["split", str(path), "--test_size", "0.3", "--output_dir", str(tmp_path / "s")])
    train, test = values(tmp_path / "s/train.jsonl"), values(tmp_path / "s/test.jsonl")
    assert sorted(map(str, train + test)) == sorted(map(str, rows)) and 30 < len(test) < 90
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    more = write(tmp_path / "b.jsonl", rows + [{"prompt": "new", "completion": "b", "user": 1}])
    main(["split", str(more), "--test_size", "0.3", "--output_dir", str(tmp_path / "t")])
    assert [row for row in values(tmp_path / "t/test.jsonl") if row["prompt"] != "new"] == test
    main(["split", str(path), "--group", "user", "--test_size", "0.4", "--output_dir", str(tmp_path / "g")])
    users = [{row["user"] for row in values(tmp_path / f"g/{name}.jsonl")} for name in ("train", "test")]
    assert not users[0] & users[1]
    with pytest.raises(UserError, match='row 1 has no "team", so its group is unknown'):
        main(["split", str(path), "--group", "team", "--output_dir", str(tmp_path / "h")])


def test_split_with_near_keeps_similar_questions_together(tmp_path, capsys):
    base = "please tell me everything that you know about the animal called {} and about its food"
    rows = [
        {"prompt": base.format(name) + end, "completion": "x"} for name in map(str, range(50)) for end in ("", " today")
    ]
    path = write(tmp_path / "a.jsonl", rows)
    main(
        ["split", str(path), "--near", "0.8", "--test_size", "0.5", "--seed", "3", "--output_dir", str(tmp_path / "s")]
    )
    assert "no test question is near a training question" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--test_size", "2"], "--test_size is 2.0"),
        (["--group", "id", "--near", "0.8"], "--near with --group"),
        (["--test_size", "0.0001"], "a side stays empty"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(flags, message, rows_file, tmp_path):
    with pytest.raises(UserError, match=message):
        main(["split", str(rows_file), "--output_dir", str(tmp_path / "s"), *flags])
    (tmp_path / "used").mkdir()
    (tmp_path / "used/a").touch()
    with pytest.raises(UserError, match="the folder is in use"):
        main(["split", str(rows_file), "--output_dir", str(tmp_path / "used")])


def test_leaks_names_copies_same_and_near_questions_and_runs_of_words(tmp_path, capsys):
    long = "which of the many rivers that flow through the old city carries the most water in spring"
    train = write(tmp_path / "train.jsonl", [
        {"prompt": "Hi", "completion": "Yo"}, {"prompt": "2 + 2?", "completion": "4"},
        {"prompt": "x", "completion": f"He asked {long}, and nobody knew."}, {"prompt": "clean", "completion": "row"},
    ])  # fmt: skip
    test = write(tmp_path / "test.jsonl", [
        {"prompt": "Hi", "completion": "Yo"}, {"prompt": "2+2", "completion": "5"}, {"prompt": long, "completion": "y"}, {"prompt": "new question", "completion": "z"},
    ])  # fmt: skip
    main(["leaks", str(train), "--test", str(test), "--output", str(tmp_path / "clean.jsonl")])
    printed = capsys.readouterr().out
    counts = {line[:15].strip(): line[15:31].strip() for line in printed.splitlines() if "%)  " in line}
    assert counts == {
        "copies": "1 (25.0%)", "same questions": "2 (50.0%)", "near questions": "2 (50.0%)", "runs of words": "3 (75.0%)"
    }  # fmt: skip
    assert f"{test}:3 in {train}:3 (100% of its runs)" in printed
    assert values(tmp_path / "clean.jsonl") == [{"prompt": "clean", "completion": "row"}]


def test_stats_counts_lengths_words_and_characters_and_draws(tmp_path, capsys):
    rows = [{"prompt": "ab", "completion": answer} for answer in ("Yes it is", "Yes", "No\u200b é")]
    picture = tmp_path / "a.png"
    main(["stats", str(write(tmp_path / "a.jsonl", rows)), "--output", str(picture)])
    printed = capsys.readouterr().out
    assert "first words of 3 answers, 2 different\n         2 (66.7%)  Yes\n" in printed
    assert "U+200B zero width space" in printed and '"é" U+00E9' in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="can't draw"):
        main(["stats", str(tmp_path / "a.jsonl"), "--output", "a.xlsx"])


def test_show_prints_every_stage_of_a_row(tiny_folder, rows_file, capsys):
    model = ["--model", str(tiny_folder), "--template", "alpaca"]
    printed = {}
    for stage in ("raw", "messages", "rendered", "tokens", "mask", "packed"):
        main(["show", str(rows_file), "--row", "3" if stage != "packed" else "1", "--stage", stage, *model])
        printed[stage] = capsys.readouterr().out
    assert f"{rows_file}:3 raw" in printed["raw"] and '"id": 2' in printed["raw"]
    assert '"role": "user"' in printed["messages"] and '"id"' not in printed["messages"]
    assert "### Instruction:\nQuestion number 2?" in printed["rendered"]
    assert "⟦Answer 2.<eos>⟧" in printed["mask"] and "document 2" in printed["packed"]
    assert "⟦'<eos>'⟧" in printed["tokens"]


def test_show_writes_a_page_that_marks_what_is_trained_and_runs_nothing(tiny_folder, tmp_path):
    path = write(tmp_path / "a.jsonl", [{"instruction": "<script>alert(1)</script>", "output": "<b>"}])
    page = tmp_path / "a.html"
    main(["show", str(path), "--model", str(tiny_folder), "--template", "alpaca", "--html", str(page)])
    text = page.read_text()
    assert "<mark>&lt;b&gt;&lt;eos&gt;</mark>" in text and "<script>" not in text
    assert "marked text is trained" in text
    main(["show", str(path), "--stage", "messages", "--html", str(page)])
    assert "marked text is trained" not in page.read_text()  # nothing is


def test_show_of_a_pair_has_both_answers(tiny_folder, tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "good", "rejected": "bad"}])
    main(["show", str(path), "--model", str(tiny_folder), "--template", "alpaca"])
    printed = capsys.readouterr().out
    assert "mask chosen" in printed and "⟦good<eos>⟧" in printed and "⟦bad<eos>⟧" in printed


def test_what_cannot_be_shown_is_refused(rows_file, tmp_path, tiny_folder):
    with pytest.raises(UserError, match="--stage mask needs --model"):
        main(["show", str(rows_file), "--stage", "mask"])
    with pytest.raises(UserError, match="there is no row 41"):
        main(["show", str(rows_file), "--row", "41"])
    with pytest.raises(UserError, match="--row is 0"):
        main(["show", str(rows_file), "--row", "0"])
    question = write(tmp_path / "q.jsonl", [{"question": "a", "choices": ["b", "c"], "answer": 0}])
    with pytest.raises(UserError, match="rows of this kind are not rendered"):
        main(["show", str(question), "--model", str(tiny_folder)])


def test_a_split_of_a_folder_is_chosen_by_name(tmp_path):
    write(tmp_path / "test.jsonl", ROWS)
    with pytest.raises(UserError, match='no split "train"; it has: test'):
        main(["stats", str(tmp_path)])
    assert Path(tmp_path / "test.jsonl").is_file()
    main(["stats", str(tmp_path), "--split", "test"])


def test_show_pretrain_prints_what_a_block_teaches(tiny_folder, tmp_path, capsys):
    text = tmp_path / "a.txt"
    text.write_text("One two three. " * 20)
    model = ["--model", str(tiny_folder)]
    main(["show", str(text), "--pretrain", "--block_size", "8", "--row", "2", *model])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 8 and "input → target" in printed[0]
    with pytest.raises(UserError, match="fewer than 999 blocks of 8 tokens"):
        main(["show", str(text), "--pretrain", "--block_size", "8", "--row", "999", *model])
    with pytest.raises(UserError, match="--pretrain needs --model"):
        main(["show", str(text), "--pretrain"])
    with pytest.raises(UserError, match="have no stages"):
        main(["show", str(text), "--pretrain", "--stage", "mask", *model])
