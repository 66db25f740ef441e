"""The card of synthetic rows: what made them from what, how many were dropped and why, what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftkit.config.amounts import counted
from ftkit.inference.cost import Counted, token_line
from ftkit.inference.synth.kinds import KINDS

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class CardFacts:
    """What the card says beside the run. model, judge: in words, judge may be "". source: of seeds or documents.

    command: the line that made the rows. prices: of a million tokens read and written.
    """

    model: str
    judge: str
    source: str
    command: str
    held_out: str
    input_price: float | None = None
    output_price: float | None = None


def card_text(kind: str, made: Any, replies: Sequence[Counted], facts: CardFacts, sha256: str) -> str:
    """The text of README.md, with the metadata that the Hub reads. made: a `loop.Made`."""
    num_rows = len(made.drafts)
    size = next((name for limit, name in SIZES if num_rows < limit), "n>1M")
    lines = [
        "---",
        f"pretty_name: synthetic rows, {kind}",
        "language: [en]",
        f"size_categories: [{size}]",
        f"tags: [synthetic, ftkit, {kind}]",
        "configs:",
        "  - config_name: default",
        "    data_files:",
        "      - {split: train, path: train.jsonl}",
        "---",
        f"# {counted(num_rows, 'synthetic row')}: {KINDS[kind].about}",
        "",
        "A model wrote these rows. Rules and counts below say what was filtered; nobody has read them all.",
        "",
        "| | |",
        "|---|---|",
        f"| made from | {facts.source} |",
        f"| model | {facts.model} |",
        *([f"| judge | {facts.judge} |"] if facts.judge else []),
        f"| cost | {token_line(replies, facts.input_price, facts.output_price)} |",
        f"| kept apart from | {facts.held_out} |",
        f"| train.jsonl | sha256 `{sha256}` |",
        "",
        "Each row says under `provenance` which seed or passage it came from, by which model, settings and prompts.",
        "",
        "```bash",
        facts.command,
        "```",
        "",
        *dropped_table(made),
    ]
    return "\n".join(lines) + "\n"


def dropped_table(made: Any) -> list[str]:
    """How many items gave no row, by reason, as a table."""
    num = made.num_items - len(made.drafts)
    lines = [f"Of {counted(made.num_items, 'item')} {num:,} gave no row:", "", "| reason | items |", "|---|---|"]
    lines += [f"| {reason} | {count:,} |" for reason, count in made.dropped.most_common()]
    return lines if num else [f"Every one of {counted(made.num_items, 'item')} gave a row."]
