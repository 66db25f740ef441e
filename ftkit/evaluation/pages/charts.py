"""Charts of a page as places in percent, for the macros of pieces.html; and the loss curve as a PNG."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from ftkit.config.files import whole_file
from ftkit.evaluation.pages.page import is_number, number_text

Points = list[tuple[float, float]]

NUM_TICKS = 5
NUM_DOTTED = 40  # points of a curve up to which each is a dot
LEAST_SPAN = 0.05  # of the largest value: an axis shows no less, which would make noise a mountain
NUM_LINE = 4  # points from which a curve is a line: between fewer ones nothing is known


@dataclass
class Line:
    """A curve. kind: its CSS class. points: in percent from the top left, joined if it has_line. dots: (x, y, radius,
    title).
    """

    name: str
    kind: str
    points: Points
    dots: list[tuple[float, float, float, str]] = field(default_factory=list)
    has_line: bool = True

    @property
    def path(self) -> str:
        """The points as SVG has them."""
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in self.points)


@dataclass
class Chart:
    """across, up: (place in percent, text) of the ticks. unit: of the axis across."""

    label: str
    unit: str
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    lines: list[Line]


class Axis:
    """Round ticks that cover low..high, and where a value stands between the ends.

    tight: the axis ends where the values do, and has the ticks between them.
    """

    def __init__(self, low: float, high: float, *, tight: bool = False):
        self.ticks = ticks(low, high)
        self.low, self.high = (low, high) if tight and low < high else (self.ticks[0], self.ticks[-1])
        self.ticks = [tick for tick in self.ticks if self.low <= tick <= self.high]

    def place(self, value: float) -> float:
        """Percent from the low end."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def loss_points(metrics: list[dict], measure: str = "loss") -> tuple[Points, Points]:
    """(step, loss) and (step, eval_loss), or another measure, of the lines of metrics.jsonl with finite numbers."""

    def points(key: str) -> Points:
        found = [(line.get("step"), line.get(key)) for line in metrics]
        return [(step, value) for step, value in found if is_number(step) and is_number(value)]

    return points(measure), points(f"eval_{measure}")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that cover low..high in about NUM_TICKS steps."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def bounds(values: list[float]) -> tuple[float, float]:
    """The lowest and the highest value, or where these are close a little around them."""
    low, high = min(values), max(values)
    spare = max(0.0, LEAST_SPAN * max(abs(low), abs(high)) - (high - low)) / 2
    return low - spare, high + spare


def loss_chart(train: Points, evaluation: Points, measure: str = "loss") -> Chart | None:
    """Both curves over the updates; None where there is nothing to draw."""
    every = train + evaluation
    if not every:
        return None
    values = [value for _, value in every]
    across, up = Axis(0, max(step for step, _ in every), tight=True), Axis(*bounds(values))
    lines = []
    for name, kind, points, is_dotted in (
        ("training", "train", train, len(train) < NUM_LINE),
        ("evaluation", "eval", evaluation, len(evaluation) <= NUM_DOTTED),
    ):
        placed = [(across.place(step), 100 - up.place(value)) for step, value in points]
        titles = [f"update {step:g}: {name} {measure} {value:.4f}" for step, value in points]
        dots = [(x, y, 4, title) for (x, y), title in zip(placed, titles, strict=True)] if is_dotted else []
        lines += [Line(name, kind, placed, dots, has_line=len(points) >= NUM_LINE)] if points else []
    return Chart(
        f"{measure.capitalize()} by update",
        "update",
        [(across.place(tick), f"{tick:,.0f}") for tick in across.ticks if tick == int(tick)],
        [(100 - up.place(tick), tick_text(tick)) for tick in up.ticks],
        lines,
    )


def tick_text(tick: float) -> str:
    """A tick without the noise of its last digits."""
    return number_text(float(f"{tick:.6g}"))


def save_loss_png(train: Points, evaluation: Points, path: Path, title: str = "") -> None:
    """Draw both curves with matplotlib, without a display and without touching its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points, color in (("training", train, "#4c6ef5"), ("evaluation", evaluation, "#d9480f")):
        if points:
            is_dotted = len(points) < NUM_LINE or name == "evaluation" and len(points) <= NUM_DOTTED
            style = {"marker": "o" if is_dotted else "", "linestyle": "-" if len(points) >= NUM_LINE else ""}
            axes.plot(*zip(*points, strict=True), label=name, color=color, markersize=5, **style)
    axes.set(xlabel="update", ylabel="loss (nats per trained token)")
    low, high = bounds([value for _, value in train + evaluation])
    margin = 0.05 * (high - low) or 0.05
    axes.set_ylim(low - margin, high + margin)
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])
