"""Rows of one kind written in another format, in the columns that TRL knows.

convert_row({"messages": [...]}, "prompt_completion")

What a format cannot say is refused, never dropped: an Alpaca row has no answers that are not trained. The others mark
them by "weight": 0, which ftkit sft honours.
"""

from collections.abc import Callable, Iterator

from ftkit.config.errors import UserError
from ftkit.data.rows.formats import alpaca_row, as_row, message

SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}
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
            yield {"prompt": row["prompt"], "completion": [message("assistant", row[name])], "label": label}
    elif "rejected" in row and target == "preference":
        answers = {name: [message("assistant", row[name])] for name in ("chosen", "rejected")}
        yield {"prompt": row["prompt"], **answers}
    elif "rejected" in row:
        yield CONVERSATION_WRITERS[target](answered(row["prompt"], row["chosen"]))
    elif target == "kto":
        yield {**content, "completion": [message("assistant", row["completion"])]}
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


def write_prompt_completion(row: dict) -> dict:
    """What is trained, the completion, apart from what is not."""
    answers, untrained = answers_in(row["messages"]), row.get("untrained", ())
    start = next((index for index in answers if index not in untrained), answers[0])
    return {"prompt": row["messages"][:start], "completion": marked(row)[start:]}


def write_sharegpt(row: dict) -> dict:
    """Turns with ShareGPT's names."""
    names = {"role": "from", "content": "value"}
    renamed = [{names.get(key, key): value for key, value in turn.items()} for turn in marked(row)]
    return {"conversations": [turn | {"from": SHAREGPT_NAMES[turn["from"]]} for turn in renamed]}


def write_alpaca(row: dict) -> dict:
    """An exchange, with the ones before it as its history."""
    if row.get("untrained"):
        raise UserError("it holds answers that are not trained, which this format can't say; use prompt_completion")
    return alpaca_row(row["messages"])


CONVERSATION_WRITERS: dict[str, Callable[[dict], dict]] = {
    "messages": lambda row: {"messages": marked(row)},
    "prompt_completion": write_prompt_completion,
    "alpaca": write_alpaca,
    "sharegpt": write_sharegpt,
}
