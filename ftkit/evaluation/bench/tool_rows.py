"""Rows with tools for a task: the model is asked up to the last answer that calls one.

rows = read_tool_rows("test.jsonl", "test")          # values: "turns", and "calls" that are wanted

A row in which no answer calls a tool is asked up to its last answer, and no call is right.
"""

from ftkit.config.errors import UserError
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.rows.tools import CALLS, tools_apart
from ftkit.evaluation.bench.task_rows import Row, checked_rows


def read_tool_rows(data: str, split: str, config: str | None = None, read_as: ReadAs = AS_WRITTEN) -> list[Row]:
    """The rows of one split, read and checked as `ftkit sft` reads them; a file is every split.

    Raises UserError as `task_rows.read_conversations` does, and for a row without tools.
    """
    return checked_rows(data, split, config, read_as, tool_columns)


def tool_columns(values: dict, row: dict) -> dict:
    """The row's own columns, with "turns" up to the answer that is asked for and the "calls" that it makes."""
    turns = row.get("messages", [])
    _, tools = tools_apart(turns)
    if not tools:
        raise UserError(f'{row["source"]}: a row without tools, of which none can be called; add a column "tools"')
    answers = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    asked = max([place for place in answers if turns[place].get(CALLS)] or answers)
    calls = [{name: call["function"][name] for name in ("name", "arguments")} for call in turns[asked].get(CALLS, ())]
    return {**values, "turns": turns[:asked], "calls": calls}
