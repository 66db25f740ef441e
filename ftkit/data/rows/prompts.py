"""Prompts that are answered by sampling, with what a reward may need of their rows: `ftkit grpo`, `ftkit ppo`.

    prompt                 {"prompt"}: text, which is a user's turn, or a list of turns
    alpaca                 {"instruction"[, "input"][, "output"]}
    messages, sharegpt     a conversation; its last answer, if it ends with one, is the right one
    question               {"question"}

A right answer may stand beside each as "answer", "completion" or "output". All other columns are kept for rewards.

Every mistake is a UserError `file:line: reason; fix`.
"""

from ftkit.config.errors import UserError
from ftkit.data.rows.columns import RowKind
from ftkit.data.rows.extras import check_columns
from ftkit.data.rows.formats import (
    BESIDE,
    OPENAI_KEYS,
    SHAREGPT_KEYS,
    checked_text,
    from_alpaca,
    message,
    read_turns,
    with_system,
)
from ftkit.data.rows.thoughts import without_thought
from ftkit.data.rows.tools import with_calls

ANSWER = "answer"
ANSWER_COLUMNS = (ANSWER, "completion", "output")  # the first that is filled counts
KEPT = (*ANSWER_COLUMNS, "constraints")  # beside a prompt, as rewards use them
PLACEHOLDER = "?"  # stands for an answer while a row is read
PROMPT_FORMATS = {
    "messages": (("messages",), (*BESIDE, *KEPT)),
    "sharegpt": (("conversations",), (*BESIDE, *KEPT)),
    "alpaca": (("instruction",), ("input", "history", *BESIDE, *KEPT)),
    "prompt": (("prompt",), (*BESIDE, *KEPT)),
    "question": (("question",), (*BESIDE, *KEPT)),
}


def to_prompt(values: dict, format: str, where: str) -> dict:
    """Return {"prompt": turns up to the answer, "columns": {name: value}}, of which "answer" is the right one, if any.

    Raises UserError for null, blank or wrongly typed fields.
    """
    check_columns(values, where)
    turns = turns_of(values, format, where)
    columns = {name: value for name, value in values.items() if name not in ("messages", "conversations", "prompt")}
    answer = next((values[name] for name in ANSWER_COLUMNS if values.get(name) not in (None, "", [])), None)
    if isinstance(answer, list):  # of turns, as some datasets have it
        answer = answer[-1].get("content") if isinstance(answer[-1], dict) else None
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = f"{answer:g}" if isinstance(answer, float) else str(answer)
    if turns[-1]["role"] == "assistant":
        last = without_thought(with_calls(turns[-1]))
        answer, turns = (last if answer is None else answer), turns[:-1]
    columns[ANSWER] = None if answer is None else checked_text(answer, ANSWER, where)
    return {"prompt": turns, "columns": columns}


def turns_of(values: dict, format: str, where: str) -> list[dict]:
    """The turns of a row, whose last may be an answer. Raises UserError as `read_turns` does."""
    if format == "alpaca":
        return from_alpaca({**values, "output": PLACEHOLDER}, where)["messages"][:-1]
    if format in ("prompt", "question") and not isinstance(values[format], list):
        turns = [message("user", checked_text(values[format], format, where))]
        return with_system({"messages": turns}, values, where)["messages"]
    column = {"sharegpt": "conversations"}.get(format, format)
    turns, keys = values[column], SHAREGPT_KEYS if format == "sharegpt" else OPENAI_KEYS
    if not isinstance(turns, list) or not turns:
        raise UserError(f'{where}: "{column}" must be a list of turns; write [{{...}}, ...]')
    role = (turns[-1].get("role") or turns[-1].get("from")) if isinstance(turns[-1], dict) else None
    if role in ("user", "human"):
        keyed = OPENAI_KEYS if "role" in turns[-1] else SHAREGPT_KEYS
        names = ("assistant", PLACEHOLDER) if keyed == OPENAI_KEYS else ("gpt", PLACEHOLDER)
        turns = [*turns, dict(zip(keyed, names, strict=True))]
        return with_system(read_turns(turns, where, column, keys), values, where)["messages"][:-1]
    return with_system(read_turns(turns, where, column, keys), values, where)["messages"]


PROMPTS = RowKind(PROMPT_FORMATS, to_prompt)
