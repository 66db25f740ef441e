"""Turns rows into token ids and labels: the answers and their end tokens are trained, everything else is context.

tokenized = tokenize_rows(rows.train, tokenizer, info, max_length=1024)
prompt = prompt_ids([{"role": "user", "content": "Hi"}], tokenizer, info)
"""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Problems, Report
from ftkit.data.rows.thoughts import CLOSES, THOUGHT
from ftkit.data.rows.tools import CALLS, with_tools
from ftkit.data.templates.rendering import RewritesEarlier, Span, render
from ftkit.data.templates.templates import (
    Neutraliser,
    TemplateInfo,
    plain_text_info,
    prepare_messages,
    render_training,
)

IGNORE_INDEX = -100  # label that cross-entropy skips
ROWS_PER_BATCH = 1000  # rows handed to the tokenizer at once
NUM_LONGEST_ROWS = 5


class Rendered(NamedTuple):
    """A row as text. spans: trained characters, one span per answer. num_changes: neutralised places.

    num_untrained: answers that the row says are not trained. num_altered: trained ones that are not rendered whole.
    thoughts: characters of the thoughts, with their tags, that trained answers begin with. num_calls: calls of tools in
    trained answers; num_results: results of tools, which are context. is_part: it is one of several texts of its row.
    """

    text: str
    spans: list[Span]
    num_changes: int = 0
    is_text_row: bool = False
    num_untrained: int = 0
    num_altered: int = 0
    thoughts: tuple[Span, ...] = ()
    num_calls: int = 0
    num_results: int = 0
    is_part: bool = False


class Encoded(NamedTuple):
    """A row as tokens. answers: trained tokens [first, last], one pair per answer. thoughts: those of thoughts."""

    input_ids: list[int]
    answers: list[tuple[int, int]]
    thoughts: list[tuple[int, int]] = []  # noqa: RUF012 - nothing is put into it


@dataclass
class TokenizedRows:
    """rows: {"input_ids", "labels"} each, in order, cut to max_length. The counts cover all of them.

    kept: which of the rows that were read they are; one that becomes several stands there as often. num_rows: rows that
    were read. dropped: how many of them were left out, by reason. num_trained_tokens: labels that are scored.
    num_end_tokens_trained: those that end a turn. num_truncated_rows: rows that were cut. num_answers_cut: answers that
    lost words. num_end_tokens_lost: answers that lost their end token. num_untrained_answers: answers that their rows
    say are context. num_altered_answers: of which the template cuts a part, such as the indent of code or a thought.
    num_thoughts: trained answers that begin with a thought; num_thought_tokens: trained tokens of these thoughts.
    num_calls: calls of tools that are trained; num_results: results of tools, which never are. num_parts: texts of rows
    that became one for each answer, as their template renders earlier answers differently.
    num_neutralised_rows: rows whose messages held a control token or a heading.
    num_control_text_rows: plain-text rows that hold control tokens, which are kept.
    longest: (tokens before the cut, source) of the longest rows.
    """

    rows: list[dict] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    longest: list[tuple[int, str]] = field(default_factory=list)
    num_rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    num_trained_tokens: int = 0
    num_end_tokens_trained: int = 0
    num_truncated_rows: int = 0
    num_answers_cut: int = 0
    num_end_tokens_lost: int = 0
    num_untrained_answers: int = 0
    num_altered_answers: int = 0
    num_thoughts: int = 0
    num_thought_tokens: int = 0
    num_calls: int = 0
    num_results: int = 0
    num_parts: int = 0
    num_neutralised_rows: int = 0
    num_control_text_rows: int = 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row["input_ids"]) for row in self.rows]

    def sequences(self) -> list[dict]:
        """What goes through the model: the rows."""
        return self.rows

    def counts(self) -> dict:
        """The counts by name, for the receipt, with the number of sequences that the rows make."""
        counts = {name: value for name, value in vars(self).items() if name not in ("rows", "kept", "longest")}
        return {**counts, "num_sequences": len(self.rows), "num_tokens": sum(self.lengths)}

    def add(self, row: dict, text: Rendered, encoded: Encoded, max_length: int | None, end_of_turn_id: int) -> None:
        """Take in the next row, cut to `max_length`, and count it."""
        cut = truncate(encoded, max_length)
        labels, length = labels_of(cut), len(cut.input_ids)
        self.rows.append({"input_ids": cut.input_ids, "labels": labels})
        self.longest.append((len(encoded.input_ids), row.get("source", "row")))
        self.num_trained_tokens += sum(last + 1 - first for first, last in cut.answers)
        self.num_end_tokens_trained += labels.count(end_of_turn_id)
        self.num_truncated_rows += length < len(encoded.input_ids)
        self.num_answers_cut += sum(last > length for _, last in encoded.answers)
        self.num_end_tokens_lost += sum(last >= length for _, last in encoded.answers)
        self.num_untrained_answers += text.num_untrained
        self.num_altered_answers += text.num_altered
        self.num_thoughts += len(cut.thoughts)
        self.num_thought_tokens += sum(last + 1 - first for first, last in cut.thoughts)
        self.num_calls += text.num_calls
        self.num_results += text.num_results
        self.num_parts += text.is_part
        self.num_control_text_rows += bool(text.num_changes) and text.is_text_row
        self.num_neutralised_rows += bool(text.num_changes) and not text.is_text_row


class CountedRows:
    """The counts of tokenized rows, added up batch by batch without the rows. longest: as of TokenizedRows."""

    def __init__(self):
        self.longest: list[tuple[int, str]] = []
        self.totals: dict[str, int] = {}
        self.dropped: dict[str, int] = {}

    def add(self, tokenized) -> None:
        """Count what came of one batch, a TokenizedRows or alike."""
        self.longest = heapq.nlargest(NUM_LONGEST_ROWS, [*self.longest, *tokenized.longest])
        counts = tokenized.counts()
        for sums, values in ((self.totals, counts), (self.dropped, counts["dropped"])):
            for name, value in values.items():
                if isinstance(value, int):
                    sums[name] = sums.get(name, 0) + value

    def counts(self) -> dict:
        """The counts by name."""
        return {**self.totals, "dropped": self.dropped}


def tokenize_rows(
    rows: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo | None,
    max_length: int | None,
    report: Report | None = None,
    *,
    untrained_rows: str = "refuse",
) -> TokenizedRows:
    """Tokenize rows as {"input_ids", "labels"}, cut to `max_length` tokens, and count what that changed.

    rows: {"messages"} (or {"text"}: everything is trained, and the eos token is appended), optionally with "source",
    and with the positions of answers that are "untrained". info may be None for text rows. Labels are IGNORE_INDEX
    outside answers and their end tokens.
    A row that the template refuses is a mistake, with the row's "file:line", and so is one of which no token is trained
    unless `untrained_rows` (refuse, drop or keep) says otherwise.
    report: takes the mistakes; the rows are then left out. Raises UserError that lists them where there is none.
    """
    result, problems = TokenizedRows(), Problems()
    report = report or problems.add
    info = info or plain_text_info(tokenizer)
    for start in range(0, len(rows), ROWS_PER_BATCH):
        batch, rendered = [], []
        for number, row in enumerate(rows[start : start + ROWS_PER_BATCH], start):
            try:
                texts = render_all(row, tokenizer, info)
                rendered += texts
                batch += [(number, row)] * len(texts)
            except UserError as mistake:
                report(mistake)
        for (number, row), text, encoded in zip(batch, rendered, encode(rendered, tokenizer), strict=True):
            reason, fix = why_untrained(text, encoded, max_length)
            if reason and untrained_rows == "refuse":
                report(UserError(f"{row.get('source', 'row')}: {reason}{fix}, or pass --untrained_rows drop"))
            elif reason and untrained_rows == "drop":
                result.dropped[reason] = result.dropped.get(reason, 0) + 1
            else:
                result.kept.append(number)
                result.add(row, text, encoded, max_length, info.end_of_turn_id)
    problems.raise_any()
    result.num_rows = len(rows)
    result.longest = heapq.nlargest(NUM_LONGEST_ROWS, result.longest)
    return result


def prompt_ids(
    messages: Sequence[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo,
    *,
    tools: Sequence[Mapping] = (),
    settings: Mapping | None = None,
    add_generation_prompt: bool = True,
) -> list[int]:
    """Return the token ids of a prompt that ends where the assistant's answer begins.

    The messages are neutralised as in training; a prefix of what training renders for the same conversation.
    tools: beside those that the system turn holds. settings: further variables of the template.
    Raises UserError for tools, calls and results without a place in the template.
    """
    prepared, _ = prepare_messages(with_tools(messages, tools), tokenizer, info)
    given = Neutraliser(info).value(settings or {})
    text = render(prepared, tokenizer, add_generation_prompt, settings=given)
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def render_all(row: dict, tokenizer: PreTrainedTokenizerBase, info: TemplateInfo) -> list[Rendered]:
    """The row as text; where the template renders an earlier answer differently once more turns follow, a text for each
    trained answer, which ends with it."""
    try:
        return [render_row(row, tokenizer, info)]
    except RewritesEarlier:
        if len(trained_answers(row)) < 2:
            raise
    parts = []
    for index in trained_answers(row):
        earlier = [place for place, turn in enumerate(row["messages"][:index]) if turn["role"] == "assistant"]
        part = {**row, "messages": row["messages"][: index + 1], "untrained": earlier}
        parts.append(render_row(part, tokenizer, info)._replace(num_untrained=0, is_part=True))
    return [parts[0]._replace(num_untrained=len(row.get("untrained", ()))), *parts[1:]]


def trained_answers(row: dict) -> list[int]:
    """Places of the answers that are trained."""
    untrained = row.get("untrained", ())
    answers = (place for place, turn in enumerate(row["messages"]) if turn["role"] == "assistant")
    return [place for place in answers if place not in untrained]


def render_row(row: dict, tokenizer: PreTrainedTokenizerBase, info: TemplateInfo) -> Rendered:
    """Render a row as text with its trained characters."""
    if "text" in row:
        # Kept as written: text often holds rendered conversations, and it has no turns that could be forged.
        text = row["text"].removesuffix(tokenizer.eos_token)
        num_controls = sum(token in text for token in info.control_strings)
        text += tokenizer.eos_token
        return Rendered(text, [(0, len(text))], num_controls, is_text_row=True)
    where, untrained = row.get("source", "row"), row.get("untrained", ())
    try:
        messages, num_changes = prepare_messages(row["messages"], tokenizer, info)
        text, spans = render_training(messages, tokenizer, info, untrained)
    except RewritesEarlier as error:
        raise RewritesEarlier(f"{where}: {error}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if untrained:
        if len(spans) != len(answers):
            raise UserError(
                f"{where}: the template marks {len(spans)} of {len(answers)} answers, so it is not "
                "known which one is left out; choose another --template"
            )
        kept = [pair for pair in zip(answers, spans, strict=True) if pair[0] not in untrained]
        answers, spans = [index for index, _ in kept], [span for _, span in kept]
    pairs = [
        (messages[index], span) for index, span in zip(answers, spans, strict=False)
    ]  # a template may mark other turns than these
    thoughts = (thought_span(text, span, message[THOUGHT]) for message, span in pairs if message.get(THOUGHT))
    return Rendered(
        text, spans, num_changes, num_untrained=len(untrained),
        num_altered=sum(not is_whole(message, text[start:end]) for message, (start, end) in pairs),
        thoughts=tuple(filter(None, thoughts)),
        num_calls=sum(len(message.get(CALLS, ())) for message, _ in pairs),
        num_results=sum(message["role"] == "tool" for message in messages),
    )  # fmt: skip


def thought_span(text: str, answer: Span, thought: str) -> Span | None:
    """Characters of the thought that an answer begins with, up to the tag that ends it; None where it is left out."""
    place = text.find(thought.strip(), *answer)
    if place < 0:
        return None
    end = place + len(thought.strip())
    tag = text.find(CLOSES, end, answer[1])
    return answer[0], (tag + len(CLOSES) if tag >= 0 and not text[end:tag].strip() else end)


def is_whole(message: dict, rendered: str) -> bool:
    """Whether a rendered answer holds all of the answer and its thought."""
    return message["content"] in rendered and message.get(THOUGHT, "").strip() in rendered


def encode(rendered: list[Rendered], tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """Tokenize rendered rows; spans of characters become spans of tokens through the tokenizer's offsets.

    A token that holds characters of an answer belongs to it, also where it begins before the answer.
    """
    encoded = [None] * len(rendered)
    for is_text_row in (False, True):
        indices = [index for index, item in enumerate(rendered) if item.is_text_row == is_text_row]
        if not indices:
            continue
        texts = [rendered[index].text for index in indices]
        # A rendered template holds its own special tokens; plain text gets the tokenizer's (a BOS, if it has one).
        batch = tokenizer(texts, add_special_tokens=is_text_row, return_offsets_mapping=True, verbose=False)
        for index, ids, offsets in zip(indices, batch["input_ids"], batch["offset_mapping"], strict=True):
            if is_text_row:
                encoded[index] = Encoded(ids, [(0, len(ids) - 1)])
            else:
                spans = (rendered[index].spans, rendered[index].thoughts)
                encoded[index] = Encoded(ids, *(token_spans(offsets, some) for some in spans))
    return encoded


def token_spans(offsets: list[Span], spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Return (first, last) token of each span of characters; a span without a token is left out.

    offsets: characters [start, end) of each token, in order. The bytes of one character may be several tokens.
    """
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    found = []
    for start, end in spans:
        first, last = bisect_right(ends, start), bisect_left(starts, end) - 1
        if first <= last:
            found.append((first, last))
    return found


def labels_of(encoded: Encoded) -> list[int]:
    """The ids where an answer is, IGNORE_INDEX elsewhere."""
    labels = [IGNORE_INDEX] * len(encoded.input_ids)
    for first, last in encoded.answers:
        labels[first : last + 1] = encoded.input_ids[first : last + 1]
    return labels


def why_untrained(rendered: Rendered, encoded: Encoded, max_length: int | None) -> tuple[str, str]:
    """Why no token of a row is trained, and what to do about it; two empty strings if one is."""
    if rendered.num_untrained and not rendered.spans:
        return "every answer of this row has weight 0", "; give one weight 1, delete the row"
    if not encoded.answers:
        return "the template marks no token of this row as an answer", "; choose another --template"
    num_prompt_tokens = encoded.answers[0][0]
    if max_length is None or num_prompt_tokens < max_length:
        return "", ""
    return (
        f"no answer token is left after --max_length {max_length}",
        f" (the prompt alone has {num_prompt_tokens} tokens); raise --max_length, shorten the prompt",
    )


def truncate(encoded: Encoded, max_length: int | None) -> Encoded:
    """Keep the first `max_length` tokens."""
    if max_length is None or len(encoded.input_ids) <= max_length:
        return encoded
    spans = (encoded.answers, encoded.thoughts)
    cut = ([(first, min(last, max_length - 1)) for first, last in some if first < max_length] for some in spans)
    return Encoded(encoded.input_ids[:max_length], *cut)
