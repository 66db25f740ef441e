"""Checks every row of a file, a folder, a bundled dataset or a Hub dataset, and lists all mistakes.

ftkit data check rows.jsonl --template alpaca --model M

Rows are read as they come, so that memory does not grow with the file. With --model they are rendered and tokenized
as well, and a row of which no answer token is left after --max_length is a mistake.
"""

from itertools import islice

from ftkit.commands.data.common import checked_pairs, find, load_text_side, row_parser
from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Problems
from ftkit.data.rows.checking import RowChecker
from ftkit.data.rows.kinds import ANSWERS, kind_of, select_kind

ROWS_AT_ONCE = 1000  # that are tokenized together
NEXT_COMMANDS = {"conversation": "ftkit sft", "preference": "ftkit dpo", "classification": "ftkit classify"}


def main(argv: list[str]) -> None:
    """Check all splits and print what they hold; raise UserError that lists every mistake."""
    parser = row_parser(
        "check", "Check rows before anything is trained; mistakes are listed, with exit code 2.", one_split=False
    )
    parser.add_argument("--model", help="Hub id, folder or .gguf file: the rows go through its tokenizer as well")
    parser.add_argument("--template", default="auto", help="with --model: prompt template, as in ftkit sft")
    parser.add_argument("--max_length", type=int, default=1024, help="with --model: tokens that a row is cut to")
    args = parser.parse_args(argv)
    if args.template != "auto" and not args.model:
        raise UserError("--template needs --model: a template is rendered for a tokenizer; add --model M")
    kind = select_kind(args.format)
    _, splits = find(args.data, args)
    problems, lines, format = Problems(), [], "auto"
    for split in sorted(splits.values(), key=lambda split: split is not splits.get("train")):
        checker = RowChecker(split.label, kind, format, problems.add)
        findings = Findings(args, problems)
        rows = (row for _, row in checked_pairs(split, checker, problems.add))
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            findings.add(batch)
        checker.finish()
        format = checker.format or format
        lines += findings.lines(split.label, checker)
    problems.raise_any()
    print("\n".join(lines))
    command = NEXT_COMMANDS.get(kind_of(format))
    if command:
        print(f"no mistakes; next: {command} --dataset_name {args.data} --model_name_or_path {args.model or 'M'} ...")
    else:
        print("no mistakes")


class Findings:
    """What was seen in one split besides mistakes in rows."""

    def __init__(self, args, problems: Problems):
        self.args, self.problems = args, problems
        self.num_rows = 0
        self.tokens = TokenFindings(args, problems) if args.model else None

    def add(self, rows: list[dict]) -> None:
        """Count rows, and their tokens where a model is given."""
        self.num_rows += len(rows)
        if self.tokens:
            self.tokens.add(rows)

    def lines(self, label: str, checker: RowChecker) -> list[str]:
        """What to print about the split."""
        if not self.num_rows:
            return []
        required, _ = checker.kind.formats[checker.format]
        found = [f"{label}: {self.num_rows:,} rows, {checker.format} ({', '.join(required)})"]
        ignored = checker.columns.ignored_columns()
        if ignored:
            found.append(f"  columns that are not used: {', '.join(ignored)}")
        found += [f"  {note}" for note in checker.notes()]
        return found + (self.tokens.lines() if self.tokens else [])


class TokenFindings:
    """Counts of the rows as tokens, over all rows that were added."""

    def __init__(self, args, problems: Problems):
        self.max_length, self.problems, self.template = args.max_length, problems, args.template
        self.tokenizer, self.info = load_text_side(args.model, None)
        self.counts: dict[str, int] = {}
        self.num_tokens = self.longest = 0

    def add(self, rows: list[dict]) -> None:
        """Render and tokenize rows, and count what came out."""
        from ftkit.data.templates.templates import install_template
        from ftkit.data.tokens.preferences import conversation
        from ftkit.data.tokens.tokenization import tokenize_rows

        if "rejected" in rows[0]:
            rows = [conversation(row, name) for row in rows for name in ANSWERS]
        if not {"messages", "text"} & rows[0].keys():
            return
        if "messages" in rows[0] and self.info is None:
            self.info = install_template(self.tokenizer, self.template)
        tokenized = tokenize_rows(rows, self.tokenizer, self.info, self.max_length, self.problems.add)
        for name, count in tokenized.counts().items():
            if not isinstance(count, int):  # why rows were left out, which the problems tell
                continue
            self.counts[name] = self.counts.get(name, 0) + count
        self.num_tokens += sum(tokenized.lengths)
        self.longest = max([self.longest, *tokenized.lengths])

    def lines(self) -> list[str]:
        """What to print about tokens."""
        counts = self.counts
        if not counts:
            return ["  rows of this kind are not rendered, so their tokens were not checked"]
        return [
            f"  tokens: {self.num_tokens:,}, of which {counts['num_trained_tokens']:,} are trained; "
            f"longest row {self.longest:,}",
            f"  --max_length {self.max_length}: {counts['num_truncated_rows']:,} rows cut, "
            f"{counts['num_answers_cut']:,} answers cut, {counts['num_end_tokens_lost']:,} end tokens lost",
            f"  {counts['num_neutralised_rows']:,} rows hold control tokens or headings, which are neutralised",
        ]
