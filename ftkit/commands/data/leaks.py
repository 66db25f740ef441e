"""Looks for the rows of a test or benchmark file among training rows: copies, same and near questions, runs of words.

ftkit data leaks rows.jsonl --test test.jsonl --output rows-clean.jsonl
"""

from pathlib import Path

from ftkit.commands.data.common import Table, load_table, row_parser, share
from ftkit.commands.data.dedup import check_threshold
from ftkit.config.amounts import counted
from ftkit.data.cleaning.near_duplicates import near_matches, words
from ftkit.data.cleaning.overlap import copies_of_test_rows, question_of, question_overlaps
from ftkit.data.reading.writing import check_output, row_writer

NUM_SHOWN = 5  # pairs that are printed for each kind of leak
EXPLAINED = {
    "copies": "rows that are the same, but for white space",
    "same questions": "whatever their answers",
    "near questions": "similarity from {near}",
    "runs of words": "{num_words} words in a row, or a shorter question as a whole",
}


def main(argv: list[str]) -> None:
    """Print each kind of leak with its first pairs; write the training rows that are free of them."""
    parser = row_parser("leaks", "Look for test rows among training rows.", __doc__)
    parser.add_argument("--test", required=True, help="file, folder, bundled dataset or Hub id with the test rows")
    parser.add_argument("--test_split", default="test", help="which split of --test; a single file has one only")
    parser.add_argument("--test_format", default="auto", help="row format of --test")
    parser.add_argument("--near", type=float, default=0.8, help="similarity from which questions are near")
    parser.add_argument("--num_words", type=int, default=13, help="length of a run of words that must not be shared")
    parser.add_argument("--output", help="file to make, with the training rows that are free of leaks")
    args = parser.parse_args(argv)
    check_threshold(args.near)
    output = Path(args.output).expanduser() if args.output else None
    if output:
        check_output(output)
    train = load_table(args.data, args, args.split, args.format)
    test_split = "train" if Path(args.test).expanduser().is_file() else args.test_split
    test = load_table(args.test, args, test_split, args.test_format)
    leaks = find_leaks(train, test, args)
    num_test, num_train = counted(len(test.rows), "test row"), counted(len(train.rows), "training row")
    print(f"{num_test} of {test.label}, {num_train} of {train.label}")
    for name, pairs in leaks.items():
        note = EXPLAINED[name].format(near=args.near, num_words=args.num_words)
        print(f"{name:<15}{share(len(pairs), len(test.rows)):>16}  {note}")
        for train_source, test_source, measure in pairs[:NUM_SHOWN]:
            print(f"{'':<15}{test_source} in {train_source}{measure}")
    if output:
        leaking = {pair[0] for pairs in leaks.values() for pair in pairs}
        write_clean(train, leaking, output)


def find_leaks(train: Table, test: Table, args) -> dict[str, list[tuple[str, str, str]]]:
    """(train source, test source, measure in words) of each test row that leaks, by kind of leak."""
    copies = [(*pair, "") for pair in copies_of_test_rows(train.rows, test.rows)]
    train_questions = {" ".join(words(question_of(row))): row["source"] for row in reversed(train.rows)}
    asked = [(" ".join(words(question_of(row))), row["source"]) for row in test.rows]
    same = [(train_questions[question], source, "") for question, source in asked if question in train_questions]
    matches = near_matches(map(question_of, test.rows), map(question_of, train.rows), args.near)
    near = [
        (train.rows[match.other]["source"], test.rows[match.index]["source"], f" ({match.similarity:.2f})")
        for match in matches
    ]
    overlaps = question_overlaps(train.rows, test.rows, args.num_words)
    shared = [(found.train_source, found.test_source, f" ({found.share:.0%} of its runs)") for found in overlaps]
    return {"copies": copies, "same questions": same, "near questions": near, "runs of words": shared}


def write_clean(train: Table, leaking: set[str], output: Path) -> None:
    """Write the training rows that are in no pair."""
    num_written = 0
    with row_writer(output) as write:
        for record, row in zip(train.records, train.rows, strict=True):
            if row["source"] not in leaking:
                write(record.values)
                num_written += 1
    print(
        f"kept {num_written:,} of {len(train.rows):,} training rows: {output}; run it again: one row may hide another"
    )
