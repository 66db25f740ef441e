"""README's chart of speed, drawn from what section C4 of RESULTS.md says.

python tests/benchmarks/speed_chart.py examples/images/speed.png
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).with_name("RESULTS.md")
SECTION = re.compile(r"<!-- C4 -->\n(.*?)<!-- end of C4 -->", re.DOTALL)
ROW = re.compile(r"^\| (ftkit sft|trl sft[^|]*?) \| (\d+) \((\d+) to (\d+)\) \| ([^|]*?) \|", re.MULTILINE)
LITGPT = re.compile(
    r"litgpt (\d+) \((\d+) to (\d+)\) useful tokens/s, ftkit [^,]*, ([\d.]+) times\s+as fast \(([^)]*)\)"
)
NAMES = {"trl sft --use_cpu": "trl sft, defaults"}  # as the chart calls a command; others by their name
OURS, OTHERS = "#4263eb", "#adb5bd"


class Bar(NamedTuple):
    """Useful tokens per second of a command: median, least and most of its rounds; how much faster ftkit is."""

    name: str
    median: int
    low: int
    high: int
    ratio: str


def bars(text: str) -> list[Bar]:
    """What the section measured, the fastest first. Raises ValueError where a command is missing from it."""
    section = SECTION.search(text)
    rows = ROW.findall(section[1]) if section else []
    found = [Bar(NAMES.get(name, name), int(mid), int(low), int(high), ratio) for name, mid, low, high, ratio in rows]
    if litgpt := LITGPT.search(section[1]) if section else None:
        median, low, high = map(int, litgpt.groups()[:3])
        found.append(Bar("litgpt finetune_lora", median, low, high, f"{litgpt[4]} ({litgpt[5]})"))
    if len(found) < 3:
        raise ValueError(f"{RESULTS}: section C4 lacks a command; run tests/benchmarks/run.py --only C4")
    return sorted(found, key=lambda bar: -bar.median)


def draw(found: list[Bar], path: Path) -> None:
    """Horizontal bars with the range of the rounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, bar in enumerate(found):
        axes.barh(
            place, bar.median, color=OURS if bar.name.startswith("ftkit") else OTHERS, height=0.62,
            xerr=[[bar.median - bar.low], [bar.high - bar.median]], capsize=3, ecolor="#343a40",
        )  # fmt: skip
        ratio = f"   ftkit is {bar.ratio.replace(' (', ' times as fast (', 1)}" if bar.ratio else ""
        axes.text(bar.high + 6, place, f"{bar.median}{ratio}", va="center", fontsize=9)
    axes.set_yticks(range(len(found)), [bar.name for bar in found])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12 * max(bar.high for bar in found)))
    axes.set_xlabel("useful tokens per second: median, and range of alternating rounds", fontsize=9)
    axes.set_title(
        "LoRA of SmolLM2-135M on the same rows, 2 CPU cores (ratios: 95 % intervals)", loc="left", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    draw(bars(RESULTS.read_text(encoding="utf-8")), Path(sys.argv[1]))
