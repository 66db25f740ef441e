"""Answers that are wanted or not (KTO rows, see `ftkit.data.rows.kinds`) as token ids, and the order they train in.

answers = tokenize_answers(rows.train, tokenizer, info, max_length=1024)
order = interleaved(answers.rows, seed=42)
"""

import random
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Report
from ftkit.data.rows.conversion import answered
from ftkit.data.templates.templates import TemplateInfo
from ftkit.data.tokens.preferences import answer_span
from ftkit.data.tokens.tokenization import TokenizedRows, tokenize_rows


@dataclass
class TokenizedAnswers:
    """rows: {"prompt_ids", "completion_ids", "label"} each. answers: the same as whole sequences, with their counts."""

    rows: list[dict] = field(default_factory=list)
    answers: TokenizedRows = field(default_factory=TokenizedRows)

    @property
    def kept(self) -> list[int]:
        """Which of the rows that were read they are."""
        return self.answers.kept

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return self.answers.lengths

    @property
    def longest(self) -> list[tuple[int, str]]:
        """(tokens before the cut, source) of the longest rows."""
        return self.answers.longest

    @property
    def mix(self) -> tuple[int, int]:
        """Wanted and unwanted answers."""
        wanted = sum(row["label"] for row in self.rows)
        return wanted, len(self.rows) - wanted

    def counts(self) -> dict:
        """Counts by name, for the receipt."""
        counts = self.answers.counts()
        del counts["num_untrained_answers"]  # those of a prompt never are trained
        lengths: dict[bool, list[int]] = {True: [], False: []}
        for row in self.rows:
            lengths[row["label"]].append(len(row["completion_ids"]))
        return counts | {
            "num_wanted": len(lengths[True]),
            "num_unwanted": len(lengths[False]),
            "mean_wanted_tokens": sum(lengths[True]) / max(1, len(lengths[True])),
            "mean_unwanted_tokens": sum(lengths[False]) / max(1, len(lengths[False])),
        }

    def sequences(self) -> list[dict]:
        """What goes through the model."""
        return self.answers.rows


def tokenize_answers(
    rows: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo,
    max_length: int | None,
    report: Report | None = None,
    *,
    untrained_rows: str = "refuse",
) -> TokenizedAnswers:
    """Tokenize KTO rows as `tokenize_rows` does conversations; the answers end with the end-of-turn token.

    untrained_rows: refuse or drop rows of which no answer token is left. Raises UserError as `tokenize_rows` does.
    """
    if untrained_rows == "keep":
        raise UserError("--untrained_rows keep: a label needs its answer; use drop")
    wholes = [answered(row["prompt"], row["completion"]) | {"source": row["source"]} for row in rows]
    tokenized = tokenize_rows(wholes, tokenizer, info, max_length, report, untrained_rows=untrained_rows)
    result = TokenizedAnswers(answers=tokenized)
    for place, row in zip(tokenized.kept, tokenized.rows, strict=True):
        start, end = answer_span(row["labels"])
        ids = row["input_ids"]
        result.rows.append({"prompt_ids": ids[:start], "completion_ids": ids[start:end], "label": rows[place]["label"]})
    return result


def interleaved(rows: list[dict], seed: int) -> list[dict]:
    """The rows mixed by `seed`, wanted and unwanted ones evenly spread, so that each batch holds about their shares.

    The k-th of n rows of a label comes at (k + 1/2) / n of the way.
    """
    places, generator = [], random.Random(seed)
    for label in (True, False):
        own = [row for row in rows if row["label"] == label]
        generator.shuffle(own)
        places += [((number + 0.5) / len(own), row) for number, row in enumerate(own)]
    return [row for _, row in sorted(places, key=lambda place: place[0])]


def with_mismatched(rows: list[dict], batch_size: int) -> list[dict]:
    """The rows with "KL_completion_ids": the answer of the row before in the same batch, of the first the last one's.

    KTO estimates how far the policy is from the reference on answers that do not belong to their prompts
    (arXiv:2402.01306, section 4.1). A last batch of one row takes the answer of the row before it.
    """
    found: list[dict] = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        before = found[-1] if len(batch) == 1 and found else batch[-1]
        for row in batch:
            found.append(row | {"KL_completion_ids": before["completion_ids"]})
            before = row
    return found
