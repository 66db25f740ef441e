"""Every malformed file gives exactly one line with its place, whatever command reads it, and never a traceback.

In STRUCTURE, ROW stands for a good row of the command's kind as one JSON object, HEAD and CELLS for the same in a
table; so every command is given a file that has this one mistake. The other lists hold rows of one kind.
"""

import json
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

from ftkit import classify, dpo, sft
from ftkit.commands.data import data
from ftkit.config.parser import run

ROWS = {
    "check": {"instruction": "Say hi.", "output": "hi"},
    "sft": {"instruction": "Say hi.", "output": "hi"},
    "dpo": {"instruction": "Say hi.", "chosen": "hi", "rejected": "ho"},
    "classify": {"text": "Say hi.", "label": "hi"},
}
DEEP = "[" * 100_000

STRUCTURE = [
    ("empty file", "a.jsonl", "", ": the file is empty; add at least one row"),
    ("white space only", "a.jsonl", " \n\n\t\n", ": the file is empty; add at least one row"),
    ("byte-order mark only", "a.json", b"\xef\xbb\xbf", ": the file is empty; add at least one row"),
    ("empty array", "a.json", "[]", ": the file has no rows; add at least one"),
    ("header only", "a.csv", "HEAD\n", ": the file has no rows; add at least one"),
    ("empty table", "a.tsv", "", ": the file is empty; add at least one row"),
    ("blank text", "a.txt", "\n \n", ": the file is empty; add at least one row"),
    ("unknown kind of file", "a.doc", "x", ': unknown file type ".doc"; use one of .jsonl, .json, .csv, .tsv, .xlsx, .parquet, .txt'),
    ("no spreadsheet", "a.xlsx", "x", ": not a readable .xlsx file (File is not a zip file); save it again"),
    ("UTF-16 without its mark", "a.jsonl", "ROW\n".encode("utf-16-le"), ":1: seems to be UTF-16 without a byte-order mark; give --encoding utf-16-le"),
    ("UTF-16 that is cut", "a.csv", b"\xfe\xff\x00a\x00", ":1: not utf-16-be (byte 0x00, the file's number 5); give the right --encoding, or save it as UTF-8"),
    ("Latin-1 in jsonl", "a.jsonl", b'ROW\n{"text": "na\xefve"}\nROW\n', ":2: not UTF-8 (byte 0xef at column 13); give --encoding cp1252 if it stands for \"ï\", or save the file as UTF-8"),
    ("Latin-1 in json", "a.json", b'[ROW,\n{"a": 1,\n "text": "na\xefve"}]', ":2: not UTF-8 (byte 0xef at line 3 column 13); give --encoding cp1252 if it stands for \"ï\", or save the file as UTF-8"),
    ("Latin-1 late in a line of json", "a.json", b'[{"a": 1, "b": NaN}, {"text": "na\xefve"}]', ":1: NaN is not JSON; write a number, null or a string\n{path}:1: not UTF-8 (byte 0xef at column 34); give --encoding cp1252 if it stands for \"ï\", or save the file as UTF-8"),
    ("Latin-1 in csv", "a.csv", b'HEAD\nCELLS\nna\xefve,b\n', ":3: not UTF-8 (byte 0xef at line 3 column 3); give --encoding cp1252 if it stands for \"ï\", or save the file as UTF-8"),
    ("Latin-1 in the second line of a csv row", "a.csv", b'HEAD\n"one\ntw\xf6",b\n', ":2: not UTF-8 (byte 0xf6 at line 3 column 3); give --encoding cp1252 if it stands for \"ö\", or save the file as UTF-8"),
    ("cut in the middle of a letter", "a.jsonl", 'ROW\n{"text": "ü'.encode()[:-1], ":2: not UTF-8 (byte 0xc3 at column 11); save the file as UTF-8"),
    ("Latin-1 outside of strings", "a.json", b'[ROW,\n\xe9]', ':2: not UTF-8 (byte 0xe9 at column 1); give --encoding cp1252 if it stands for "é", or save the file as UTF-8'),
    ("NUL in jsonl", "a.jsonl", 'ROW\n{"text": "a\0b"}\n', ":2: a NUL character at column 12; delete it"),
    ("NUL in json", "a.json", '[ROW,\n{"text":\n"a\0b"}]', ":2: a NUL character at line 3 column 3; delete it"),
    ("NUL in csv", "a.csv", 'HEAD\nCELLS\na\0b,c\n', ":3: a NUL character at line 3 column 2; delete it"),
    ("a block of NULs at the end", "a.jsonl", "ROW\n" + "\0" * 100, ":2: a NUL character at column 1; delete it"),
    ("half a surrogate pair", "a.jsonl", 'ROW\n{"text": "\\ud83d"}\n', ":2: half of a surrogate pair, such as \\ud83d; write the whole character"),
    ("half a surrogate pair in json", "a.json", '[ROW,\n\n{"text": "\\ud83d"}]', ":3: half of a surrogate pair, such as \\ud83d; write the whole character"),
    ("half a surrogate pair in a key", "a.jsonl", 'ROW\n{"\\udc00": 1}\n', ":2: half of a surrogate pair, such as \\ud83d; write the whole character"),
    ("no colon", "a.jsonl", 'ROW\n{"a" 1}\nROW\n', ":2: bad JSON at column 6 (Expecting ':' delimiter); fix the line"),
    ("single quotes", "a.jsonl", "ROW\n{'a': 1}\nROW\n", ":2: bad JSON at column 2 (Expecting property name enclosed in double quotes); fix the line"),
    ("a comma too many", "a.jsonl", 'ROW\n{"a": 1,}\nROW\n', ":2: bad JSON at column 8 (a comma before the }); fix the line"),
    ("a raw tab in a string", "a.jsonl", 'ROW\n{"a": "x\ty"}\nROW\n', ":2: bad JSON at column 9 (Invalid control character); fix the line"),
    ("a bad escape", "a.jsonl", 'ROW\n{"a": "\\x41"}\nROW\n', ":2: bad JSON at column 8 (Invalid \\escape); fix the line"),
    ("a Python literal", "a.jsonl", 'ROW\n{"a": True}\nROW\n', ":2: bad JSON at column 7 (Expecting value); fix the line"),
    ("a comment", "a.jsonl", '// rows\nROW\n', ":1: bad JSON at column 1 (Expecting value); fix the line"),
    ("a huge number", "a.jsonl", 'ROW\n{"a": ' + "1" * 5000 + "}\n", ":2: bad JSON at column 1 (a number of too many digits); fix the line"),
    ("last line cut in a string", "a.jsonl", 'ROW\n{"text": "half', ":2: the last line is cut off; restore it or delete it"),
    ("last line cut in a literal", "a.jsonl", 'ROW\n{"a": tr', ":2: the last line is cut off; restore it or delete it"),
    ("last line cut behind a value", "a.jsonl", 'ROW\n{"a": 1', ":2: the last line is cut off; restore it or delete it"),
    ("a record over two lines", "a.jsonl", '{\n"a": 1}\n', ":1: a record must fit on one line; rename the file to .json"),
    ("an array in jsonl", "a.jsonl", '[\nROW\n]\n', ":1: a record must fit on one line; rename the file to .json"),
    ("two records on one line", "a.jsonl", '{"a": 1} {"a": 2}\n', ":1: more text after the record, at column 9; put one record on each line"),
    ("a comma behind a record", "a.jsonl", 'ROW\n{"a": 1},\n', ":2: more text after the record, at column 9; put one record on each line"),
    ("a key twice", "a.jsonl", 'ROW\n{"a": 1, "a": 2}\n', ':2: key "a" appears twice; keep one'),
    ("a key twice in a nested object", "a.json", '[ROW,\n{"a":\n{"b": 1, "b": 2}}]', ':2: key "b" appears twice; keep one'),
    ("NaN", "a.jsonl", 'ROW\n{"a": NaN}\n', ":2: NaN is not JSON; write a number, null or a string"),
    ("Infinity", "a.json", '[ROW, {"a": [-Infinity]}]', ":1: -Infinity is not JSON; write a number, null or a string"),
    ("an array for a row", "a.jsonl", "ROW\n[1]\n", ':2: expected an object, got an array; write {"column": value, ...}'),
    ("a string for a row", "a.jsonl", 'ROW\n"a"\n', ':2: expected an object, got a string; write {"column": value, ...}'),
    ("null for a row", "a.json", "[ROW,\nnull]", ':2: expected an object, got null; write {"column": value, ...}'),
    ("a number for a row", "a.json", "[1]", ':1: expected an object, got a number; write {"column": value, ...}'),
    ("true for a file", "a.json", "true", ':1: expected an object, got true or false; write {"column": value, ...}'),
    ("nested too deeply", "a.jsonl", 'ROW\n{"a": ' + DEEP + "\n", ":2: values are nested too deeply; flatten the record"),
    ("nested too deeply in json", "a.json", '[ROW,\n{"a": ' + DEEP, ":2: values are nested too deeply; flatten the record"),
    ("bad JSON in an array", "a.json", '[ROW,\n{"a":\n"b"!}]', ":2: bad JSON at line 3 column 4 (Expecting ',' delimiter); fix the record"),
    ("bad JSON in a wrapped list", "a.json", '{"data": [ROW,\n{"a" 1}]}', ":2: bad JSON at column 6 (Expecting ':' delimiter); fix the record"),
    ("an array that is cut off in a record", "a.json", '[ROW,\n{"a":\n"x', ":2: the file is cut off in this record; restore it or delete the record"),
    ("an array that is not closed", "a.json", '[ROW\n', ':2: the file is cut off: the array has no closing "]"; restore the end of the file'),
    ("an array that ends with a comma", "a.json", '[ROW,\n', ':2: the file is cut off: the array has no closing "]"; restore the end of the file'),
    ("a wrapped list that is not closed", "a.json", '{"data": [ROW]\n', ':2: the file is cut off: the object has no closing "}"; restore the end of the file'),
    ("no comma in an array", "a.json", "[ROW\nROW]", ':2: bad JSON: expected "," or "]" after a record; fix the file'),
    ("a comma before the bracket", "a.json", "[ROW,\n]", ':2: bad JSON: a comma before "]"; delete the comma'),
    ("two arrays", "a.json", "[ROW]\n[ROW]", ":2: more text after the array; keep one array in the file"),
    ("commas without brackets", "a.json", "ROW,\nROW", ':1: records are separated by commas but not inside "[ ]"; add the brackets'),
    ("a field too many", "a.csv", 'HEAD\nCELLS\nCELLS,more\n', None),
    ("a field too few", "a.csv", 'HEAD\nCELLS\na\nCELLS\n', None),
    ("a quote inside quotes", "a.csv", 'HEAD\nCELLS\n"a "b" c",d\n', """:3: bad CSV (',' expected after '"'); in the row that starts here, write a quote inside a quoted field as \"\""""),
    ("quotes that are not closed", "a.csv", 'HEAD\nCELLS\n"a\nb,c\n', ":3: bad CSV (unexpected end of data); close the quotes of the row that starts here"),
    ("a column twice", "a.csv", "a,b,a\n1,2,3\n", ':1: column "a" appears twice; rename one'),
    ("a column without a name", "a.csv", "a,,b\n1,2,3\n", ":1: column 2 has no name; name it in the header"),
    ("no parquet", "a.parquet", "no parquet at all", ": not a readable parquet file (Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file.); write it again"),
]  # fmt: skip


def messages(*turns):
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]})


GOOD = messages(("user", "a"), ("assistant", "b"))
CONVERSATIONS = [
    ("misspelt key", '{"prompt": "a", "complet1on": "b"}', ':1: unknown key "complet1on"; did you mean "completion"?'),
    ("misspelt key in a later row", '{"text": "a"}\n{"txt": "a"}', ':2: unknown key "txt"; did you mean "text"?'),
    ("misspelt optional key", '{"instruction": "a", "inputs": "x", "output": "b"}', ':1: unknown key "inputs"; did you mean "input"?'),
    ("a key that is missing later", '{"instruction": "a", "output": "b"}\n{"instruction": "a"}', ':2: key "output" is missing (format alpaca); add it'),
    ("mixed formats", GOOD + '\n{"text": "a"}', ":2: this row is text, but line 1 is messages; keep one format in a file"),
    ("null field", '{"instruction": "a", "output": null}', ':1: "output" is null; fill it in or delete the row'),
    ("empty answer", '{"instruction": "a", "output": ""}', ':1: "output" is empty; fill it in or delete the row'),
    ("blank answer", '{"prompt": "a", "completion": " \\n"}', ':1: "completion" is empty; fill it in or delete the row'),
    ("empty prompt", '{"prompt": "", "completion": "b"}', ':1: "prompt" is empty; fill it in or delete the row'),
    ("number for text", '{"instruction": "a", "output": 7}', ':1: "output" must be a string, got int; put it in quotes'),
    ("list for text", '{"text": ["a"]}', ':1: "text" must be a string, got list; put it in quotes'),
    ("escaped NUL", '{"text": "a\\u0000b"}', ':1: "text" holds a NUL character; delete it'),
    ("string and list", '{"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}', ":1: prompt and completion must both be strings or both be lists of messages; change one"),
    ("completion of the user", '{"prompt": [{"role": "system", "content": "s"}], "completion": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}', ":1: a completion starts with an assistant turn; move other turns to the prompt"),
    ("turns as text", '{"messages": "hi"}', ':1: "messages" must be a list of turns, got str; write [{...}, ...]'),
    ("null for turns", '{"messages": null}', ':1: "messages" is null; fill it in or delete the row'),
    ("no turns", '{"messages": []}', ":1: no assistant turn, so nothing to train on; add the answer or delete the row"),
    ("a turn that is text", '{"messages": ["hi"]}', ':1: turn 1 must be an object, got str; write {"role": ..., "content": ...}'),
    ("unknown role", messages(("user", "a"), ("asistant", "b")), ':1: turn 2: unknown role "asistant"; did you mean "assistant"?'),
    ("no assistant turn", GOOD + "\n" + messages(("system", "s"), ("user", "a")), ":2: no assistant turn, so nothing to train on; add the answer or delete the row"),
    ("assistant first", messages(("assistant", "a"), ("user", "b")), ":1: turn 1: an assistant turn comes first; put a user turn before it"),
    ("two user turns", messages(("user", "a"), ("user", "b"), ("assistant", "c")), ":1: turn 2: two user turns in a row; merge them, or give --join_turns"),
    ("late system turn", messages(("user", "a"), ("assistant", "b"), ("system", "c")), ":1: turn 3: a system turn after assistant; the system turn comes first"),
    ("null content", messages(("user", "a"), ("assistant", None)), ':1: turn 2: "content" is null; fill it in or delete the row'),
    ("empty turn", messages(("user", "a"), ("assistant", "")), ':1: turn 2: "content" is empty; fill it in or delete the row'),
    ("misspelt key in a turn", '{"messages": [{"role": "user", "contents": "a"}]}', ':1: turn 1: unknown key "contents"; did you mean "content"?'),
    ("an image", '{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', ":1: turn 1: only text content is supported; remove the other parts"),
    ("sharegpt role", '{"conversations": [{"from": "bard", "value": "a"}]}', ':1: turn 1: unknown role "bard"; allowed: human, gpt, chatgpt, system, user, assistant, tool'),
    ("tool turn", messages(("user", "a"), ("tool", "b"), ("assistant", "c")), ":1: turn 2: a tool turn comes right after user; put the answer with its call before it"),
    ("tool calls", '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [{}]}]}', ":1: turn 2: tool_calls: the name of a function has 1 to 64 letters, digits, _, . or -; rename it"),
    ("tools column", '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [{"name": "f g"}]}', ':1: "tools": the name of a function has 1 to 64 letters, digits, _, . or -; rename it'),
]  # fmt: skip

PREFERENCES = [
    ("chosen equal to rejected", '{"prompt": "a", "chosen": "b", "rejected": "b"}', ":1: chosen and rejected are equal, here and in every other row; let them differ"),
    ("null answer", '{"instruction": "a", "chosen": "b", "rejected": null}', ':1: "rejected" is null; fill it in or delete the row'),
    ("empty answer", '{"prompt": "a", "chosen": "", "rejected": "b"}', ':1: "chosen" is empty; fill it in or delete the row'),
    ("misspelt key", '{"prompt": "a", "chosen": "b", "rejectd": "c"}', ':1: unknown key "rejectd"; did you mean "rejected"?'),
    ("misspelt prompt", '{"promt": "a", "chosen": "b", "rejected": "c"}', ':1: unknown key "promt"; did you mean "prompt"?'),
    ("answer of two turns", '{"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "rejected": "d"}', ":1: chosen has 2 turns; give one, and move the others to the prompt"),
    ("conversations that part early", json.dumps({"chosen": json.loads(GOOD)["messages"], "rejected": json.loads(messages(("user", "x"), ("assistant", "c")))["messages"]}), ":1: chosen and rejected part before their last turn; give both the same conversation up to there"),
    ("ends with the user", json.dumps({"chosen": json.loads(messages(("user", "a"), ("assistant", "b"), ("user", "c")))["messages"], "rejected": json.loads(GOOD)["messages"]}), ":1: chosen ends with a user turn; end it with the assistant's"),
    ("strings without a prompt", '{"chosen": "a", "rejected": "b"}', ':1: chosen: "chosen" must be a list of turns, got str; write [{...}, ...]'),
]  # fmt: skip

OTHER_KINDS = [
    ("kto label of the wrong type", '{"prompt": "a", "completion": "b", "label": 4}', ':1: "label" must be true or false (or 1 or 0, up or down), got int 4; say whether the answer is wanted'),
    ("kto label null", '{"prompt": "a", "completion": "b", "label": true}\n{"prompt": "a", "completion": "b", "label": null}', ':2: "label" must be true or false (or 1 or 0, up or down), got null; say whether the answer is wanted'),
    ("answer out of range", '{"question": "a", "choices": ["b", "c"], "answer": 2}', ':1: "answer" is 2; give a number from 0 to 1, a letter from A to B, or a choice'),
    ("answer of another type", '{"question": "a", "choices": ["b", "c"], "answer": true}', ':1: "answer" is True; give a number from 0 to 1, a letter from A to B, or a choice'),
    ("answer as an unknown letter", '{"question": "a", "choices": ["b", "c"], "answer": "C"}', ":1: \"answer\" is 'C'; give a number from 0 to 1, a letter from A to B, or a choice"),
    ("one choice", '{"question": "a", "choices": ["b"], "answer": 0}', ":1: a question has 2 to 10 choices, got 1; give as many"),
    ("a choice twice", '{"question": "a", "choices": ["b", "b"], "answer": 0}', ':1: the choice "b" appears twice; let them differ'),
    ("choices as text", '{"question": "a", "choices": "b, c", "answer": 0}', ':1: "choices" must be a list, got str; write ["...", "..."]'),
    ("null choice", '{"question": "a", "choices": ["b", null], "answer": 0}', ':1: "choice 1" is null; fill it in or delete the row'),
    ("no format", '{"a": 1}', ":1: the columns a fit no format; say which is which, such as --columns text=a"),
]  # fmt: skip

# Before a model is looked for, the rows are read; its name must never come up.
COMMANDS = {
    "check": (data.main, lambda path: ["check", path]),
    "sft": (sft.main, lambda path: ["--dataset_name", path, "--model_name_or_path", "nosuch", "--output_dir", "nosuch"]),
    "dpo": (dpo.main, lambda path: ["--dataset_name", path, "--model_name_or_path", "nosuch", "--output_dir", "nosuch"]),
    "classify": (classify.main, lambda path: ["--dataset_name", path, "--model_name_or_path", "nosuch", "--output_dir", "nosuch"]),
}  # fmt: skip


def ids(cases):
    return [case[0] for case in cases]


def filled(content, command):
    """The content of a case with good rows of the command's kind in it."""
    row = ROWS[command]
    parts = {"ROW": json.dumps(row), "HEAD": ",".join(row), "CELLS": ",".join(row.values())}
    for name, text in parts.items():
        content = (
            content.replace(name.encode(), text.encode()) if isinstance(content, bytes) else content.replace(name, text)
        )
    return content if isinstance(content, bytes) else content.encode()


def errors_of(command, path, capsys):
    main, argv = COMMANDS[command]
    assert run(main, argv(str(path))) == 2
    return capsys.readouterr().err.rstrip("\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", STRUCTURE, ids=ids(STRUCTURE))
def test_a_broken_file_is_one_line_in_every_command(case, command, tmp_path, capsys):
    name, file, content, expected = case
    path = tmp_path / file
    content = filled(content, command)
    path.write_bytes(content)
    if expected is None:
        width = len(ROWS[command])
        expected = {
            "a field too many": f":3: {width + 1} fields, but there are {width} columns; quote a field that holds a comma",
            "a field too few": f":3: 1 field, but there are {width} columns; add the missing fields",
        }[name]
    assert errors_of(command, path, capsys) == f"{path}{expected}".replace("{path}", str(path))


@pytest.mark.parametrize("command", ["check", "sft"])
@pytest.mark.parametrize("case", CONVERSATIONS, ids=ids(CONVERSATIONS))
def test_a_bad_conversation_is_one_line(case, command, tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(case[1] + "\n")
    assert errors_of(command, path, capsys) == f"{path}{case[2]}"


@pytest.mark.parametrize("command", ["check", "dpo"])
@pytest.mark.parametrize("case", PREFERENCES, ids=ids(PREFERENCES))
def test_a_bad_preference_is_one_line(case, command, tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(case[1] + "\n")
    assert errors_of(command, path, capsys) == f"{path}{case[2]}"


@pytest.mark.parametrize("case", OTHER_KINDS, ids=ids(OTHER_KINDS))
def test_a_bad_row_of_another_kind_is_one_line(case, tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(case[1] + "\n")
    assert errors_of("check", path, capsys) == f"{path}{case[2]}"


def parquet_bytes(path, table):
    pyarrow.parquet.write_table(table, path)
    return path.read_bytes()


def bad_utf8():
    """A column of text whose second row holds a byte that is no UTF-8, which pyarrow writes unseen."""
    offsets, data = pyarrow.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0])), pyarrow.py_buffer(b"okna\xef")
    column = pyarrow.StringArray.from_buffers(2, offsets, data)
    return pyarrow.table({"instruction": column, "output": ["a", "b"]})


PARQUET = [
    ("null", pyarrow.table({"instruction": ["a", "b"], "output": ["c", None]}), ':2: "output" is null; fill it in or delete the row'),
    ("numbers", pyarrow.table({"text": [1, 2]}), ':1: "text" must be a string, got int; put it in quotes (2 rows; also line 2)'),
    ("bytes", pyarrow.table({"text": [b"a"]}), ':1: "text" must be a string, got bytes; put it in quotes'),
    ("no UTF-8", bad_utf8(), ":2: not UTF-8 (byte 0xef); write the text as UTF-8"),
    ("misspelt column", pyarrow.table({"txet": ["a"]}), ':1: unknown key "txet"; did you mean "text"?'),
    ("no rows", pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), ": the file has no rows; add at least one"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["check", "sft"])
@pytest.mark.parametrize("case", PARQUET, ids=ids(PARQUET))
def test_a_bad_parquet_row_is_one_line(case, command, tmp_path, capsys):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(case[1], path)
    assert errors_of(command, path, capsys) == f"{path}{case[2]}".replace("{path}", str(path))


def test_a_cut_off_parquet_file_is_one_line(tmp_path, capsys):
    path = tmp_path / "a.parquet"
    content = parquet_bytes(path, pyarrow.table({"text": ["a"] * 1000}))
    path.write_bytes(content[:-20])
    assert errors_of("check", path, capsys).startswith(f"{path}: not a readable parquet file (")


def test_there_are_at_least_sixty_malformed_files():
    assert len(STRUCTURE) >= 60


def test_a_line_of_ten_megabytes_is_read_like_any_other(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "word " * 2_000_000}) + '\n{"text": null}\n')
    assert errors_of("check", path, capsys) == f'{path}:2: "text" is null; fill it in or delete the row'


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt"])
def test_a_mark_and_windows_line_ends_are_no_mistake(name, tmp_path, capsys):
    rows = {
        ".jsonl": '{"text": "a"}\r\n\r\n{"text": ""}\r\n',
        ".json": '[{"text": "a"},\r\n\r\n{"text": ""}]',
        ".csv": 'text,id\r\na,1\r\n\r\n"",2\r\n',
        ".tsv": 'text\tid\r\na\t1\r\n\r\n""\t2\r\n',
        ".txt": "a\r\n\r\n\0",
    }
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + rows[path.suffix].encode())
    line = 4 if path.suffix in (".csv", ".tsv") else 3
    expected = (
        "a NUL character at column 1; delete it" if name == "a.txt" else '"text" is empty; fill it in or delete the row'
    )
    assert errors_of("check", path, capsys) == f"{path}:{line}: {expected}"


def test_all_mistakes_of_a_file_are_listed_in_order_whatever_their_kind(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"instruction": "a", "output": ""}\n{"a" 1}\n{"instruction": "\xff", "output": "b"}\n{"text": "x"}\n{"instruction": "a", "output": "b"}\n'
    )
    printed = errors_of("sft", path, capsys).splitlines()
    assert [line.removeprefix(f"{path}:").split(":")[0] for line in printed] == ["1", "2", "3", "4"]
    assert printed[3].endswith("this row is text, but line 1 is alpaca; keep one format in a file")


def test_rows_are_refused_before_torch_is_imported(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": null}\n{"prompt": "a"}\n')
    argv = ["--dataset_name", str(path), "--model_name_or_path", "nosuch", "--output_dir", str(tmp_path / "out")]
    command = [sys.executable, "-X", "importtime", "-m", "ftkit", "dpo", *argv]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and f'{path}:1: "rejected" is null' in done.stderr and f"{path}:2: " in done.stderr
    assert not any(f"| {name}\n" in done.stderr for name in ("torch", "transformers", "trl", "datasets"))
