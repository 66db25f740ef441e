"""How fast rows are validated, and in how much memory, beside datasets.load_dataset reading the same files.

    python tests/benchmarks/data_validation.py

Writes files of 10^3 to 10^6 Alpaca rows, has each read in fresh processes that take turns, and puts the table into
RESULTS.md. Seconds and memory are counted from when everything is imported. ftkit checks every row (strict parsing,
format, types, blanks); load_dataset parses and writes its Arrow cache, and checks little.
"""

import argparse
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SUFFIXES = ("jsonl", "csv", "parquet")
READERS = ("ftkit", "datasets")
LOADERS = {"jsonl": "json", "csv": "csv", "parquet": "parquet"}
NUM_WORDS = {"instruction": 8, "input": 4, "output": 20}
VOCABULARY = [f"word{number}" for number in range(5_000)] + ["naïve", '"quoted,"', "two\nlines"]


def write_files(folder: Path, size: int) -> None:
    """The same rows in each format; about 210 bytes a row."""
    import pyarrow
    import pyarrow.parquet

    from ftkit.data.reading.writing import row_writer

    rng = random.Random(measuring.SEED)
    rows = [
        {name: " ".join(rng.choices(VOCABULARY, k=count)) for name, count in NUM_WORDS.items()} for _ in range(size)
    ]
    for suffix in ("jsonl", "csv"):
        with row_writer(folder / f"{size}.{suffix}") as write:
            for row in rows:
                write(row)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{size}.parquet")


def validate(path: Path) -> int:
    """Rows of a file that ftkit has read and checked."""
    from ftkit.data.reading.reader import iter_records
    from ftkit.data.rows.checking import RowChecker
    from ftkit.data.rows.kinds import select_kind

    checker = RowChecker(str(path), select_kind())
    return sum(1 for _ in checker.rows(iter_records(path)))


def load(path: Path) -> int:
    """Rows of a file that datasets has read, with an empty cache."""
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        loader = LOADERS[path.suffix[1:]]
        return len(
            datasets.load_dataset(loader, data_files=str(path), split="train", cache_dir=cache, trust_remote_code=False)
        )


def child(reader: str, path: Path) -> None:
    """Print the seconds and the MiB of reading one file."""
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import ftkit.data.rows.kinds  # noqa: F401

    work = {"ftkit": validate, "datasets": load}[reader]
    before, start = measuring.reset_peak(), time.perf_counter()
    work(path)
    print(time.perf_counter() - start, measuring.resident_mib("VmHWM") - before)


def in_child(reader: str, path: Path) -> tuple[float, float]:
    command = [sys.executable, __file__, "--child", reader, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-3000:]}")
    seconds, mib = done.stdout.split()[-2:]
    return float(seconds), float(mib)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--child", nargs=2, help="used by the script itself")
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]))
        return
    start, lines = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            write_files(Path(folder), size)
            for suffix in SUFFIXES:
                lines.append(compare(Path(folder) / f"{size}.{suffix}", size, args.rounds))
                measuring.say(json.dumps(lines[-1]))
    header = ["rows", "file", "ftkit, rows/s, median (range)", "load_dataset, rows/s", "ftkit takes x as long (95 %)"]
    body = "\n\n".join([
        "    python tests/benchmarks/data_validation.py",
        "Fresh processes in turns; memory is the peak above the imports. ftkit checks every row strictly, one after "
        "another in Python; load_dataset parses in C++ and writes its Arrow cache, and checks little of it. What pyarrow "
        "needs for a row group of parquet is reached within its first 131,072 rows and does not grow after that.",
        measuring.table([*header, "ftkit, MiB", "load_dataset, MiB"], lines),
        f"{measuring.machine(1)} {args.rounds} rounds, {(time.perf_counter() - start) / 60:.1f} minutes.",
    ])  # fmt: skip
    measuring.write_section("Validation", "rows checked and read", body)
    print(body)


def compare(path: Path, size: int, rounds: int) -> list[str]:
    """One line of the table."""
    seconds, mib = {reader: [] for reader in READERS}, {reader: [] for reader in READERS}
    for number in range(rounds):
        for reader in READERS if number % 2 == 0 else READERS[::-1]:
            taken, used = in_child(reader, path)
            seconds[reader].append(taken)
            mib[reader].append(used)
    rates = {reader: measuring.spread([size / taken for taken in seconds[reader]]) for reader in READERS}
    ratio = measuring.paired_ratio(seconds["ftkit"], seconds["datasets"])
    peaks = [f"{statistics.median(mib[reader]):.0f}" for reader in READERS]
    megabytes = path.stat().st_size / 1e6
    name = f"{path.suffix}, {megabytes:.1f} MB"
    return [f"{size:,}", name, rates["ftkit"], rates["datasets"], str(ratio), *peaks]


if __name__ == "__main__":
    main()
