"""The loss curve of a run, as inline SVG for the report and as a PNG."""

import html
import math
from pathlib import Path

Points = list[tuple[float, float]]

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 40  # margins around the plot
NUM_TICKS = 5


def loss_points(metrics: list[dict], measure: str = "loss") -> tuple[Points, Points]:
    """(step, loss) and (step, eval_loss), or another measure, of the lines of metrics.jsonl with finite numbers."""

    def points(key: str) -> Points:
        found = [(line.get("step"), line.get(key)) for line in metrics]
        return [(step, value) for step, value in found if is_number(step) and is_number(value)]

    return points(measure), points(f"eval_{measure}")


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that cover low..high in about NUM_TICKS steps."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def loss_svg(train: Points, evaluation: Points) -> str:
    """Return an <svg> with both curves; colours come from the page's CSS classes. "" where there is nothing to draw."""
    every = train + evaluation
    if not every:
        return ""
    x_ticks = [tick for tick in ticks(0, max(step for step, _ in every)) if tick == int(tick)]
    y_ticks = ticks(min(0.0, *(loss for _, loss in every)), max(loss for _, loss in every))

    def place(step: float, loss: float) -> tuple[float, float]:
        across = (step - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (loss - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Loss by update">']
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, _ = place(tick, y_ticks[0])
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">update</text>')
    for name, points, dots in (("train", train, len(train) == 1), ("eval", evaluation, True)):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline class="line {name}" points="{path}"/>' if len(points) > 1 else "")
        for step, loss in points if dots else []:
            x, y = place(step, loss)
            title = html.escape(f"update {step:g}: {name} loss {loss:.4f}")
            parts.append(f'<circle class="dot {name}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>')
    return "\n".join([*filter(None, parts), "</svg>"])


def save_loss_png(train: Points, evaluation: Points, path: Path) -> None:
    """Draw both curves with matplotlib, without a display and without touching its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if train:
        axes.plot(*zip(*train, strict=True), label="training", color="#4c6ef5", marker="." if len(train) == 1 else "")
    if evaluation:
        axes.plot(*zip(*evaluation, strict=True), label="evaluation", color="#e8590c", marker="o")
    axes.set(xlabel="update", ylabel="loss (nats per trained token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)
