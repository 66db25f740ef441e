"""Prompts (see `ftkit.data.rows.prompts`) as token ids, up to where an answer begins, each with room for one."""

from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.data.templates.templates import TemplateInfo
from ftkit.data.tokens.tokenization import prompt_ids

DROPPED = "no room for an answer"


@dataclass
class TokenizedPrompts:
    """rows: {"prompt": turns, "prompt_ids", "place"} each. kept: their places among the rows that were read."""

    rows: list[dict] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    longest: list[tuple[int, str]] = field(default_factory=list)
    num_rows: int = 0

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(row["prompt_ids"]) for row in self.rows]

    def counts(self) -> dict:
        """Counts by name, for the receipt."""
        num_dropped = self.num_rows - len(self.rows)
        return {
            "num_rows": self.num_rows,
            "dropped": {DROPPED: num_dropped} if num_dropped else {},
            "num_sequences": len(self.rows),
            "num_prompt_tokens": sum(self.lengths),
        }

    def sequences(self) -> list[dict]:
        """The prompts, as other rows are shown: nothing of them is trained."""
        return [{"input_ids": row["prompt_ids"], "labels": [-100] * len(row["prompt_ids"])} for row in self.rows]


def tokenize_prompts(
    rows: list[dict],
    tokenizer: PreTrainedTokenizerBase,
    info: TemplateInfo,
    max_length: int | None,
    *,
    room: int = 1,
    untrained_rows: str = "refuse",
) -> TokenizedPrompts:
    """Render the prompts by the template and tokenize them.

    max_length: of the model's context. room: tokens that an answer may take. untrained_rows: refuse or drop prompts
    that leave less. Raises UserError for those, where they are refused, and where no prompt is left.
    """
    found = TokenizedPrompts(num_rows=len(rows))
    for place, row in enumerate(rows):
        try:
            ids = prompt_ids(row["prompt"], tokenizer, info)
        except UserError as error:
            raise UserError(f"{row['source']}: {error}") from error
        if max_length is not None and len(ids) + room > max_length:
            if untrained_rows != "drop":
                raise UserError(
                    f"{row['source']}: the prompt has {len(ids)} tokens, and with --max_completion_length {room} it is "
                    f"longer than the model's context of {max_length}; lower that, shorten the prompt, or pass "
                    "--untrained_rows drop"
                )
            continue
        found.rows.append({"prompt": row["prompt"], "prompt_ids": ids, "place": place})
        found.kept.append(place)
        found.longest.append((len(ids), row["source"]))
    found.longest.sort(key=lambda one: -one[0])
    if rows and not found.rows:
        raise UserError(f"{rows[0]['source']}: no prompt leaves room for an answer; lower --max_completion_length")
    return found
