"""Preference rows as whole conversations, for a reward model: nothing is cut, the end-of-turn token is scored.

pairs = tokenize_whole_pairs(rows.train, tokenizer, info, max_length=1024)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Problems, Report
from ftkit.data.rows.kinds import ANSWERS
from ftkit.data.templates.templates import TemplateInfo
from ftkit.data.tokens.preferences import TokenizedPairs, tokenize_pairs
from ftkit.data.tokens.tokenization import IGNORE_INDEX


@dataclass
class WholePairs(TokenizedPairs):
    """rows: {"chosen_ids", "rejected_ids", "num_prompt_tokens"} each; the ids are those of the whole conversation."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer sequence of each pair."""
        return [max(len(row[f"{name}_ids"]) for name in ANSWERS) for row in self.rows]

    def answer_lengths(self) -> list[list[int]]:
        """Tokens of the chosen answers, and of the rejected ones."""
        return [[len(row[f"{name}_ids"]) - row["num_prompt_tokens"] for row in self.rows] for name in ANSWERS]

    def sequences(self) -> Iterator[dict]:
        """What goes through the model, for each pair the chosen one first; the last token alone is scored."""
        for row in self.rows:
            for name in ANSWERS:
                ids = row[f"{name}_ids"]
                yield {"input_ids": ids, "labels": [IGNORE_INDEX] * (len(ids) - 1) + ids[-1:]}


def tokenize_whole_pairs(
    rows: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo,
    max_length: int | None,
    report: Report | None = None,
    *,
    untrained_rows: str = "refuse",
) -> WholePairs:
    """As `tokenize_pairs`, but for pairs longer than `max_length`: they are mistakes, or counted as dropped.

    report: takes the mistakes; the pairs are then left out. Raises UserError that lists them where there is none.
    """
    problems = Problems()
    report = report or problems.add
    split = tokenize_pairs(rows, tokenizer, info, None, report, untrained_rows=untrained_rows)
    pairs = WholePairs(chosen=split.chosen, rejected=split.rejected, dropped=split.dropped)
    num_long = 0
    for place, row in zip(split.kept, split.rows, strict=True):
        whole = {f"{name}_ids": row["prompt_ids"] + row[f"{name}_ids"] for name in ANSWERS}
        longest = max(map(len, whole.values()))
        if max_length is None or longest <= max_length:
            pairs.rows.append(whole | {"num_prompt_tokens": len(row["prompt_ids"])})
            pairs.kept.append(place)
        elif untrained_rows == "drop":
            num_long += 1
        else:
            report(UserError(
                f"{rows[place]['source']}: a pair of {longest} tokens is longer than {max_length} (--max_length, or "
                "the model's context) and is not cut; raise --max_length, shorten it, or pass --untrained_rows drop"
            ))  # fmt: skip
    if num_long:
        pairs.dropped[f"longer than {max_length} tokens"] = num_long
    problems.raise_any()
    return pairs
