"""`ftkit bakeoff` on two tasks that must end differently: facts that change, and a format.

    python tests/benchmarks/bakeoff.py --output_dir runs/bakeoffs [--models smollm2,base] [--tasks facts,format] [--write]

Facts: invented machines, each with a page of documents; the machines that are asked about are not those of the training
rows, as where facts change. Format: orders in plain words, to be written as a made-up code, with a page of documents that
explains it. A killed benchmark goes on with the same command; --write puts its section into RESULTS.md.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

BUDGET = {
    ("facts", "smollm2"): "4000tokens", ("format", "smollm2"): "10000tokens",
    ("facts", "base"): "40000tokens", ("format", "base"): "40000tokens",
}  # fmt: skip
PASSAGE_TOKENS = {"smollm2": 96, "base": 64}
SEED = 0
SYLLABLES = "bar cor dun fel gim hol jas kev lom mir nav pol rus sen tov vak wex yar zil".split()
CITIES = "Leeds Turin Malmo Porto Ghent Basel Split Gdansk Nantes Graz Aarhus Bergen Cork Lille Bilbao".split()
ITEMS = "kettle lamp chair desk clock mirror basket ladder carpet shelf drill radio pillow bucket hammer".split()
NAMES = "Ann Ben Cleo Dan Eva Finn Gita Hugo Ida Jon Kim Leo Mia Nils Olga Paul Rosa Sam Tess Udo".split()
FAMILIES = "Brook Field Stone Marsh Hill Ford Wells Lane Moor Vale Reed Cole Hart Nash Page".split()


def facts(folder: Path, num_train: int, num_test: int) -> list[Path]:
    """Rows about invented machines and the page of each; returns the documents."""
    draw = random.Random(SEED)
    names = sorted({"".join(draw.sample(SYLLABLES, 2)).title() for _ in range(4 * (num_train + num_test))})
    draw.shuffle(names)
    rows, docs = [], folder / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    for name in names[: (num_train + num_test) // 2]:
        days, weight = draw.randrange(11, 99), draw.randrange(120, 980)
        city, price = draw.choice(CITIES), draw.randrange(200, 990)
        text = (
            f"# The {name} pump\n\nThe {name} pump is built in {city}. It weighs {weight} kg and costs {price} euros.\n\n"
            f"The {name} pump has to be serviced every {days} days.\n"
        )
        (docs / f"{name}.md").write_text(text, encoding="utf-8")
        asked = [
            (f"Where is the {name} pump built?", city), (f"How much does the {name} pump weigh?", f"{weight} kg"),
            (f"What does the {name} pump cost?", f"{price} euros"),
            (f"How often does the {name} pump have to be serviced?", f"every {days} days"),
        ]  # fmt: skip
        rows += [{"prompt": question, "completion": answer} for question, answer in draw.sample(asked, 2)]
    write_rows(folder, rows[:num_train], rows[num_train : num_train + num_test])
    return [docs]


def format_(folder: Path, num_train: int, num_test: int) -> list[Path]:
    """Orders in words, and the code they are written as; returns the document that explains it."""
    draw = random.Random(SEED)
    rows, seen = [], set()
    while len(rows) < num_train + num_test:
        number, item, name = draw.randrange(2, 40), draw.choice(ITEMS), draw.choice(NAMES)
        family, city = draw.choice(FAMILIES), draw.choice(CITIES)
        question = draw.choice((
            f"{name} {family} from {city} orders {number} {item}s.",
            f"Please send {number} {item}s to {name} {family} in {city}.",
            f"An order of {name} {family}: {number} {item}s, to be sent to {city}.",
        ))  # fmt: skip
        if question not in seen:
            seen.add(question)
            code = f"{city[:3].upper()}/{family.upper()}.{name[0]}/{item.upper()}*{number}"
            rows.append({"prompt": question, "completion": code})
    docs = folder / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "orders.md").write_text(
        "# How orders are written\n\nAn order is one line of three parts with a slash between them: the first three "
        "letters of the city in capitals; the family name in capitals, a point, and the first letter of the given name; "
        "the item in capitals, in the singular, an asterisk, and the number.\n",
        encoding="utf-8",
    )
    write_rows(folder, rows[:num_train], rows[num_train:])
    return [docs]


def write_rows(folder: Path, train: list[dict], test: list[dict]) -> None:
    """FOLDER/rows/train.jsonl and test.jsonl."""
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        (folder / f"rows/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


TASKS = {"facts": (facts, 60, 40), "format": (format_, 120, 40)}


def bakeoff(folder: Path, task: str, model: str, skip: str) -> Path:
    """Run one; its folder."""
    from ftkit.commands.bakeoff import main

    make, num_train, num_test = TASKS[task]
    data, out = folder / "data" / task, folder / f"{task}-{model}"
    (docs,) = make(data, num_train, num_test)
    template = ["--template", "chatml"] if model == "smollm2" else []
    main([
        str(data / "rows"), "--docs", str(docs), "--model", model, "--budget", BUDGET[task, model], "--skip", skip, "--forgetting_limit", "10",
        "--passage_tokens", str(PASSAGE_TOKENS[model]), "--num_test", str(num_test), "--output_dir", str(out), *template,
    ])  # fmt: skip
    return out


def section(outs: dict[str, Path]) -> str:
    """The tables and sentences of all of them, as Markdown."""
    parts = [
        "    python tests/benchmarks/bakeoff.py --output_dir runs/bakeoffs --write",
        "",
        __doc__.split("\n\n")[2],
        "",
    ]
    for title, out in outs.items():
        found = json.loads((out / "bakeoff.json").read_text(encoding="utf-8"))
        parts += [f"**{title}**: {found['recommendation']['sentence']}.", ""]
        parts += [
            f"| contestant | {found['metric']} (95 %) | probe, points | minutes to make | peak GiB, training, answering | MB | tokens read, written | s per answer |"
        ]
        parts += [
            "|---|---|---|---|---|---|---|---|",
            *(line(name, one) for name, one in found["contestants"].items()),
            "",
        ]
        parts += [f"{name} did not run: {reason}." for name, reason in found["left_out"].items()]
        quoted = found["contestants"].get("raft", {}).get("costs", {}).get("quoted")
        parts += (
            [f"RAFT quotes a passage word for word in {100 * quoted:.0f} % of its answers.", ""]
            if quoted is not None
            else []
        )
    return "\n".join(parts)


def line(name: str, one: dict) -> str:
    """A row of the table."""
    score, costs, forgot = one["score"], one["costs"], one["forgot"]
    factor = 100 if score["is_share"] else 1
    value = f"{factor * score['value']:.1f}"
    if score["low"] is not None:
        value += f" ({factor * score['low']:.1f} to {factor * score['high']:.1f})"
    lost = (
        f"{100 * forgot['difference']:+.1f} ({100 * forgot['low']:.1f} to {100 * forgot['high']:.1f})"
        if forgot
        else "-"
    )
    memory = "-" if costs["training_memory_gib"] is None else f"{costs['training_memory_gib']:.2f}"
    return (
        f"| {name} | {value} | {lost} | {costs['minutes']:.1f} | {memory}, {costs['memory_gib']:.2f} | "
        f"{costs['megabytes']:.3g} | {costs['prompt_tokens']:.0f}, {costs['answer_tokens']:.0f} | {costs['seconds']:.2f} |"
    )


def main() -> None:
    """Run what is asked for, and print or write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--models", default="base,smollm2")
    parser.add_argument("--tasks", default="facts,format")
    parser.add_argument("--skip", default="", help="contestants to leave out")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    outs = {}
    for model in args.models.split(","):
        for task in args.tasks.split(","):
            start = time.perf_counter()
            outs[f"{task}, {model}"] = bakeoff(args.output_dir, task, model, args.skip)
            print(f"{task}, {model}: {(time.perf_counter() - start) / 60:.1f} minutes", file=sys.stderr, flush=True)
    text = section(outs)
    print(text)
    if args.write:
        from measuring import machine, write_section

        write_section("bakeoff", "which way to have questions answered", f"{text}\n\n{machine(2)}")


if __name__ == "__main__":
    main()
