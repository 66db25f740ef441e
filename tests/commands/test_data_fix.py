"""`ftkit data fix` writes what can be fixed without guessing and lists the rest by file and line."""

import pytest

from ftkit.commands.data.data import main
from ftkit.config.errors import UserError
from ftkit.data.reading.reader import read_records

ROW = '{"instruction": "Où?", "output": "Là."}'
WRITTEN = [{"instruction": "Où?", "output": "Là."}]
TURNS = '{"messages": [{"role": "User", "content": "a"}, {"role": " assistant", "content": "b"}]}'
# The file, its flags, the rows that are written, and what is said of them.
FIXED = [
    ("a.csv", "instruction;output\nOù?;Là.\n;\n", [], WRITTEN, ["separated by semicolons", "1 empty row left out"]),
    ("a.csv", "Question,Answer\nOù?,Là.\n", [], WRITTEN, ["columns read as: instruction=Question, output=Answer"]),
    ("a.csv", "F,A\nOù?,Là.\n", ["--columns", "instruction=F,output=A"], WRITTEN, []),
    ("a.csv", "instruction,output\nOù?,Là.\n".encode("cp1252"), ["--encoding", "cp1252"], WRITTEN, ["cp1252 written as UTF-8"]),
    ("a.jsonl", f"{ROW}\n".encode("utf-16"), [], WRITTEN, ["utf-16 written as UTF-8"]),
    ("a.jsonl", b"\xef\xbb\xbf" + ROW.encode(), [], WRITTEN, ["byte-order mark left out"]),
    ("a.jsonl", f"[{ROW}]", [], WRITTEN, ["records that were spread over lines, each on its own"]),
    ("a.jsonl", '{\n  "instruction": "Où?",\n  "output": "Là."\n}\n', [], WRITTEN, ["records that were spread over lines"]),
    ("a.jsonl", '{"instruction": "2 + 2", "output": 4, "id": 7}', [], [{"instruction": "2 + 2", "output": "4", "id": 7}], ["1 numbers written as text"]),
    ("a.jsonl", TURNS, [], [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], ["2 roles written in small letters"]),
    ("a.jsonl", '{"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}, {"from": "gpt", "value": "c"}]}', ["--join_turns"],
     [{"conversations": [{"from": "human", "value": "a\n\nb"}, {"from": "gpt", "value": "c"}]}], ["1 turns of the user joined to the one before"]),
]  # fmt: skip


@pytest.mark.parametrize("name, content, flags, rows, said", FIXED)
def test_what_has_one_meaning_is_fixed_and_said(name, content, flags, rows, said, tmp_path, capsys):
    path, output = tmp_path / name, tmp_path / "out.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    main(["fix", str(path), *flags, "--output", str(output)])
    printed = capsys.readouterr().out
    assert [record.values for record in read_records(output)] == rows
    assert all(line in printed for line in said) and f"next: ftkit data check {output}" in printed


def test_what_is_left_is_listed_and_not_written(tmp_path, capsys):
    path, output = tmp_path / "a.csv", tmp_path / "out.jsonl"
    path.write_text("instruction;output\na;b\nc;\nd;\n")
    with pytest.raises(UserError) as error:
        main(["fix", str(path), "--output", str(output)])
    assert str(error.value) == f'{path}:3: "output" is empty; fill it in or delete the row (2 rows; also line 4)'
    assert "2 rows are left to you, and not written" in capsys.readouterr().out
    assert len(read_records(output)) == 1


def test_a_file_without_a_good_row_leaves_no_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("instruction;output\na;\n")
    with pytest.raises(UserError, match='"output" is empty'):
        main(["fix", str(path), "--output", str(tmp_path / "out.jsonl")])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv"]
