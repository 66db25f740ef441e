"""Rows with tools as a benchmark: what is asked, what is read out of a reply, and what is refused."""

import json
from types import SimpleNamespace

import pytest

from ftkit.config.errors import UserError
from ftkit.data.rows.tools import tools_apart
from ftkit.data.templates.tools import ToolPlace
from ftkit.evaluation.bench.task_file import load_task
from ftkit.evaluation.bench.task_items import ItemSettings, build_items, conversation
from ftkit.evaluation.bench.tool_calls import ToolCallRun

ADD = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CALL = {"name": "add", "arguments": {"a": 1}}
ROWS = [
    {"query": "Add 1.", "tools": json.dumps([ADD]), "answers": json.dumps([CALL])},
    {"query": "Add 2.", "tools": json.dumps([ADD]), "answers": json.dumps([CALL | {"arguments": {"a": 2}}])},
]
TURNS = [
    {"role": "user", "content": "Add 1."},
    {"role": "assistant", "content": None, "tool_calls": [{"function": CALL}]},
    {"role": "tool", "content": "1"},
    {"role": "assistant", "content": "It is 1."},
]
TALKS = [{"messages": TURNS, "tools": [ADD]}, {"messages": [TURNS[0], TURNS[3]], "tools": [ADD]}]


def items_of(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_task("tool_calls")
    return task, build_items(task, ItemSettings(data=str(path)))


def run_of(task, items, style="hermes"):
    """The run of a subject that was asked already."""
    run = ToolCallRun.__new__(ToolCallRun)
    run.task, run.items, run.style = task, items, style
    return run


def test_the_last_answer_that_calls_is_asked_for(tmp_path):
    _, items = items_of(tmp_path, TALKS)
    assert [json.loads(item.target) for item in items] == [[CALL], []]
    for item in items:
        messages, tools = tools_apart(conversation(item, item.prompts[0]))
        assert messages == TURNS[:1]
        assert tools == [{"type": "function", "function": ADD}]


def test_a_reply_is_scored_by_its_calls(tmp_path):
    task, items = items_of(tmp_path, ROWS)
    reply = f"<think>\nOne.\n</think>\n\n<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
    first, second = (run_of(task, items).record(item, reply) for item in items)
    assert first.scores == dict.fromkeys(task.metrics, 1.0)
    assert first.prediction == reply.partition("\n\n")[2]
    assert second.scores["name_accuracy"] == second.scores["decision_accuracy"] == 1
    assert second.scores["call_accuracy"] == second.scores["argument_accuracy"] == 0
    written = json.dumps({"name": "add", "parameters": {"a": 1}})
    assert run_of(task, items, "llama").record(items[0], written).scores == first.scores
    assert run_of(task, items).record(items[0], "It is 1.").scores == dict.fromkeys(task.metrics, 0.0)


def test_a_row_without_tools_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"rows.jsonl:1: a row without tools, of which none can be called; add a column"
    ):
        items_of(tmp_path, [{"prompt": "Q", "completion": "A"}])


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (None, "the template plain has no place for tools; use --template chatml or llama3"),
        (ToolPlace(None, True, ()), "the template plain writes calls in a way that is not read back"),
    ],
)
def test_a_template_that_can_not_answer_is_refused(tmp_path, place, reason):
    task, items = items_of(tmp_path, ROWS)
    subject = SimpleNamespace(endpoint=None, template=SimpleNamespace(name="plain", tools=place))
    with pytest.raises(UserError, match=reason):
        ToolCallRun(task, items, subject)
