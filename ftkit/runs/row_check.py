"""What a trainer would refuse in rows before it reads any weights, found without holding the rows in memory.

    check = RowCheck("conversation", problems.add, model="base", template="alpaca")
    check.add("train", rows)          # batch by batch, split by split
    check.finish()
    print(check.lines("train"))

Limits, tokens and refusals are those of the trainer itself, so rows that pass are rows that it trains on.
What needs transformers is imported in functions: a check without a model does not wait for it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.data.reading.problems import Report
from ftkit.data.rows.allowed import Allowed
from ftkit.data.rows.kinds import KINDS
from ftkit.runs.recipe import Recipe, found
from ftkit.runs.recipes import TRAINERS, load_recipe


def recipe_for(kind: str) -> Recipe | None:
    """The trainer of a kind of rows; None where there is none yet."""
    formats = KINDS[kind].formats.items()
    recipes = (recipe for recipe in map(load_recipe, TRAINERS) if recipe.rows)
    return next((recipe for recipe in recipes if formats <= found(recipe.rows).formats.items()), None)


class RowCheck:
    """Checks rows of one kind, of several splits. report: takes the mistakes.

    model: whose tokenizer renders them; None checks labels only. template, max_length, untrained_rows, allowed: as the
    trainer takes them; max_length None stands for the trainer's own default.
    """

    def __init__(
        self,
        kind: str,
        report: Report,
        *,
        model: str | None = None,
        template: str = "auto",
        max_length: int | None = None,
        untrained_rows: str = "refuse",
        allowed: Allowed | None = None,
    ):
        self.kind, self.report, self.template = kind, report, template
        self.untrained_rows, self.allowed = untrained_rows, allowed or Allowed()
        self.tokenizer: Any = None
        self.info: Any = None  # the template on it, None for plain text
        self.limit: int | None = None
        self.labels: dict = {}  # LabelTally by split
        self.counted: dict = {}  # CountedRows by split
        self.is_text, self.refusal = False, ""
        self.recipe = recipe_for(kind)
        if model and self.recipe:
            self.tokenizer, self.limit = text_side(self.recipe, model, max_length)

    def add(self, split: str, rows: list[dict]) -> None:
        """Look at more rows of a split, as RowChecker gives them."""
        self.is_text = "text" in rows[0] and self.kind == "conversation"
        if self.kind == "classification":
            from ftkit.data.tokens.labelled import LabelTally

            self.labels.setdefault(split, LabelTally()).add(rows)
        if self.tokenizer is None:
            return
        from ftkit.data.tokens.tokenization import CountedRows

        counted = self.counted.setdefault(split, CountedRows())
        try:
            counted.add(self.tokenize(rows))
        except UserError as mistake:
            self.report(mistake)

    def tokenize(self, rows: list[dict]):
        """The rows as the trainer's method tokenizes them."""
        from ftkit.data.templates.templates import install_template
        from ftkit.data.tokens.labelled import tokenize_labelled
        from ftkit.data.tokens.labelled_answers import tokenize_answers
        from ftkit.data.tokens.preferences import tokenize_pairs
        from ftkit.data.tokens.text_pairs import tokenize_text_pairs
        from ftkit.data.tokens.tokenization import tokenize_rows

        if self.kind == "classification":
            return tokenize_labelled(rows, self.tokenizer, self.limit)
        if self.kind == "text_pair":
            return tokenize_text_pairs(rows, self.tokenizer, self.limit)
        if "text" not in rows[0] and self.info is None:
            self.info = install_template(self.tokenizer, self.template)
        tokenize: Callable = tokenize_rows
        if self.kind == "preference":  # equal answers are left out, which a note of the kind says
            rows, tokenize = [row for row in rows if row["chosen"] != row["rejected"]], tokenize_pairs
        elif self.kind == "kto":
            tokenize = tokenize_answers
        return tokenize(rows, self.tokenizer, self.info, self.limit, self.report, untrained_rows=self.untrained_rows)

    def finish(self) -> None:
        """Report what is wrong with the training rows as a whole; to be asked where no row has a mistake of its own.

        Plain text that ftkit sft refuses is left to ftkit pretrain, which cuts none.
        """
        try:
            if train := self.labels.pop("train", None):
                from ftkit.data.tokens.labelled import check_labels

                check_labels(train, self.labels)
            elif self.kind != "text_pair" and (counted := self.counted.get("train")):
                from ftkit.data.tokens.receipt import check_rows

                check_rows(counted, self.info, self.allowed)
        except UserError as mistake:
            if self.is_text:
                self.refusal = str(mistake)
            else:
                self.report(mistake)

    @property
    def trainers(self) -> list[str]:
        """The commands that take the rows."""
        fine_tuning = [self.recipe.name] if self.recipe and not self.refusal else []
        return [*fine_tuning, "pretrain"] if self.is_text else fine_tuning

    def lines(self, split: str) -> list[str]:
        """What to print about the tokens of a split."""
        counts = self.counted[split].counts() if split in self.counted else {}
        if not counts.get("num_sequences"):
            return []
        tokens, longest = f"tokens: {counts['num_tokens']:,}", f"longest row {self.counted[split].longest[0][0]:,}"
        cut = f"--max_length {self.limit}: {counts['num_truncated_rows']:,} rows cut"
        if self.kind in ("classification", "text_pair"):
            return [f"  {tokens}; {longest}", f"  {cut}"]
        return [
            f"  {tokens}, of which {counts['num_trained_tokens']:,} are trained; {longest}",
            f"  {cut}, {counts['num_answers_cut']:,} answers cut, {counts['num_end_tokens_lost']:,} end tokens lost",
            f"  {counts['num_neutralised_rows']:,} rows hold control tokens or headings, which are neutralised",
        ]


def text_side(recipe: Recipe, model: str, max_length: int | None) -> tuple:
    """(tokenizer, longest row in tokens) that a trainer takes of a model. max_length: as asked, None for its default.

    Raises UserError where the model's context is less than what was asked for.
    """
    from ftkit.config.quiet import quiet_libraries
    from ftkit.model.context import context_size
    from ftkit.model.loading import load_config, load_tokenizer, local_model_folder
    from ftkit.training.methods.classify import text_context
    from ftkit.training.plan import row_limit

    quiet_libraries()
    folder = local_model_folder(model)
    tokenizer, config = load_tokenizer(folder), load_config(folder)
    if recipe.name == "embed" and max_length is None:
        from ftkit.inference.sentences import longest_text

        return tokenizer, longest_text(Path(folder), config, tokenizer)
    context = text_context(config, tokenizer) if recipe.name == "classify" else context_size(config)
    _, _, training = found(recipe.settings)
    is_asked = max_length is not None
    return tokenizer, row_limit(max_length if is_asked else training.max_length, context, is_asked=is_asked)
