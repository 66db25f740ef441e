"""Files as people have them: other names, separators, encodings, spreadsheets and shards become the same rows."""

import csv
import datetime
import logging

import openpyxl
import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.loading import load_rows
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.reading.reader import read_records
from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.rows.kinds import LABELLED, PREFERENCES, UNLABELLED
from ftkit.data.rows.questions import read_questions
from ftkit.evaluation.judge.answer_files import read_answers
from ftkit.runs.recipes import load_recipe
from ftkit.training.preparation import read_rows

KINDS = {"sft": CONVERSATIONS, "classify": LABELLED, "dpo": PREFERENCES, "predict": UNLABELLED}
CAFÉ = [{"instruction": "Où?", "output": "Au café."}]


def values(path, columns=None, encoding=None):
    """The rows of a file, as they are read."""
    splits = load_rows(str(path), read_as=ReadAs.of(columns, encoding)).train
    return [{"instruction": row["messages"][0]["content"], "output": row["messages"][1]["content"]} for row in splits]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Separators, marks, encodings and empty rows: the file, its flags, and the rows (CAFÉ where none are named).
FILES = [
    ("commas", "a.csv", "instruction,output\nOù?,Au café.\n", {}),
    ("semicolons", "a.csv", "instruction;output\nOù?;Au café.\n", {}),
    ("tabs in csv", "a.csv", "instruction\toutput\nOù?\tAu café.\n", {}),
    ("commas in tsv", "a.tsv", "instruction,output\nOù?,Au café.\n", {}),
    ("tabs", "a.tsv", "instruction\toutput\nOù?\tAu café.\n", {}),
    ("semicolons, with commas in the fields", "a.csv", "id;instruction;output\n1;a, b, c;d\n", {}, [("a, b, c", "d")]),
    ("commas, with semicolons in the fields", "a.csv", 'instruction,output\n"a; b";c,"d; e"\n'.replace(";c", ""), {}, [("a; b", "d; e")]),
    ("a comma in the header", "a.csv", "instruction;output;asked, when\na;b;c\n", {}, [("a", "b")]),
    ("Excel's line that names the separator", "a.csv", "sep=;\r\ninstruction;output\r\nOù?;Au café.\r\n", {}),
    ("quoted semicolons and line breaks", "a.csv", 'instruction;output\n"a;\nb";"c"\n', {}, [("a;\nb", "c")]),
    ("UTF-8 with a mark", "a.csv", b"\xef\xbb\xbf" + "instruction;output\nOù?;Au café.\n".encode(), {}),
    ("UTF-16 with a mark", "a.csv", "instruction;output\r\nOù?;Au café.\r\n".encode("utf-16"), {}),
    ("UTF-16 of Excel", "a.csv", b"\xff\xfe" + "instruction\toutput\r\nOù?\tAu café.\r\n".encode("utf-16-le"), {}),
    ("UTF-16, big end first", "a.jsonl", b"\xfe\xff" + '{"instruction": "Où?", "output": "Au café."}\n'.encode("utf-16-be"), {}),
    ("UTF-16 json", "a.json", '[{"instruction": "Où?", "output": "Au café."}]'.encode("utf-16"), {}),
    ("cp1252", "a.csv", "instruction,output\nOù?,Au café.\n".encode("cp1252"), {"encoding": "cp1252"}),
    ("Latin-1 jsonl", "a.jsonl", '{"instruction": "Où?", "output": "Au café."}\n'.encode("latin-1"), {"encoding": "latin-1"}),
    ("UTF-16 without a mark", "a.csv", "instruction,output\nOù?,Au café.\n".encode("utf-16-le"), {"encoding": "utf-16-le"}),
    ("empty rows at the end", "a.csv", "instruction;output\nOù?;Au café.\n;\n;\n \n\n", {}),
    ("empty columns at the end", "a.csv", "instruction;output;;\nOù?;Au café.;;\n;;;\n", {}),
    ("spaces around names", "a.csv", "instruction , output\nOù?,Au café.\n", {}),
    ("other names", "a.csv", "Frage;Antwort\nOù?;Au café.\n", {"columns": "instruction=Frage,output=Antwort"}),
    ("names with spaces and commas", "a.csv", '"My question, in short",A b\nOù?,Au café.\n', {"columns": '"instruction=My question, in short",output=A b'}),
    ("no header", "a.tsv", "Au café.\tOù?\n", {"columns": "output=1,instruction=2"}),
]  # fmt: skip


@pytest.mark.parametrize("case", FILES, ids=[case[0] for case in FILES])
def test_a_file_becomes_the_rows_that_a_person_sees_in_it(case, tmp_path):
    _, name, content, flags, *rows = case
    expected = [dict(zip(("instruction", "output"), row, strict=True)) for row in rows[0]] if rows else CAFÉ
    assert values(write(tmp_path / name, content), **flags) == expected


def test_empty_rows_are_counted(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "instruction;output\n;\na;b\n;\n;\n")
    with caplog.at_level(logging.WARNING):
        assert len(load_rows(str(path)).train) == 1
    assert caplog.messages == [f"{path}: 3 empty rows left out"]
    with pytest.raises(UserError, match=r"a\.csv: the file has no rows; add at least one$"):
        load_rows(str(write(path, "instruction;output\n;\n;\n")))


# What --columns and --encoding can't mean, each one line.
REFUSED = [
    ("a.csv", b"instruction,output\nO\xf9?,x\nd\xe9j\xe0,x\n", {}, ':2: not UTF-8 (byte 0xf9 at line 2 column 2); give --encoding cp1252 if it stands for "ù", or save the file as UTF-8 (2 rows; also line 3)'),
    ("a.csv", "instruction,output\nOù?,x\n", {"encoding": "cp1252"}, ": the file is UTF-8; drop --encoding cp1252, which would garble it"),
    ("a.csv", b"\xef\xbb\xbfinstruction,output\n\xc3\xa9,x\n", {"encoding": "cp1252"}, ":1: the file is UTF-8 by its byte-order mark; drop --encoding cp1252"),
    ("a.csv", b"instruction,output\n\xe9\x81,x\n", {"encoding": "cp1252"}, ":2: not cp1252 (byte 0x81, the file's number 21); give the right --encoding, or save it as UTF-8"),
    ("a.csv", "a,b\nx,y\n", {"encoding": "cp-1252"}, 'unknown --encoding "cp-1252"; did you mean "cp1252"?; common ones: cp1252, latin-1, utf-16, cp1250, cp1251, shift_jis, gb18030, euc-kr, mac-roman'),
    ("a.csv", "a,b\nx,y\n", {"columns": "instruction=A,output=b"}, ':2: --columns names "A", which is not a column; did you mean "a"?'),
    ("a.csv", "Frage,Antwort\nx,y\n", {"columns": "instruction=Question,output=Antwort"}, ':2: --columns names "Question", which is not a column; the columns are: Frage, Antwort'),
    ("a.csv", "instruction,output,Frage\nx,y,z\n", {"columns": "instruction=Frage"}, ':2: --columns reads another column as "instruction", and there is one of that name'),
    ("a.csv", "a,b\nx,y\n", {"columns": "instruction"}, '--columns "instruction": write COLUMN=NAME-IN-THE-FILE, such as instruction=Question,output=Answer'),
    ("a.csv", "a,b\nx,y\n", {"columns": ""}, "--columns is empty; write COLUMN=NAME-IN-THE-FILE, such as instruction=Question,output=Answer"),
    ("a.csv", "a,b\nx,y\n", {"columns": "instruction=a,output=a"}, '--columns: "a" appears twice; keep one'),
    ("a.tsv", "ham\tGo until jurong point, crazy.. Available only in bugis\nspam\tFree entry\n", {}, ":2: the columns ham, Go until jurong point, crazy.. Available only in bugis fit no format; say which is which, such as --columns instruction=1,output=2"),
    ("a.csv", "title,body\n" + "x,y\n" * 300, {}, ":2: the columns title, body fit no format; say which is which, such as --columns instruction=title,output=body (300 rows; also lines 3, 4, 5, 6 and 295 more)"),
]  # fmt: skip


@pytest.mark.parametrize("name, content, flags, message", REFUSED)
def test_what_cannot_be_meant_is_one_line(name, content, flags, message, tmp_path):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        values(path, **flags)
    assert str(error.value) == (f"{path}{message}" if message.startswith(":") else message)


# Names that are known (said in one line), and those that are asked for: command, names, mapping.
NAMES = [
    ("sft", "Question,Answer", "instruction=Question, output=Answer"),
    ("sft", "question,answer", "instruction=question, output=answer"),
    ("sft", "QUESTION,ANSWER", "instruction=QUESTION, output=ANSWER"),
    ("sft", "Instruction,Output", "instruction=Instruction, output=Output"),
    ("sft", "Prompt,Response", "prompt=Prompt, completion=Response"),
    ("sft", "prompt,answer", "prompt=prompt, completion=answer"),
    ("sft", "instruction,response", "instruction=instruction, output=response"),
    ("sft", "input,output", "instruction=input, output=output"),
    ("sft", "context,question,answer", "instruction=question, output=answer, input=context"),
    ("sft", "user,assistant", "instruction=user, output=assistant"),
    ("sft", "Query,Reply", "instruction=Query, output=Reply"),
    ("classify", "Label,Text", "text=Text, label=Label"),
    ("classify", "input,label", "text=input, label=label"),
    ("classify", "review,sentiment", "text=review, label=sentiment"),
    ("classify", "message,category", "text=message, label=category"),
    ("classify", "sentence,label,idx", "text=sentence, label=label"),
    ("dpo", "question,chosen,rejected", "instruction=question, chosen=chosen, rejected=rejected"),
    ("dpo", "Prompt,Chosen,Rejected", "prompt=Prompt, chosen=Chosen, rejected=Rejected"),
    ("predict", "review", "text=review"),
    ("sft", "v1,v2", None),
    ("sft", "title,content", None),
    ("sft", "Query,Question,Answer", None),
    ("sft", "question,A,B,C,D,answer", None),
    ("classify", "v1,v2", None),
    ("dpo", "question,a,b", None),
]


@pytest.mark.parametrize("command, names, mapping", NAMES, ids=[f"{case[0]} {case[1]}" for case in NAMES])
def test_well_known_names_are_read_and_said_and_others_asked_for(command, names, mapping, tmp_path, caplog):
    columns = names.split(",")
    path = write(tmp_path / "a.csv", f"{names}\n" + ",".join(f"x{number}" for number in range(len(columns))) + "\n")
    if mapping is None:
        with pytest.raises(UserError, match=r"a\.csv:2: the columns .* --columns \w+=\w+,"):
            load_rows(str(path), kind=KINDS[command])
        return
    with caplog.at_level(logging.WARNING):
        (row,) = load_rows(str(path), kind=KINDS[command]).train
    different = [pair for pair in mapping.split(", ") if len(set(pair.split("="))) == 2]
    (said,) = caplog.messages
    assert said.startswith(f"{path}: columns read as: ") and said.endswith("; --columns changes it")
    assert sorted(said.partition("read as: ")[2].partition("; ")[0].split(", ")) == sorted(different)
    for pair in mapping.split(", "):
        _, _, name = pair.partition("=")
        assert f"x{columns.index(name)}" in str(row)


# Tab-separated files: a quote is a letter, unless the file is quoted throughout.
TSV = [
    ("a quote opened in one row and closed rows later",
     'text\tlabel\n"good film\tpos\nfine\tneg\nbad"\tneg\nlong\tneg\nshort\tpos\n"odd\tpos\nend"\tneg\n',
     ['"good film', "fine", 'bad"', "long", "short", '"odd', 'end"']),
    ("a quotation at the beginning", 'text\tlabel\n"Great!" he said\tpos\n', ['"Great!" he said']),
    ("a title in quotes", 'text\tlabel\n"Alien"\tpos\nfine\tneg\n', ['"Alien"', "fine"]),
    ("a lone quote", 'text\tlabel\n5" disk\tpos\n"\tneg\n', ['5" disk', '"']),
    ("quoted where needed", 'text\tlabel\n"say ""hi"""\tpos\nfine\tneg\n', ['say "hi"', "fine"]),
    ("quoted line breaks and tabs", 'text\tlabel\n"a\tb\tc\nd"\tpos\nfine\tneg\n', ["a\tb\tc\nd", "fine"]),
    ("all in quotes", '"text"\t"label"\n"Alien"\t"pos"\n"fine"\t"neg"\n', ["Alien", "fine"]),
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
@pytest.mark.parametrize("content, texts", [case[1:] for case in TSV], ids=[case[0] for case in TSV])
def test_quotes_of_a_table_of_tabs_are_letters_unless_it_is_quoted_throughout(content, texts, suffix, tmp_path):
    path = write(tmp_path / f"a.{suffix}", content)
    assert [record.values["text"] for record in read_records(path)] == texts


def test_a_table_of_tabs_that_a_csv_library_wrote_is_read_as_it_was(tmp_path):
    rows = [{"text": text, "label": str(number)} for number, text in enumerate(['a "b"', '"', "c\nd", "e\tf", "g, h"])]
    with (tmp_path / "a.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], dialect="excel-tab")
        writer.writeheader()
        writer.writerows(rows)
    assert [record.values for record in read_records(tmp_path / "a.tsv")] == rows


def workbook(path, *sheets):
    """Write a spreadsheet of sheets of rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


# A cell's value, its format, and the text that Excel shows.
CELLS = [
    ("text", "General", "text"), (" two\nlines ", "General", " two\nlines "), (5, "General", "5"), (5.0, "General", "5"),
    (123456789012345, "General", "123456789012345"),
    (2.5, "General", "2.5"), (0.1 + 0.2, "General", "0.3"), (1234567.891, "#,##0.00", "1,234,567.89"),
    (3, "0.00", "3.00"), (0.256, "0%", "26%"), (0.256, "0.0%", "25.6%"), (True, "General", "TRUE"),
    (datetime.date(2024, 5, 1), "yyyy-mm-dd", "2024-05-01"), (datetime.date(2024, 5, 1), "dd.mm.yyyy", "01.05.2024"),
    (datetime.date(2024, 5, 1), "d/m/yy", "1/5/24"), (datetime.date(2024, 5, 1), "mm-dd-yy", "2024-05-01"),
    (datetime.datetime(2024, 5, 1, 9, 7), "yyyy-mm-dd h:mm", "2024-05-01 9:07"),
    (datetime.time(9, 7, 3), "hh:mm:ss", "09:07:03"), ("NA", "General", "NA"), ("007", "@", "007"),
]  # fmt: skip


def test_a_spreadsheet_gives_each_value_as_the_text_that_excel_shows(tmp_path):
    book = openpyxl.Workbook()
    for line, (value, number_format, _) in enumerate([("text", "General", ""), *CELLS], start=1):
        book.active.cell(line, 1, value).number_format = number_format
    book.save(tmp_path / "a.xlsx")
    assert [one.values["text"] for one in read_records(tmp_path / "a.xlsx")] == [shown for *_, shown in CELLS]


def test_rows_of_a_spreadsheet_have_its_row_numbers_and_empty_ones_are_left_out(tmp_path, caplog):
    path = workbook(tmp_path / "a.xlsx", [[], ["Question", "Answer", None], ["a", 7], [None, None], ["b", "c"]], [])
    with caplog.at_level(logging.WARNING):
        rows = load_rows(str(path)).train
    assert [row["source"] for row in rows] == [f"{path}:3", f"{path}:5"]
    assert rows[0]["messages"][1]["content"] == "7"
    assert "1 empty row left out" in caplog.text and "instruction=Question, output=Answer" in caplog.text


SPREADSHEETS = [
    ([[["a"], ["1"]], [["b"], ["2"]]], {}, ": the sheets Sheet, Sheet1 all hold rows; keep one, or save one as .csv"),
    ([[["a", "b"], ["1", "=1/0"]]], {}, ":2: cell B2 is a formula that was never calculated; open the file and save it again"),
    ([[["text"], ["1"], ["2", "3"]]], {}, ":3: a value stands under no column name; name the column in the header"),
    ([[["a", "a"], ["1", "2"]]], {}, ':1: column "a" appears twice; rename one'),
    ([[]], {}, ": the file has no rows; add at least one"),
    ([[["a"], ["1"]]], {"encoding": "cp1252"}, ": --encoding has no effect on a .xlsx file; drop it"),
]  # fmt: skip


@pytest.mark.parametrize("sheets, flags, message", SPREADSHEETS)
def test_what_a_spreadsheet_cannot_give_is_one_line(sheets, flags, message, tmp_path):
    path = workbook(tmp_path / "a.xlsx", *sheets)
    with pytest.raises(UserError) as error:
        load_rows(str(path), read_as=ReadAs.of(**flags))
    assert str(error.value) == f"{path}{message}"


def test_a_spreadsheet_without_its_package_is_one_line(tmp_path, monkeypatch):
    path = workbook(tmp_path / "a.xlsx", [["text"], ["a"]])
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"a\.xlsx: .xlsx files need openpyxl; pip install 'ftkit\[xlsx\]', or save it"):
        read_records(path)


# Files of questions for `ftkit generate --file`: the file, its flags, the questions.
QUESTION_FILES = [
    ("a.csv", "Question;Answer\nWhy?;So.\n", {}, ["Why?"]),
    ("a.csv", "Question;Answer\nWhy?;\n;\n", {}, ["Why?"]),
    ("a.csv", "question\nWhy?\nHow?\n", {}, ["Why?", "How?"]),
    ("a.jsonl", '{"query": "Why?"}\n', {}, ["Why?"]),
    ("a.csv", "Frage\nWhy?\n", {"columns": "instruction=Frage"}, ["Why?"]),
    ("a.txt", "Où?\n".encode("cp1252"), {"encoding": "cp1252"}, ["Où?"]),
    ("a.txt", "Où?\n".encode("utf-16"), {}, ["Où?"]),
]


@pytest.mark.parametrize("name, content, flags, questions", QUESTION_FILES)
def test_files_of_questions_are_read_the_same_way(name, content, flags, questions, tmp_path):
    found = read_questions(str(write(tmp_path / name, content)), ReadAs.of(**flags))
    assert [one.messages[-1]["content"] for one in found] == questions


def test_bytes_of_a_file_of_questions_that_are_no_text_are_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.txt:2: not UTF-8 \(byte 0xf9 at column 2\); give --encoding cp1252 if it"):
        read_questions(str(write(tmp_path / "a.txt", b"ok\nO\xf9?\n")))


def test_answers_to_be_judged_may_have_other_names(tmp_path):
    path = write(tmp_path / "a.csv", "Q;A\nWhy?;So.\n")
    (answered,) = read_answers([str(path)], ReadAs.of("prompt=Q,answer=A"))["a"]
    assert (answered.prompt, answered.answer) == ("Why?", "So.")


TWICE = (
    '{"messages": [{"role": "user", "content": "Hi."}, {"role": "user", "content": "A bird?"}, '
    '{"role": "assistant", "content": "Crow."}]}\n'
)


def test_turns_of_the_user_that_follow_each_other_are_joined_where_that_is_asked_for(tmp_path):
    path = write(tmp_path / "rows.jsonl", TWICE)
    with pytest.raises(UserError, match=r"two user turns in a row; merge them, or give --join_turns"):
        load_rows(str(path))
    (row,) = load_rows(str(path), read_as=ReadAs.of(join_turns=True)).train
    assert [turn["content"] for turn in row["messages"]] == ["Hi.\n\nA bird?", "Crow."]


def test_training_joins_turns_before_and_after_its_imports(tmp_path):
    path = write(tmp_path / "rows.jsonl", TWICE)
    line = ["--model", "base", "--dataset_name", str(path), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(UserError, match="give --join_turns"):
        load_recipe("sft").parse(line)
    settings = load_recipe("sft").parse([*line, "--join_turns"])
    (row,) = read_rows(settings, CONVERSATIONS).train
    assert len(row["messages"]) == 2
