"""Your rows as a benchmark: whatever form `ftkit sft` takes, `ftkit bench --tasks instructions` takes."""

import json
from types import SimpleNamespace

import pytest

from ftkit.config.errors import UserError
from ftkit.data.reading.records import Record
from ftkit.data.rows.formats import to_messages
from ftkit.evaluation.bench.choosing import choose_tasks
from ftkit.evaluation.bench.task_file import load_task
from ftkit.evaluation.bench.task_items import Example, ItemSettings, build_items, conversation

USER, ANSWER = {"role": "user", "content": "Plural of mouse?"}, {"role": "assistant", "content": "mice"}
EARLIER = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yo"},
]


def chosen(path, **flags):
    """The items that a command line asks of the rows in a file."""
    args = {"tasks": "instructions", "task_data": [f"instructions={path}"], "num_fewshot": None, "limit": None}
    (one,) = choose_tasks(SimpleNamespace(**(args | flags)))
    return one.items


def as_sharegpt(messages: list[dict]) -> dict:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"conversations": [{"from": names[turn["role"]], "value": turn["content"]} for turn in messages]}


FORMS = {
    "alpaca": ("jsonl", {"instruction": "Plural of mouse?", "output": "mice"}),
    "alpaca with an empty input": ("jsonl", {"instruction": "Plural of mouse?", "input": "", "output": "mice"}),
    "prompt and completion": ("jsonl", {"prompt": "Plural of mouse?", "completion": "mice"}),
    "prompt and completion as turns": ("jsonl", {"prompt": [USER], "completion": [ANSWER]}),
    "messages": ("jsonl", {"messages": [USER, ANSWER]}),
    "sharegpt": ("jsonl", as_sharegpt([USER, ANSWER])),
    "csv": ("csv", "instruction,output\nPlural of mouse?,mice\n"),
    "csv with semicolons and other names": ("csv", "Question;Answer\nPlural of mouse?;mice\n"),
    "json": ("json", [{"instruction": "Plural of mouse?", "output": "mice"}]),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_each_form_that_is_trained_are_asked(form, tmp_path):
    suffix, content = FORMS[form]
    path = tmp_path / f"test.{suffix}"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    (item,) = chosen(path)
    assert (item.prompts, item.target, item.examples, item.description) == (["Plural of mouse?"], "mice", [], "")


def test_an_input_is_asked_in_the_words_that_are_trained(tmp_path):
    path = tmp_path / "test.jsonl"
    row = {"instruction": "Write the plural.", "input": "mouse", "output": "mice"}
    path.write_text(json.dumps(row) + "\n")
    (item,) = chosen(path)
    assert item.prompts[0] == to_messages(Record(row, 1), "alpaca", "x")["messages"][0]["content"]


@pytest.mark.parametrize("row", [{"messages": [*EARLIER, USER, ANSWER]}, as_sharegpt([*EARLIER, USER, ANSWER])])
def test_earlier_turns_stand_before_the_question(row, tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (item,) = chosen(path)
    assert item.examples == [Example("Hi", "Yo")] and item.description == "Be short."
    assert conversation(item, item.prompts[0]) == [*EARLIER, USER]


def test_columns_of_other_names_are_named(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("Frage;Antwort\nPlural of mouse?;mice\n")
    (item,) = chosen(path, columns="instruction=Frage,output=Antwort")
    assert (item.prompts, item.target) == (["Plural of mouse?"], "mice")
    with pytest.raises(UserError, match="--columns is about rows with answers; add --tasks instructions"):
        chosen(path, tasks="knowledge", task_data=[], columns="instruction=Frage,output=Antwort", limit=1)


def test_what_can_not_be_asked_is_named_with_its_line(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": null}\n')
    with pytest.raises(UserError, match=r'test.jsonl:2: "output" is null'):
        chosen(path)
    path.write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match="test.jsonl:1: plain text, and no question with an answer"):
        chosen(path)
    path.write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(UserError, match="takes rows with choices; for these give --tasks instructions --task_data"):
        build_items(load_task("multiple_choice"), ItemSettings(data=str(path)))


def test_rows_that_quote_are_scored_with_the_passage_and_without_it(tmp_path):
    asked = {"role": "user", "content": "When does it leave?"}
    rows = [
        {"messages": [asked, {"role": "assistant", "content": answer}], "has_passage": has_passage, "sources": ["a#1"]}
        for answer, has_passage in (("Answer: at nine", True), ("The sources do not say.", False))
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = build_items(load_task("raft"), ItemSettings(data=str(tmp_path / "test.jsonl")))
    assert [item.group for item in items] == ["with the passage", "without the passage"]
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    with pytest.raises(UserError, match='no value in column "passage"'):
        build_items(load_task("raft"), ItemSettings(data=str(tmp_path / "test.jsonl")))
