"""What replies cost: tokens read and written, at prices per million.

token_line(replies, input_price=0.5, output_price=1.5)
"""

from collections.abc import Sequence
from typing import Protocol


class Counted(Protocol):
    """A reply with its tokens, None where they are unknown."""

    @property
    def input_tokens(self) -> int | None:
        """Tokens that were read."""

    @property
    def output_tokens(self) -> int | None:
        """Tokens that were written."""


def token_line(replies: Sequence[Counted], input_price: float | None, output_price: float | None) -> str:
    """Tokens of all replies, failures included, and what they cost at prices per million."""
    pairs = [(one.input_tokens, one.output_tokens) for one in replies]
    counted = [(asked, answered) for asked, answered in pairs if asked is not None and answered is not None]
    num_unknown = len(replies) - len(counted)
    if num_unknown and not counted:
        return f"tokens and cost unknown: the server counted them for none of {num_unknown:,} replies"
    read, written = sum(asked for asked, _ in counted), sum(answered for _, answered in counted)
    line = f"{read:,} tokens read, {written:,} written"
    if input_price is not None or output_price is not None:
        cost = (read * (input_price or 0.0) + written * (output_price or 0.0)) / 1e6
        line += f", cost {cost:.4f} at the prices given"
    return line + (f"; unknown for {num_unknown:,} more replies" if num_unknown else "")
