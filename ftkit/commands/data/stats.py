"""Shows what rows look like: lengths, characters, the first words of answers; as text and as a picture.

ftkit data stats rows.jsonl --output stats.png
"""

from collections import Counter
from pathlib import Path

from ftkit.commands.data.common import load_table, load_text_side, row_parser, share
from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.files import check_file, whole_file
from ftkit.data.cleaning.describing import PERCENTILES, Description, character_name, describe, parts_of, percentiles

NUM_WORDS, NUM_CHARACTERS = 10, 8  # that are shown
COLORS = ("#4c6ef5", "#e8590c", "#2b8a3e", "#868e96")
PICTURES = (".png", ".svg", ".pdf")


def main(argv: list[str]) -> None:
    """Print the figures and draw them."""
    parser = row_parser("stats", "Show what rows look like.", __doc__)
    parser.add_argument("--model", help="Hub id, folder or .gguf file: lengths in its tokens as well")
    parser.add_argument("--output", help="picture to make: .png, .svg or .pdf")
    args = parser.parse_args(argv)
    output = Path(args.output).expanduser() if args.output else None
    if output and output.suffix.lower() not in PICTURES:
        raise UserError(f'{output}: can\'t draw "{output.suffix}"; use one of {", ".join(PICTURES)}')
    if output:
        check_file(output, "--output")
    table = load_table(args.data, args, args.split, args.format)
    found = describe(table.rows)
    print(f"{table.label}: {counted(found.num_rows, 'row')}, {table.format}")
    print_lengths("characters", found.lengths)
    if args.model:
        print_lengths("tokens", token_lengths(table.rows, load_text_side(args.model, None)[0]))
    print_words(found)
    print_characters(found)
    if output:
        draw(found, output, table.label)
        print(f"drawn: {output}")


def token_lengths(rows: list[dict], tokenizer) -> dict[str, list[int]]:
    """Tokens of each part of each row, without those of a template."""
    lengths: dict[str, list[int]] = {}
    for row in rows:
        for part, texts in parts_of(row).items():
            ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
            lengths.setdefault(part, []).append(sum(map(len, ids)))
    return lengths


def print_lengths(unit: str, lengths: dict[str, list[int]]) -> None:
    """A table of percentiles, one line per part."""
    names = ["shortest", "median", *(f"{percent} %" for percent in PERCENTILES[2:-1]), "longest"]
    print(f"\n{unit:<12}{'total':>12}" + "".join(f"{name:>10}" for name in names))
    for part, values in lengths.items():
        print(f"{part:<12}{sum(values):>12,}" + "".join(f"{value:>10,}" for value in percentiles(values)))


def print_words(found: Description) -> None:
    """The words that most answers begin with."""
    if not found.first_words:
        return
    print(f"\nfirst words of {found.num_answers:,} answers, {len(found.first_words):,} different")
    for word, count in found.first_words.most_common(NUM_WORDS):
        print(f"  {share(count, found.num_answers):>16}  {word}")


def print_characters(found: Description) -> None:
    """What is unusual in the texts."""
    print(f"\n{found.num_characters:,} characters, of which {found.non_ascii.total():,} are not ASCII")
    print_counts("most common", found.non_ascii)
    if found.invisible:
        print_counts("invisible", found.invisible)
    if found.num_padded:
        print(f"  {found.num_padded:,} texts begin or end with white space")


def print_counts(title: str, counts: Counter) -> None:
    """The most common characters of a kind, one per line."""
    for character, count in counts.most_common(NUM_CHARACTERS):
        print(f"  {title:<12}{count:>9,}  {character_name(character)}")


def draw(found: Description, path: Path, label: str) -> None:
    """Draw how long the parts are and what answers begin with, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    words = found.first_words.most_common(NUM_WORDS)[::-1]
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{Path(label).name}: {found.num_rows:,} rows", fontsize=11)
    lengths, first = figure.subplots(1, 2) if words else (figure.subplots(), None)
    every = [max(value, 1) for values in found.lengths.values() for value in values]
    bins = [1.25**power for power in range(-1, 200) if min(every) / 1.25 < 1.25**power < max(every) * 1.25**2]
    for (part, values), color in zip(found.lengths.items(), COLORS, strict=False):
        lengths.hist([max(value, 1) for value in values], bins=bins, histtype="step", color=color, label=part, lw=1.8)
    lengths.set(xscale="log", xlabel="characters", ylabel="rows", xlim=(bins[0], bins[-1]))
    lengths.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    lengths.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    lengths.xaxis.set_minor_locator(NullLocator())
    lengths.yaxis.set_major_locator(MaxNLocator(integer=True))
    lengths.legend(frameon=False)
    if first is not None:
        names = [word[:20].replace("$", r"\$") for word, _ in words]
        first.barh(range(len(words)), [100 * count / found.num_answers for _, count in words], color=COLORS[0])
        first.set_yticks(range(len(words)), names)
        first.set(xlabel="share of answers that begin with the word, %")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())
