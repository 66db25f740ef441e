"""Rows of one kind written in another format, in the columns that TRL knows.

convert_row({"messages": [...]}, "prompt_completion")

What a format cannot say is refused, never dropped: an Alpaca row has no answers that are not trained. The others mark
them by "weight": 0, which ftkit sft honours.
"""

import json
from collections.abc import Callable, Iterator

from ftkit.config.errors import UserError
from ftkit.data.rows.formats import alpaca_row, as_row, message
from ftkit.data.rows.tools import CALLS, TOOLS, calls_apart, names_of, tools_apart

SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
# kind of rows -> formats it can be written in; the first is TRL's own
TARGETS = {
    "conversation": ("messages", "prompt_completion", "alpaca", "sharegpt"),
    "text": ("text",),
    "preference": ("preference", "kto", "messages", "prompt_completion", "alpaca", "sharegpt"),
    "kto": ("kto", "messages", "prompt_completion", "alpaca", "sharegpt"),
    "multiple_choice": ("multiple_choice",),
    "classification": ("classification",),
    "text_pair": ("text_pair",),
}


def convert_row(row: dict, target: str) -> Iterator[dict]:
    """Yield what one row becomes: one row, two where a preference becomes a wanted and an unwanted answer, or none
    where an unwanted answer has no place.

    row: as a RowKind gives it. Raises UserError where the target can't hold the row.
    """
    content = {name: value for name, value in row.items() if name != "source"}
    if "rejected" in row and target == "kto":
        for name, label in (("chosen", True), ("rejected", False)):
            yield asked(row, completion=row[name]) | {"label": label}
    elif "rejected" in row and target == "preference":
        yield asked(row, chosen=row["chosen"], rejected=row["rejected"])
    elif "rejected" in row:
        yield CONVERSATION_WRITERS[target](answered(row["prompt"], row["chosen"]))
    elif target == "kto":
        yield asked(row, completion=row["completion"]) | {"label": row["label"]}
    elif "completion" in row:
        if row["label"]:
            yield CONVERSATION_WRITERS[target](answered(row["prompt"], row["completion"]))
    elif "anchor" in row:
        negative = {"negative": row["negatives"]} if row["negatives"] else {}
        yield {"anchor": row["anchor"], "positive": row["positive"], **negative}
    elif "messages" in row:
        yield CONVERSATION_WRITERS[target](content)
    else:
        yield content


def asked(row: dict, **answers: str) -> dict:
    """The prompt of a row with answers by column, and the tools in a column of their own."""
    prompt, tools = tools_apart(row["prompt"])
    turns = {name: [calls_apart(message("assistant", text), names_of(tools))] for name, text in answers.items()}
    return {"prompt": prompt, **turns} | column_of(tools)


def column_of(tools: list[dict] | str) -> dict:
    """The column of tools, where there are any."""
    return {TOOLS: tools} if tools else {}


def answered(prompt: list[dict], answer: str) -> dict:
    """A prompt with its answer, which alone is trained."""
    return as_row([*prompt, message("assistant", answer)], answers_in(prompt))


def answers_in(messages: list[dict]) -> list[int]:
    """Positions of the assistant's turns."""
    return [index for index, turn in enumerate(messages) if turn["role"] == "assistant"]


def marked(row: dict) -> list[dict]:
    """The messages of a row, those with weight 0 that are not trained."""
    untrained = row.get("untrained", ())
    return [turn | {"weight": 0} if index in untrained else turn for index, turn in enumerate(row["messages"])]


def write_messages(row: dict) -> dict:
    """Messages, with their tools in a column of its own."""
    turns, tools = tools_apart(marked(row))
    return {"messages": turns} | column_of(tools)


def write_prompt_completion(row: dict) -> dict:
    """What is trained, the completion, apart from what is not."""
    answers, untrained = answers_in(row["messages"]), row.get("untrained", ())
    start = next((index for index in answers if index not in untrained), answers[0])
    prompt, tools = tools_apart(row["messages"][:start])
    return {"prompt": prompt, "completion": marked(row)[start:]} | column_of(tools)


def write_sharegpt(row: dict) -> dict:
    """Turns with ShareGPT's names, tools as JSON."""
    turns, tools = tools_apart(marked(row))
    listed = json.dumps(tools, ensure_ascii=False)
    return {"conversations": [sharegpt_turn(turn) for turn in turns]} | column_of(listed if tools else [])


def sharegpt_turn(turn: dict) -> dict:
    """A turn with ShareGPT's names; one that is calls and nothing else is a function_call."""
    names = {"role": "from", "content": "value"}
    renamed = {names.get(key, key): value for key, value in turn.items()} | {"from": SHAREGPT_NAMES[turn["role"]]}
    functions = [call["function"] for call in turn.get(CALLS, ())]
    if not functions or turn["content"].strip() or any("id" in call for call in turn[CALLS]):
        return renamed
    del renamed[CALLS]
    written = json.dumps(functions if len(functions) > 1 else functions[0], ensure_ascii=False)
    return renamed | {"from": "function_call", "value": written}


def write_alpaca(row: dict) -> dict:
    """An exchange, with the ones before it as its history."""
    if row.get("untrained"):
        raise UserError("it holds answers that are not trained, which this format can't say; use prompt_completion")
    return alpaca_row(row["messages"])


CONVERSATION_WRITERS: dict[str, Callable[[dict], dict]] = {
    "messages": write_messages,
    "prompt_completion": write_prompt_completion,
    "alpaca": write_alpaca,
    "sharegpt": write_sharegpt,
}
