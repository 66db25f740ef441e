"""`ftkit classify --predict`: puts the texts of a file into the classes of a trained classifier.

ftkit classify --predict mails.txt --model_name_or_path runs/spam > predicted.jsonl

One line of JSON per text: "text", "label" (the likeliest class) and "probabilities" by class. A model that gives a text
any number of classes has "labels" (those of at least 0.5) instead, a regression only "scores". Where the file has
labels too, how many are right is shown on stderr.
"""

from ftkit.commands.predict.common import check_settings, loading, predicting_parser, read_file, report, write
from ftkit.config.errors import UserError

FILE = "with the texts: a column text, or .txt with one text per line"


def main(argv: list[str]) -> None:
    """Load, classify, write."""
    args = parse(argv)
    from ftkit.config.hardware import probe, use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.data.rows.kinds import UNLABELLED
    from ftkit.model.classifier import problem_of, text_probabilities
    from ftkit.model.trained_classifier import load_trained_classifier

    rows = read_file(args, UNLABELLED)
    quiet_libraries()
    use_all_cores()
    model, tokenizer, labels = load_trained_classifier(args.model_name_or_path, **loading(args))
    model.to(probe().device)
    check_length(args.max_length, model, tokenizer)
    texts, problem = [row["text"] for row in rows], problem_of(model.config)
    probabilities = text_probabilities(model, tokenizer, texts, max_length=args.max_length, batch_size=args.batch_size)
    write(args, [prediction(text, row, labels, problem) for text, row in zip(texts, probabilities, strict=True)])
    done = f"{len(rows)} texts in {len(labels)} classes ({', '.join(labels)})"
    report(args, done, right_labels(rows, probabilities, labels, problem), "labels are right")


def parse(argv: list[str]):
    """The settings of the command line, checked as far as they can be without the model."""
    parser = predicting_parser(
        "classify", "Put the texts of a file into classes.", __doc__, file=FILE, model="any sequence classifier",
        unit="texts",
    )  # fmt: skip
    parser.add_argument("--max_length", type=int, help="longest text in tokens; default: as in training")
    args = parser.parse_args(argv)
    check_settings(args, "classify", FILE)
    return args


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


def right_labels(rows: list[dict], probabilities, labels: list[str], problem: str) -> list[bool]:
    """Whether each label of the file is the class that was found; none where a text has no one class."""
    from ftkit.model.classifier import ONE_CLASS

    found = [labels[int(chances.argmax())] for chances in probabilities] if problem == ONE_CLASS else []
    return [name_of(row["label"], labels) == name for row, name in zip(rows, found, strict=False) if "label" in row]


def name_of(label: str | int, labels: list[str]) -> str:
    """A label's name; class numbers stand for names."""
    return labels[label] if isinstance(label, int) and 0 <= label < len(labels) else str(label)
