"""Preference rows (see `ftkit.data.rows.kinds`) as token ids, cut where the answers start.

pairs = tokenize_pairs(rows.train, tokenizer, info, max_length=1024)
"""

import heapq
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Problems, Report
from ftkit.data.rows.conversion import answered
from ftkit.data.rows.kinds import ANSWERS
from ftkit.data.templates.templates import TemplateInfo
from ftkit.data.tokens.tokenization import (
    IGNORE_INDEX,
    NUM_LONGEST_ROWS,
    TokenizedRows,
    encode,
    render_row,
    tokenize_rows,
)

logger = logging.getLogger(__name__)

NUM_LINES_NAMED = 3  # of pairs that are left out


@dataclass
class TokenizedPairs:
    """rows: {"prompt_ids", "chosen_ids", "rejected_ids"} each, cut to max_length in all.

    kept: which of the rows that were read they are. chosen, rejected: the same as whole sequences, with the counts of
    truncation and neutralising. dropped: pairs that were left out, by reason.
    """

    rows: list[dict] = field(default_factory=list)
    chosen: TokenizedRows = field(default_factory=TokenizedRows)
    rejected: TokenizedRows = field(default_factory=TokenizedRows)
    dropped: dict[str, int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer sequence of each pair."""
        return [len(row["prompt_ids"]) + max(len(row[f"{name}_ids"]) for name in ANSWERS) for row in self.rows]

    @property
    def longest(self) -> list[tuple[int, str]]:
        """(tokens before the cut, source) of the longest of the two sequences of each pair."""
        return heapq.nlargest(NUM_LONGEST_ROWS, [*self.chosen.longest, *self.rejected.longest])

    def answer_lengths(self) -> list[list[int]]:
        """Tokens of the chosen answers, and of the rejected ones."""
        return [[len(row[f"{name}_ids"]) for row in self.rows] for name in ANSWERS]

    def counts(self) -> dict:
        """Counts by name, for the receipt: of both answers together, except for the rows, which are pairs."""
        chosen, rejected = self.chosen.counts(), self.rejected.counts()
        del chosen["dropped"], chosen["num_untrained_answers"]  # those of a prompt never are trained
        lengths = self.answer_lengths()
        longer = sum(first > second for first, second in zip(*lengths, strict=True))
        shorter = sum(first < second for first, second in zip(*lengths, strict=True))
        return {name: chosen[name] + rejected[name] for name in chosen} | {
            "num_rows": self.chosen.num_rows,
            "dropped": self.dropped,
            "num_sequences": 2 * len(self.rows),
            "mean_chosen_tokens": sum(lengths[0]) / max(1, len(self.rows)),
            "mean_rejected_tokens": sum(lengths[1]) / max(1, len(self.rows)),
            "num_chosen_longer": longer,
            "num_chosen_shorter": shorter,
        }

    def sequences(self) -> Iterator[dict]:
        """What goes through the model: for each pair the prompt with the chosen, then with the rejected answer."""
        for row in self.rows:
            for name in ANSWERS:
                labels = [IGNORE_INDEX] * len(row["prompt_ids"]) + row[f"{name}_ids"]
                yield {"input_ids": row["prompt_ids"] + row[f"{name}_ids"], "labels": labels}


def tokenize_pairs(
    rows: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo,
    max_length: int | None,
    report: Report | None = None,
    *,
    untrained_rows: str = "refuse",
) -> TokenizedPairs:
    """Tokenize preference rows as `tokenize_rows` does conversations; the answers end with the end-of-turn token.

    Pairs whose answers are equal teach nothing and are left out with a warning. untrained_rows: refuse or drop pairs
    of which no answer token is left.
    report: takes the mistakes; the pairs are then left out. Raises UserError that lists them where there is none.
    """
    if untrained_rows == "keep":
        raise UserError("--untrained_rows keep: a pair needs both answers; use drop")
    problems = Problems()
    report = report or problems.add
    sides = [
        tokenize_rows(
            [conversation(row, name) for row in rows], tokenizer, info, max_length, report,
            untrained_rows=untrained_rows,
        )
        for name in ANSWERS
    ]  # fmt: skip
    problems.raise_any()
    pairs = TokenizedPairs(chosen=sides[0], rejected=sides[1])
    first, second = (dict(zip(side.kept, side.rows, strict=True)) for side in sides)
    equal = []
    for index in sorted(first.keys() & second.keys()):
        try:
            pair = split_pair(first[index], second[index], rows[index]["source"])
        except UserError as mistake:
            report(mistake)
            continue
        if pair["chosen_ids"] == pair["rejected_ids"]:
            equal.append(rows[index]["source"])
        else:
            pairs.rows.append(pair)
            pairs.kept.append(index)
    problems.raise_any()
    num_untrained = len(rows) - len(first.keys() & second.keys())
    reasons = {"chosen and rejected are equal": len(equal), "no token of an answer is left": num_untrained}
    pairs.dropped = {reason: number for reason, number in reasons.items() if number}
    if equal:
        named = ", ".join(equal[:NUM_LINES_NAMED]) + (", ..." if len(equal) > NUM_LINES_NAMED else "")
        logger.warning("%d pairs with equal answers are left out: %s", len(equal), named)
    return pairs


def conversation(row: dict, name: str) -> dict:
    """The prompt with one of its answers, of which only the answer is trained."""
    return answered(row["prompt"], row[name]) | {"source": row["source"]}


def conversation_ids(
    conversations: Sequence[list[dict]], tokenizer: PreTrainedTokenizerBase, info: TemplateInfo
) -> list[list[int]]:
    """The token ids of whole conversations up to the end-of-turn token of their last answer, as pairs are trained.

    Raises UserError, with the conversation's number from 1, for one that does not end with the assistant's turn.
    """
    rendered = []
    for number, messages in enumerate(conversations, 1):
        if not messages or messages[-1]["role"] != "assistant":
            raise UserError(f"conversation {number} does not end with the assistant's turn; add the answer")
        rendered.append(render_row({"messages": messages, "source": f"conversation {number}"}, tokenizer, info))
    sequences = []
    for number, one in enumerate(encode(rendered, tokenizer), 1):
        if not one.answers:
            raise UserError(f"conversation {number}: the template marks no token of its last answer")
        sequences.append(one.input_ids[: one.answers[-1][1] + 1])
    return sequences


def split_pair(chosen: dict, rejected: dict, where: str) -> dict:
    """Split two tokenized rows where their answers start; where a token spans the border, it belongs to the answer."""
    spans = [answer_span(row["labels"]) for row in (chosen, rejected)]
    start = min(spans[0][0], spans[1][0])
    if chosen["input_ids"][:start] != rejected["input_ids"][:start]:
        raise UserError(f"{where}: the prompt becomes different tokens before each answer; choose another --template")
    return {
        "prompt_ids": chosen["input_ids"][:start],
        "chosen_ids": chosen["input_ids"][start : spans[0][1]],
        "rejected_ids": rejected["input_ids"][start : spans[1][1]],
    }


def answer_span(labels: list[int]) -> tuple[int, int]:
    """First trained position, and the one after the last."""
    trained = [position for position, label in enumerate(labels) if label != IGNORE_INDEX]
    return trained[0], trained[-1] + 1
