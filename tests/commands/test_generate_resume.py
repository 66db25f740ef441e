"""`ftkit generate` that was killed goes on: the same file, bit for bit, or one line where something else is asked."""

import json

import pytest

from ftkit.commands import generate
from ftkit.config.parser import run
from ftkit.inference import side_by_side
from ftkit.inference.engine import Engine

DRAWN = ["--temperature", "1.5", "--top_k", "40", "--num_samples", "2", "--batch_size", "4"]  # two prompts at once


@pytest.fixture
def flags(tiny_folder, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("One.\nTwo.\nThree.\nFour.\nFive.\n")
    return [
        "--model_name_or_path", str(tiny_folder), "--template", "alpaca", "--max_new_tokens", "5",
        "--dtype", "float32", "--file", str(prompts),
    ]  # fmt: skip


@pytest.fixture
def killed_at(monkeypatch):
    """Makes the batch with a number end in an interrupt."""
    replies = Engine.replies

    def set_up(number):
        made = []

        def counted(engine, *asked, **batching):
            made.append(asked)
            if len(made) == number:
                raise KeyboardInterrupt
            return replies(engine, *asked, **batching)

        monkeypatch.setattr(Engine, "replies", counted)
        return made

    return set_up


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "answers" in path.name)


def test_a_command_that_was_killed_anywhere_writes_the_same_file_when_it_is_given_again(
    flags, tmp_path, killed_at, capsys
):
    whole, path = tmp_path / "answers-whole.jsonl", tmp_path / "answers.jsonl"
    generate.main([*flags, *DRAWN, "--output_file", str(whole)])
    lines = whole.read_bytes().split(b"\n")
    argv = [*flags, *DRAWN, "--output_file", str(path)]
    for number, num_kept in ((1, 0), (2, 2), (3, 4)):
        killed_at(number)
        assert run(generate.main, argv) == 130
        kept = path.read_bytes() if path.exists() else b""
        assert kept == b"".join(line + b"\n" for line in lines[:num_kept])
        if num_kept:  # a kill in the midst of a batch's lines, and of a line
            path.write_bytes(b"\n".join(lines[: num_kept - 1]) + (b"\n" if num_kept > 1 else b"") + lines[num_kept][:9])
        made = killed_at(None)
        capsys.readouterr()
        assert run(generate.main, argv) == 0
        assert path.read_bytes() == whole.read_bytes() and len(made) == 3 - (num_kept - 1) // 2 * (num_kept > 0)
        printed = capsys.readouterr().err
        assert f"{whole.read_text().count('length')} of 10 answers were cut" in printed  # also those of before
        assert f"5 prompts answered in {path}" in printed
        assert (f"{num_kept - 1} of 5 prompts are answered already" in printed) == (num_kept > 0)
        assert files(tmp_path) == ["answers-whole.jsonl", "answers.jsonl"]
        assert run(generate.main, argv) == 2  # whole: it is never overwritten
        path.unlink()


CHANGED = {
    "temperature": (["--temperature", "0.5"], "--temperature was 1.5, is 0.5"),
    "number of answers": (["--num_samples", "3"], "--num_samples was 2, is 3"),
    "system text": (["--system", "Be brief."], "other questions"),
    "another prompt": (["--prompt", "Six."], "other questions"),
}


def test_another_question_or_setting_does_not_go_on_with_an_unfinished_file(flags, tmp_path, killed_at, capsys):
    path = tmp_path / "answers.jsonl"
    argv = [*flags, *DRAWN, "--output_file", str(path)]
    killed_at(2)
    assert run(generate.main, argv) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    kept = path.read_bytes()
    killed_at(None)
    for more, reason in CHANGED.values():
        assert run(generate.main, [*argv, *more]) == 2
        error = capsys.readouterr().err.strip()
        assert f"{path}: was begun otherwise ({reason}); ask as before, or" in error and "\n" not in error
    assert path.read_bytes() == kept


def test_a_comparison_that_was_killed_goes_on_and_loads_no_model_that_has_answered(
    flags, tiny_folder, tiny_teacher, tmp_path, killed_at, capsys, monkeypatch
):
    monkeypatch.setattr(side_by_side.gc, "collect", lambda: 0)  # a second each time, among all that tests import
    models = ["--compare", f"a={tiny_folder},b={tiny_teacher}"]
    flags = [*flags[2:], *models, "--batch_size", "2"]
    whole, path = tmp_path / "answers-whole.jsonl", tmp_path / "answers.jsonl"
    generate.main([*flags, "--output_file", str(whole)])
    argv = [*flags, "--output_file", str(path)]
    for number, asked in ((2, "ab"), (5, "b")):
        killed_at(number)
        assert run(generate.main, argv) == 130
        capsys.readouterr()
        made = killed_at(None)
        assert run(generate.main, argv) == 0
        assert [line[0] for line in capsys.readouterr().err.split("\n") if " answers (" in line] == list(asked)
        assert path.read_bytes() == whole.read_bytes()
        assert len(made) == 6 - (number - 1)
        assert files(tmp_path) == ["answers-whole.jsonl", "answers.jsonl"]
        path.unlink()


def test_a_question_that_can_not_be_asked_leaves_no_unfinished_file(flags, tmp_path, capsys):
    long, path = tmp_path / "long.txt", tmp_path / "answers.jsonl"
    long.write_text("word " * 400)
    assert run(generate.main, [*flags[:-1], str(long), "--output_file", str(path)]) == 2
    assert files(tmp_path) == []


def test_a_note_of_another_version_is_refused(flags, tmp_path, capsys):
    path = tmp_path / "answers.jsonl"
    path.write_text("{}\n")
    for line, reason in (
        ({"version": 0}, "another version of ftkit wrote it; remove it and answers.jsonl"),
        (
            {"models": 3},
            "answers.jsonl.unfinished:1: no note of an unfinished file (neither what was asked nor a reply)",
        ),
    ):
        (tmp_path / "answers.jsonl.unfinished").write_text(json.dumps(line) + "\n")
        assert run(generate.main, [*flags, "--output_file", str(path)]) == 2
        assert reason in capsys.readouterr().err


def test_a_note_that_was_cut_off_is_written_again(flags, tmp_path, killed_at):
    path, note = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.unfinished"
    note.write_text('{"version": 1, "ask')
    killed_at(2)
    assert run(generate.main, [*flags, *DRAWN, "--output_file", str(path)]) == 130
    assert json.loads(note.read_text())["asked"]["temperature"] == 1.5
