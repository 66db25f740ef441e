"""Rows of one kind written in another format, in the columns that TRL knows.

convert_row({"messages": [...]}, "prompt_completion")

What a format cannot say is refused, never dropped: an Alpaca row has one exchange, `messages` no untrained answers.
"""

from collections.abc import Callable, Iterator

from ftkit.config.errors import UserError
from ftkit.data.rows.formats import alpaca_row, message

SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}
# kind of rows -> formats it can be written in; the first is TRL's own
TARGETS = {
    "conversation": ("messages", "prompt_completion", "alpaca", "sharegpt"),
    "text": ("text",),
    "preference": ("preference", "kto", "messages", "prompt_completion", "alpaca", "sharegpt"),
    "kto": ("kto",),
    "multiple_choice": ("multiple_choice",),
    "classification": ("classification",),
}


def convert_row(row: dict, target: str) -> Iterator[dict]:
    """Yield what one row becomes: one row, or two where a preference becomes a wanted and an unwanted answer.

    row: as a RowKind gives it. Raises UserError where the target can't hold the row.
    """
    content = {name: value for name, value in row.items() if name != "source"}
    if "rejected" in row and target == "kto":
        for name, label in (("chosen", True), ("rejected", False)):
            yield {"prompt": row["prompt"], "completion": [message("assistant", row[name])], "label": label}
    elif "rejected" in row and target == "preference":
        answers = {name: [message("assistant", row[name])] for name in ("chosen", "rejected")}
        yield {"prompt": row["prompt"], **answers}
    elif "rejected" in row:
        turns = [*row["prompt"], message("assistant", row["chosen"])]
        yield CONVERSATION_WRITERS[target]({"messages": turns, "num_prompt_messages": len(row["prompt"])})
    elif target == "kto":
        yield {**content, "completion": [message("assistant", row["completion"])]}
    elif "messages" in row:
        yield CONVERSATION_WRITERS[target](content)
    else:
        yield content


def first_answer(messages: list[dict]) -> int:
    """Position of the first assistant turn."""
    return next(index for index, turn in enumerate(messages) if turn["role"] == "assistant")


def write_messages(row: dict) -> dict:
    """One column of messages, of which all answers are trained."""
    if row.get("num_prompt_messages", 0) > first_answer(row["messages"]):
        raise UserError("the prompt holds untrained answers, which this format can't say; use prompt_completion")
    return {"messages": row["messages"]}


def write_prompt_completion(row: dict) -> dict:
    """What is trained, the completion, apart from what is not."""
    start = row.get("num_prompt_messages") or first_answer(row["messages"])
    return {"prompt": row["messages"][:start], "completion": row["messages"][start:]}


def write_sharegpt(row: dict) -> dict:
    """Turns with ShareGPT's names."""
    messages = write_messages(row)["messages"]
    return {"conversations": [{"from": SHAREGPT_NAMES[turn["role"]], "value": turn["content"]} for turn in messages]}


CONVERSATION_WRITERS: dict[str, Callable[[dict], dict]] = {
    "messages": write_messages,
    "prompt_completion": write_prompt_completion,
    "alpaca": lambda row: alpaca_row(row["messages"]),
    "sharegpt": write_sharegpt,
}
