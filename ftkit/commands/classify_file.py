"""`ftkit classify --predict`: puts the texts of a file into the classes of a trained classifier.

ftkit classify --predict mails.txt --model_name_or_path runs/spam > predicted.jsonl

One line of JSON per text: "text", "label" (the likeliest class) and "probabilities" by class. A model that gives a text
any number of classes has "labels" (those of at least 0.5) instead, a regression only "scores". Where the file has
labels too, how many are right is shown on stderr.
"""

import sys
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.files import check_file
from ftkit.config.jsonl import json_line, write_or_print
from ftkit.config.parser import CommandParser
from ftkit.data.reading.read_as import add_reading_flags


def main(argv: list[str]) -> None:
    """Load, classify, write."""
    args = parse(argv)
    from ftkit.config.hardware import probe, use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.model.classifier import problem_of, text_probabilities
    from ftkit.model.trained_classifier import load_trained_classifier

    rows = read_texts(args)
    quiet_libraries()
    use_all_cores()
    model, tokenizer, labels = load_trained_classifier(
        args.model_name_or_path, base=args.base, dtype=args.dtype, trust_remote_code=args.trust_remote_code
    )
    model.to(probe().device)
    check_length(args.max_length, model, tokenizer)
    texts, problem = [row["text"] for row in rows], problem_of(model.config)
    probabilities = text_probabilities(model, tokenizer, texts, max_length=args.max_length, batch_size=args.batch_size)
    predictions = [prediction(text, row, labels, problem) for text, row in zip(texts, probabilities, strict=True)]
    write(args.output_file, predictions)
    report(args, rows, probabilities, labels, problem)


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the model."""
    parser = CommandParser(
        prog="ftkit classify --predict", examples=__doc__, description="Put the texts of a file into classes."
    )
    parser.add_argument("--predict", help="file with the texts: a column text, or .txt with one text per line")
    parser.add_argument("--model_name_or_path", help="output folder of ftkit classify, or any sequence classifier")
    parser.add_argument("--output_file", help="where the lines go; default: standard output")
    parser.add_argument("--base", help="the base of an adapter, if it was moved")
    parser.add_argument("--max_length", type=int, help="longest text in tokens; default: as in training")
    parser.add_argument("--batch_size", type=int, default=16, help="texts at a time")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that comes with the model")
    add_reading_flags(parser)
    args = parser.parse_args(argv)
    if not args.predict:
        raise UserError("--predict needs a file; give one with a column text, or a .txt with one text per line")
    if not args.model_name_or_path:
        raise UserError("--model_name_or_path is missing; give the output folder of ftkit classify")
    if args.output_file and Path(args.output_file).exists():
        raise UserError(f"{args.output_file}: exists; name a new file or remove it first")
    if args.output_file:
        check_file(args.output_file, "--output_file")
    if args.batch_size < 1:
        raise UserError(f"--batch_size is {args.batch_size}; give 1 or more")
    return args


def read_texts(args) -> list[dict]:
    """Rows {"text"[, "label"]} of a file. Raises UserError with file and line for a row without a text."""
    from ftkit.data.reading.loading import load_rows
    from ftkit.data.reading.read_as import ReadAs
    from ftkit.data.reading.reader import missing_file_message
    from ftkit.data.rows.kinds import UNLABELLED

    if not Path(args.predict).is_file():
        raise UserError(missing_file_message(Path(args.predict)))
    return load_rows(args.predict, kind=UNLABELLED, read_as=ReadAs.of(args.columns, args.encoding)).train


def check_length(max_length: int | None, model, tokenizer) -> None:
    """Raise UserError for more tokens of a text than the model sees."""
    from ftkit.model.context import context_size

    context = context_size(model.config) or tokenizer.model_max_length
    if max_length is not None and not 0 < max_length <= context:
        raise UserError(f"--max_length {max_length}: the model's context is {context} tokens; give 1 to {context}")


def prediction(text: str, probabilities, labels: list[str], problem: str) -> dict:
    """What is written of one text. problem: what the outputs are, see `problem_of`."""
    from ftkit.model.classifier import ANY_CLASSES, REGRESSION

    by_name = {name: round(float(chance), 6) for name, chance in zip(labels, probabilities, strict=True)}
    if problem == REGRESSION:
        return {"text": text, "scores": by_name}
    if problem == ANY_CLASSES:
        likely = [name for name, chance in by_name.items() if chance >= 0.5]
        return {"text": text, "labels": likely, "probabilities": by_name}
    return {"text": text, "label": labels[int(probabilities.argmax())], "probabilities": by_name}


def write(path: str | None, predictions: list[dict]) -> None:
    """Write one line of JSON per prediction, to a file or to standard output."""
    if path is None:
        sys.stdout.writelines(map(json_line, predictions))
    else:
        write_or_print(Path(path), predictions)


def report(args, rows: list[dict], probabilities, labels: list[str], problem: str) -> None:
    """Print to stderr what was done and, where the file has labels and a text has one class, how many are right."""
    from ftkit.metrics.intervals import wilson_interval
    from ftkit.model.classifier import ONE_CLASS

    where = args.output_file or "standard output"
    print(f"{len(rows)} texts in {len(labels)} classes ({', '.join(labels)}); written to {where}", file=sys.stderr)
    if problem != ONE_CLASS:
        return
    found = [labels[int(chances.argmax())] for chances in probabilities]
    right = [name_of(row["label"], labels) == name for row, name in zip(rows, found, strict=True) if "label" in row]
    if right:
        low, high = wilson_interval(sum(right), len(right))
        share = f"{sum(right) / len(right):.1%} ({low:.1%} to {high:.1%})"
        print(f"{sum(right)} of {len(right)} labels are right: {share}", file=sys.stderr)


def name_of(label: str | int, labels: list[str]) -> str:
    """A label's name; class numbers stand for names."""
    return labels[label] if isinstance(label, int) and 0 <= label < len(labels) else str(label)
