"""The kinds of rows beside conversations, and all kinds together for `ftkit data`.

    preference             a prompt, the answer that is preferred and one that is not
      alpaca               {"instruction", "chosen", "rejected"[, "input"][, "system"]}
      sharegpt             {"conversations", "chosen", "rejected"}: the turns before, and an answer each
      prompt               {"prompt", "chosen", "rejected"}: strings or turns; the answers may repeat the prompt
      messages             {"chosen", "rejected"}: two whole conversations that differ in their last turn, or after
                           those of "messages" an answer each
    kto                    {"prompt", "completion", "label"}: whether the answer is wanted: true or false, 1 or 0, a
                           thumb up or down
    multiple_choice        {"question", "choices", "answer"}: the answer's number from 0, its letter or its text
      columns              the same with the choices in columns choice0, choice1, ... or A, B, ...
    classification         {"text", "label"}: a class by name or by number
    text_pair              texts that belong together, for an embedding model: see `ftkit.data.rows.text_pairs`

Every mistake is a UserError `file:line: reason; fix`.
"""

import logging
import re
from collections import defaultdict

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.rows.columns import RowKind
from ftkit.data.rows.extras import CALL_ROLES, check_columns
from ftkit.data.rows.formats import (
    BESIDE,
    CONVERSATIONS,
    CONVERTERS,
    FORMATS,
    checked_text,
    from_alpaca,
    from_prompt_completion,
    message,
    read_turns,
    with_system,
)
from ftkit.data.rows.text_pairs import TEXT_PAIRS
from ftkit.data.rows.tools import in_one_text

logger = logging.getLogger(__name__)

ANSWERS = ("chosen", "rejected")
PREFERENCE_FORMATS = {
    "sharegpt": (("conversations", "chosen", "rejected"), BESIDE),
    "alpaca": (("instruction", "chosen", "rejected"), ("input", "history", *BESIDE)),
    "prompt": (("prompt", "chosen", "rejected"), BESIDE),
    "messages": (("chosen", "rejected"), ("messages", "prompt", "instruction", *BESIDE)),  # also misspelt
}
ANSWERERS = ("assistant", "gpt", "chatgpt")
NUM_LINES_NAMED = 3  # of pairs that are left out
LETTERS = "ABCDEFGHIJ"
NUMBERED = tuple(f"choice{number}" for number in range(len(LETTERS)))
CHOICE_FORMATS = {
    "choices": (("question", "choices", "answer"), ()),
    "columns": (("question", "choice0", "choice1", "answer"), NUMBERED[2:]),
    "letters": (("question", "A", "B", "answer"), tuple(LETTERS[2:])),
}
CLASS_NUMBER = re.compile(r"[+-]?[0-9]+")
# What says of an answer that it is wanted, or not, beside true and false.
WANTED = ("true", "yes", "1", "+1", "1.0", "up", "thumbs_up", "thumbs up", "👍", "good", "like", "desirable")
UNWANTED = (
    "false", "no", "0", "-1", "0.0", "down", "thumbs_down", "thumbs down", "👎", "bad", "dislike", "undesirable"
)  # fmt: skip


def to_preference(values: dict, format: str, where: str) -> dict:
    """Return {"prompt": messages that end with the user's turn, "chosen": str, "rejected": str}.

    Raises UserError for null, blank or wrongly typed fields, and for conversations that part before their last turn.
    """
    check_columns(values, where)
    prompts = [prompt_and_answer(values, name, format, where) for name in ANSWERS]
    (prompt, chosen), (other, rejected) = prompts
    if prompt != other:
        raise UserError(
            f"{where}: chosen and rejected part before their last turn; give both the same conversation up to there"
        )
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


class EqualPairs:
    """Counts pairs whose answers are equal: they teach nothing and are left out in training."""

    def __init__(self):
        self.num_rows, self.num_equal, self.first = 0, 0, []

    def add(self, row: dict) -> None:
        """Look at one more row; see `Summary`."""
        self.num_rows += 1
        if "rejected" in row and row["chosen"] == row["rejected"]:
            self.num_equal += 1
            if len(self.first) < NUM_LINES_NAMED:
                self.first.append(row["source"])

    def mistakes(self) -> list[UserError]:
        """One mistake where every pair has equal answers."""
        if not self.num_equal or self.num_equal < self.num_rows:
            return []
        return [
            UserError(f"{self.first[0]}: chosen and rejected are equal, here and in every other row; let them differ")
        ]

    def notes(self) -> list[str]:
        """How many pairs are left out, and the first of them."""
        if not self.num_equal:
            return []
        named = ", ".join(self.first) + (", ..." if self.num_equal > len(self.first) else "")
        return [f"{self.num_equal:,} pairs have equal answers and are left out in training: {named}"]


PREFERENCES = RowKind(PREFERENCE_FORMATS, to_preference, EqualPairs)


def prompt_and_answer(values: dict, name: str, format: str, where: str) -> tuple[list[dict], str]:
    """The conversation up to the answer called `name`, and the answer."""
    place = f"{where}: {name}"
    row = with_system(read_turns(whole_conversation(values, name, format, where), place, name), values, where)
    turns = row["messages"]
    if turns[-1]["role"] != "assistant":
        raise UserError(f"{place} ends with a {turns[-1]['role']} turn; end it with the assistant's")
    if len(turns) - 1 in row.get("untrained", ()):
        raise UserError(f"{place} is marked as not trained, but a pair trains both answers; delete the mark or the row")
    return turns[:-1], in_one_text(turns[-1])


def whole_conversation(values: dict, name: str, format: str, where: str) -> list:
    """The turns, as written, of the conversation that ends with the answer called `name`."""
    before, answer = turns_before(values, format, where), values[name]
    if isinstance(answer, list) and (before is None or not begins_with_answer(answer)):
        texts = [text_of(turn) for turn in answer]
        if format != "messages" and not all(text_of(turn) in texts for turn in before):
            raise UserError(
                f"{where}: {name} is a whole conversation, but not of the prompt; give the answer alone, or no prompt"
            )
        return answer
    if before is None:
        return answer  # which is not a list of turns, as reading it says
    if not isinstance(answer, list):
        answer = [answer if isinstance(answer, dict) else message("assistant", checked_text(answer, name, where))]
    if len(answer) != 1:
        raise UserError(f"{where}: {name} has {len(answer)} turns; give one, and move the others to the prompt")
    return [*before, *answer]


def turns_before(values: dict, format: str, where: str) -> list | None:
    """The turns before the answers, as written; None where the answers hold them."""
    if format == "alpaca":
        return from_alpaca({**values, "output": "?"}, where)["messages"][:-1]
    column = {"sharegpt": "conversations", "prompt": "prompt"}.get(format, "messages")
    before = values.get(column)
    if isinstance(before, list) or (before is None and format == "messages"):
        return before
    return [message("user", checked_text(before, column, where))]


def begins_with_answer(turns: list) -> bool:
    """Whether the first of some turns, as written, is the assistant's, or no turn at all."""
    first = turns[0] if turns else None
    return not isinstance(first, dict) or first.get("role", first.get("from")) in (*ANSWERERS, *CALL_ROLES)


def text_of(turn) -> str:
    """The text of a turn, as written, without spaces around it."""
    return str(turn.get("content", turn.get("value"))).strip() if isinstance(turn, dict) else ""


def to_kto(values: dict, format: str, where: str) -> dict:
    """Return {"prompt": messages that end with the user's turn, "completion": str, "label": bool}."""
    check_columns(values, where)
    row = from_prompt_completion(values, where)
    turns = row["messages"]
    if len(turns) - 1 in row.get("untrained", ()):
        raise UserError(f"{where}: the answer is marked as not trained; delete the mark or the row")
    if turns[-1]["role"] != "assistant" or (isinstance(values["completion"], list) and len(values["completion"]) != 1):
        raise UserError(f"{where}: completion must be one assistant turn; move the others to the prompt")
    return {"prompt": turns[:-1], "completion": in_one_text(turns[-1]), "label": is_wanted(values["label"], where)}


def is_wanted(label, where: str) -> bool:
    """Whether a label says that its answer is wanted; raise UserError for one that says neither."""
    text = str(label).strip().lower()
    if text in WANTED or text in UNWANTED:
        return text in WANTED
    shown = "null" if label is None else f"{type(label).__name__} {label}"
    raise UserError(
        f'{where}: "label" must be true or false (or 1 or 0, up or down), got {shown}; say whether the answer is wanted'
    )


LABELLED_CONVERSATIONS = {  # rows of conversations, whose last answer has a label
    f"kto_{name}": ((*FORMATS[name][0], "label"), FORMATS[name][1]) for name in ("messages", "sharegpt", "alpaca")
}
KTO = RowKind({"kto": (("prompt", "completion", "label"), BESIDE)}, to_kto)


def to_labelled_answer(values: dict, format: str, where: str) -> dict:
    """A KTO row, also of a conversation with a label, or a preference, which `unpaired` makes two of."""
    if format not in LABELLED_CONVERSATIONS:
        return to_kto(values, format, where) if format in KTO.formats else to_preference(values, format, where)
    check_columns(values, where)
    row = CONVERTERS[format.removeprefix("kto_")](values, where)
    turns = row["messages"]
    if turns[-1]["role"] != "assistant":
        raise UserError(f"{where}: the row ends with a {turns[-1]['role']} turn; end it with the answer of the label")
    if len(turns) - 1 in row.get("untrained", ()):
        raise UserError(f"{where}: the answer is marked as not trained; delete the mark or the row")
    return {"prompt": turns[:-1], "completion": in_one_text(turns[-1]), "label": is_wanted(values["label"], where)}


def unpaired(rows: list[dict]) -> list[dict]:
    """KTO rows: of a preference its chosen answer, wanted, and its rejected one, unwanted.

    Pairs whose answers are equal say nothing and are left out; these and contradictions are warned of.
    """
    found, equal = [], EqualPairs()
    for row in rows:
        equal.add(row)
        if "label" in row:
            found.append(row)
        elif row["chosen"] != row["rejected"]:
            shared = {"prompt": row["prompt"], "source": row["source"]}
            found += [shared | {"completion": row[name], "label": name == "chosen"} for name in ANSWERS]
    for note in (*equal.notes(), *contradictions(found)):
        logger.warning(note)
    return found


def contradictions(rows: list[dict]) -> list[str]:
    """A note of the answers to one prompt that are wanted in one KTO row and unwanted in another."""
    labels = defaultdict(set)
    for row in rows:
        labels[f"{row['prompt']}\0{row['completion']}"].add(row["label"])
    number = sum(len(both) == 2 for both in labels.values())
    return [f"{counted(number, 'answer')} marked both as wanted and as unwanted"] if number else []


# What `ftkit kto` takes.
LABELLED_ANSWERS = RowKind(
    KTO.formats | LABELLED_CONVERSATIONS | PREFERENCE_FORMATS, to_labelled_answer, EqualPairs, unpaired
)


def to_multiple_choice(values: dict, format: str, where: str) -> dict:
    """Return {"question": str, "choices": list of at least two texts, "answer": number of the right one, from 0}."""
    question = checked_text(values["question"], "question", where)
    if format == "choices":
        choices = values["choices"]
        if not isinstance(choices, list):
            raise UserError(f'{where}: "choices" must be a list, got {type(choices).__name__}; write ["...", "..."]')
        names = [f"choice {number}" for number in range(len(choices))]
    else:
        names = [name for name in (NUMBERED if format == "columns" else LETTERS) if values.get(name) not in (None, "")]
        choices = [values[name] for name in names]
    choices = [checked_text(choice, name, where) for choice, name in zip(choices, names, strict=True)]
    if not 2 <= len(choices) <= len(LETTERS):
        raise UserError(f"{where}: a question has 2 to {len(LETTERS)} choices, got {len(choices)}; give as many")
    if len(set(choices)) < len(choices):
        twice = next(choice for choice in choices if choices.count(choice) > 1)
        raise UserError(f'{where}: the choice "{twice}" appears twice; let them differ')
    return {"question": question, "choices": choices, "answer": right_choice(values["answer"], choices, where)}


def right_choice(answer, choices: list[str], where: str) -> int:
    """The number of the right choice; raise UserError if `answer` is no number, letter or text of one."""
    text = answer.strip() if isinstance(answer, str) else None
    if text in choices:
        return choices.index(text)
    if text and text in LETTERS[: len(choices)]:
        return LETTERS.index(text)
    number = int(text) if text and text.isdecimal() and text.isascii() else answer
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(choices):
        return number
    shown = "null" if answer is None else repr(answer)
    allowed = f"a number from 0 to {len(choices) - 1}, a letter from A to {LETTERS[len(choices) - 1]}, or a choice"
    raise UserError(f'{where}: "answer" is {shown}; give {allowed}')


MULTIPLE_CHOICE = RowKind(CHOICE_FORMATS, to_multiple_choice)


def to_labelled(values: dict, format: str, where: str) -> dict:
    """Return {"text": str, "label": a name or a class number}."""
    return {"text": checked_text(values["text"], "text", where), "label": checked_label(values["label"], where)}


def to_unlabelled(values: dict, format: str, where: str) -> dict:
    """Return {"text": str}, with "label" where there is one."""
    text, label = {"text": checked_text(values["text"], "text", where)}, values.get("label")
    return text if label in (None, "") else text | {"label": checked_label(label, where)}


def checked_label(value, where: str) -> str | int:
    """Return a class number, also where it is written as text, or a name without spaces around it.

    Raises UserError for anything else.
    """
    if value is None:
        raise UserError(f'{where}: "label" is null; fill it in or delete the row')
    if isinstance(value, bool) or not isinstance(value, str | int):
        shown = str(value).lower() if isinstance(value, bool) else f"{type(value).__name__} {value}"
        raise UserError(f'{where}: "label" must be a name or a class number, got {shown}; write 0, 1, ... or names')
    name = str(value).strip()
    if not name:
        raise UserError(f'{where}: "label" is empty; fill it in or delete the row')
    return int(name) if CLASS_NUMBER.fullmatch(name) else name


LABELLED = RowKind({"classification": (("text", "label"), ())}, to_labelled)
# What a classifier is asked about: a label may stand beside the text, and need not.
UNLABELLED = RowKind({"text": (("text",), ("label",))}, to_unlabelled)
# In the order in which a row of several kinds is reported: the one with more columns first.
KINDS = {
    "preference": PREFERENCES,
    "kto": KTO,
    "multiple_choice": MULTIPLE_CHOICE,
    "classification": LABELLED,
    "conversation": CONVERSATIONS,
    "text_pair": TEXT_PAIRS,
}


def shown_formats() -> dict[str, tuple[str, str]]:
    """Name of each format in `ftkit data` -> (kind, format there)."""
    shown = {}
    for kind, rows in KINDS.items():
        for format in rows.formats:
            alone = kind == "conversation" or len(rows.formats) == 1
            shown[format if alone else f"{kind} ({format})"] = (kind, format)
    return shown


SHOWN_FORMATS = shown_formats()


def format_options() -> list[str]:
    """What `--format` of `ftkit data` takes."""
    return ["auto", *(kind for kind in KINDS if kind != "conversation"), *CONVERSATIONS.formats]


def kind_of(shown: str) -> str:
    """The kind of rows that a shown format stands for."""
    return SHOWN_FORMATS[shown][0]


def select_kind(option: str = "auto") -> RowKind:
    """The rows that `--format` allows, as one kind; its formats have the names that are shown.

    Raises UserError for an option that is not known.
    """
    options = format_options()
    if option not in options:
        raise UserError(f'unknown format "{option}"{did_you_mean(option, options)}; allowed: {", ".join(options)}')
    if option in CONVERSATIONS.formats:  # preferences have formats of the same names
        return one_kind([option])
    return one_kind(
        [shown for shown, (kind, format) in SHOWN_FORMATS.items() if option in ("auto", kind, format, shown)]
    )


def asking_kind() -> RowKind:
    """All rows that ask something and know the answer; see `questions.question_and_answer`."""
    asking = ("preference", "kto", "conversation")
    return one_kind([shown for shown, (kind, _) in SHOWN_FORMATS.items() if kind in asking and shown != "text"])


def one_kind(allowed: list[str]) -> RowKind:
    """The rows of several shown formats as one kind."""

    def convert(values: dict, shown: str, where: str) -> dict:
        kind, format = SHOWN_FORMATS[shown]
        return KINDS[kind].convert(values, format, where)

    formats = {shown: KINDS[SHOWN_FORMATS[shown][0]].formats[SHOWN_FORMATS[shown][1]] for shown in allowed}
    return RowKind(formats, convert, EqualPairs)
