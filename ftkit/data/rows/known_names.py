"""Names that files give the columns of a form, such as Question and Answer, and how they are read.

known_names(("Question", "Answer"), FORMATS)      # {"Question": "instruction", "Answer": "output"}

A name is taken only where all columns of a form are found so, and it is said. What is not known is asked for.
"""

import re
import shlex
from collections.abc import Iterable

# Column of a form -> what files call it, beside its own name in other letters.
KNOWN_NAMES = {
    "instruction": ("question", "query", "task", "user", "human", "q", "problem", "prompt", "input", "request"),
    "output": (
        "answer", "response", "reply", "completion", "assistant", "a", "solution", "target", "expected_output"
    ),
    "input": ("context",),
    "system": ("system_prompt",),
    "prompt": ("question", "query", "instruction", "input", "user", "human"),
    "completion": ("response", "answer", "output", "reply", "assistant"),
    "messages": ("conversation", "dialogue", "dialog", "chat"),
    "chosen": ("chosen_response", "preferred", "accepted", "chosen_answer"),
    "rejected": ("rejected_response", "dispreferred", "rejected_answer"),
    "anchor": ("question", "query", "sentence1", "sentence_1", "sentence_a", "premise", "text1", "title"),
    "positive": (
        "passage", "document", "pos", "answer", "context", "sentence2", "sentence_2", "sentence_b", "text2", "response",
        "hypothesis", "body",
    ),
    "negative": ("hard_negative", "negatives", "neg", "negative_passage", "negative_document", "sentence3"),
    "text": (
        "sentence", "review", "message", "comment", "content", "body", "email", "mail", "sms", "tweet", "document",
        "input", "utterance", "post",
    ),
    "label": ("class", "category", "sentiment", "target", "intent", "labels", "spam", "kto_tag", "thumbs", "desirable"),
}  # fmt: skip
CHOICES = ({"choices"}, {"options"}, {"a", "b"}, {"choice0", "choice1"})  # columns of questions with choices
# What a file may hold, in the order in which it is proposed.
PROPOSED = (
    ("instruction", "output"), ("anchor", "positive"), ("text", "label"), ("prompt", "chosen", "rejected"), ("text",)
)  # fmt: skip
LONGEST_NAME = 40  # characters that a column's name has, at most
NUMBERS = ("id", "idx", "index", "no", "nr", "number", "")  # columns that only count rows


def known_names(keys: Iterable[str], formats: dict, *, format: str | None = None) -> dict[str, str]:
    """Name in the file -> column of a form, of those that differ; empty where the row fits as it is, or fits no form.

    formats: a table of them. format: the only one that may be meant. Where several fit, the one whose own names are
    there most counts. A form of a single column is taken only where there is no other.
    """
    keys = [key for key in keys if isinstance(key, str)]
    spelled = {key: key.strip().lower().replace(" ", "_").replace("-", "_") for key in keys}
    has_choices = any(columns <= set(spelled.values()) for columns in CHOICES)
    allowed = {format: formats[format]} if format else formats
    found = []
    for required, optional in allowed.values():
        named = {column: column_in(spelled, column, required, optional) for column in (*required, *optional)}
        if all(named[column] for column in required):
            own = sum(spelled[named[column]] == column for column in required)
            other_names = {name: column for column, name in named.items() if name and name != column}
            if own == len(required) or not has_choices and (required != ("text",) or len(allowed) == 1):
                found.append((own, len(required), {} if set(required) <= set(keys) else other_names))
    return max(found, key=lambda one: one[:2])[2] if found else {}


def column_in(spelled: dict[str, str], column: str, required: tuple, optional: tuple) -> str | None:
    """The one name in the file that stands for a column of a form; None where none does, or several do."""
    if column in spelled:
        return column
    own = [key for key, word in spelled.items() if word == column]
    if column not in required and column not in ("input", "system"):
        return None
    taken = {word for word in spelled.values() if word in required}  # columns of the form by their own names
    others = [key for key, word in spelled.items() if word in KNOWN_NAMES.get(column, ()) and word not in taken]
    names = own or [key for key in others if spelled[key] not in optional] or others
    return names[0] if len(names) == 1 else None


def names_note(names: dict[str, str], ignored: Iterable[str] = ()) -> str:
    """What is said of names that were taken. names: in the file -> column. ignored: columns that no form uses."""
    pairs = ", ".join(f"{column}={name}" for name, column in names.items())
    unused = f"; not used: {', '.join(ignored)}" if ignored else ""
    return f"columns read as: {pairs}{unused}; --columns changes it"


def proposal(keys: Iterable[str], formats: dict) -> str:
    """What to write after --columns for a file with these names, as far as one can guess; "" where nothing fits."""
    names = [str(key) for key in keys if str(key).strip().lower() not in NUMBERS]
    forms = [set(required) for required, _ in formats.values()]
    columns = next((one for one in PROPOSED if set(one) in forms and len(one) <= len(names)), None)
    if columns is None:
        return ""
    if any(len(name) > LONGEST_NAME for name in names):  # a first line that is no header
        names = [str(number) for number in range(1, len(columns) + 1)]
    pairs = ",".join(f"{column}={name}" for column, name in zip(columns, names, strict=False))
    return pairs if re.fullmatch(r"[\w=,]+", pairs) else shlex.quote(pairs)
