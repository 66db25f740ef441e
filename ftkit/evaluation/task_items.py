"""The questions of a task, rendered: which rows are asked, with which examples, and what the right answer is."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from ftkit.config.assets import asset_root
from ftkit.config.errors import UserError
from ftkit.data.text_file import describe_flaw, find_flaw, open_text
from ftkit.evaluation.task_file import Task
from ftkit.evaluation.task_rows import LETTERS, Row, has_split, read_rows

ID_LENGTH = 16  # hexadecimal digits of an item's id


@dataclass(frozen=True)
class Example:
    """One few-shot example: what is asked and what is answered."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class TaskItem:
    """One item to be answered. prompts: the task's own and its rephrasings. answer: the right place in `choices`.

    question: the bare text that is asked, by which the item is found in training data. source: "file:line" of its row.
    """

    item_id: str
    prompts: list[str]
    group: str = ""
    description: str = ""
    examples: list[Example] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    answer: int = 0
    target: str = ""
    constraints: list[dict] = field(default_factory=list)
    question: str = ""
    source: str = ""

    @property
    def reference(self) -> str:
        """The right answer, as text."""
        return self.choices[self.answer] if self.choices else self.target or json.dumps(self.constraints)


@dataclass(frozen=True)
class ItemSettings:
    """What is chosen on the command line. data: in place of the task's; group: only its items; num_fewshot: in place of
    the task's; limit: only so many items of each group."""

    data: str | None = None
    group: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None


def build_items(task: Task, settings: ItemSettings = ItemSettings()) -> list[TaskItem]:  # noqa: B008 - it is frozen
    """The items of a task, in the order of its rows.

    Raises UserError for data that is missing or does not fit the task, with the row it is about.
    """
    data = settings.data or resolved_data(task)
    rows = one_text(data) if task.kind == "perplexity" and data.endswith(".txt") else read_rows(
        data, task.split, task.config
    )  # fmt: skip
    writer = ItemWriter(task)
    if settings.group is not None:
        rows = [row for row in rows if writer.group_of(row) == settings.group]
        if not rows:
            raise UserError(f'{data}: no row of {task.name} has {task.group_by} "{settings.group}"')
    if settings.limit is not None:
        rows = first_of_each(rows, writer.group_of, settings.limit)
    num_fewshot = task.num_fewshot if settings.num_fewshot is None else settings.num_fewshot
    examples = writer.examples(data, num_fewshot, {writer.group_of(row) for row in rows}) if num_fewshot else {}
    seen = Counter()
    items = []
    for row in rows:
        digest = row_digest(row)
        seen[digest] += 1
        item_id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        items.append(writer.item(item_id, row, examples.get(writer.group_of(row), [])))
    return items


def resolved_data(task: Task) -> str:
    """The task's data: beside the task's file, a file of a bundled dataset, or what the name stands for elsewhere."""
    if not task.data:
        raise UserError(f"task {task.name} has no data of its own; give it: --task_data {task.name}=PATH")
    places = (Path(task.path).parent / task.data, asset_root("datasets") / task.data)
    return next((str(place) for place in places if place.exists()), task.data)


def one_text(data: str) -> list[Row]:
    """A .txt file as one text, which is not torn into lines."""
    if not Path(data).is_file():
        raise UserError(f"{data}: no such file; check the path")
    with open_text(Path(data)) as file:
        text = file.read()
    if found := find_flaw(text):
        position, what, fix = found
        line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
        raise UserError(f"{data}:{line}: {describe_flaw(what, f'column {column}', fix)}")
    return [Row({"text": text}, f"{data}:1")]


def first_of_each(rows: list[Row], group_of: Callable[[Row], str], limit: int) -> list[Row]:
    """The first `limit` rows of each group, in order."""
    counts, kept = Counter(), []
    for row in rows:
        counts[group_of(row)] += 1
        if counts[group_of(row)] <= limit:
            kept.append(row)
    return kept


def row_digest(row: Row) -> str:
    """A hash of a row's content, the same wherever it lies."""
    text = json.dumps(row.values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


class ItemWriter:
    """Renders the templates of a task."""

    def __init__(self, task: Task):
        self.task = task
        self.environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        self.environment.filters["regex_replace"] = lambda text, pattern, new: re.sub(pattern, new, text)
        self.compiled = {}

    def render(self, name: str, source: str, row: Row) -> str:
        """A template of the task with a row's columns. Raises UserError where it asks for what the row lacks."""
        try:
            if source not in self.compiled:
                self.compiled[source] = self.environment.from_string(source)
            return self.compiled[source].render(**row.values)
        except (TemplateError, TypeError, ValueError) as error:
            raise self.misfit(name, row, error) from error

    def misfit(self, name: str, row: Row, reason) -> UserError:
        return UserError(f"{row.source}: {name} of task {self.task.name}: {reason}; mend the row or {self.task.path}")

    def group_of(self, row: Row) -> str:
        """The value by which items are scored apart and have their own examples."""
        return str(row.values.get(self.task.group_by, "")) if self.task.group_by else ""

    def item(self, item_id: str, row: Row, examples: list[Example]) -> TaskItem:
        """One row as an item."""
        task = self.task
        choices = self.choices(row)
        return TaskItem(
            item_id,
            [self.render("prompt", source, row) for source in (task.prompt, *task.rephrasings)],
            self.group_of(row),
            self.render("description", task.description, row),
            examples,
            choices,
            self.answer(row, choices) if choices else 0,
            self.render("target", task.target, row),
            self.constraints(row),
            self.question(row),
            row.source,
        )

    def question(self, row: Row) -> str:
        """The texts of a row that are asked, without the prompt's own words."""
        texts = [row.values.get(name) for name in self.asked_columns]
        return "\n".join(text for text in texts if isinstance(text, str) and text.strip())

    @cached_property
    def asked_columns(self) -> list[str]:
        """The columns that the prompt names, or where it is empty the choices, in their order there."""
        choices = self.task.choices
        templates = choices if isinstance(choices, list) else [f"{{{{ {choices} }}}}"]
        tree = self.environment.parse(self.task.prompt or " ".join(templates))
        columns = meta.find_undeclared_variables(tree)
        return list(dict.fromkeys(node.name for node in tree.find_all(nodes.Name) if node.name in columns))

    def choices(self, row: Row) -> list[str]:
        """The choices: each a template, or all by one Jinja expression that gives a list."""
        if isinstance(self.task.choices, list):
            return [self.render("choices", source, row) for source in self.task.choices]
        found = self.evaluate("choices", self.task.choices, row)
        if not isinstance(found, list) or len(found) < 2 or not all(isinstance(one, str) and one for one in found):
            raise self.misfit("choices", row, f"gives {found!r}, not a list of texts")
        return found

    def evaluate(self, name: str, expression: str, row: Row):
        """The value of a Jinja expression."""
        try:
            return self.environment.compile_expression(expression, undefined_to_none=False)(**row.values)
        except (TemplateError, TypeError, ValueError) as error:
            raise self.misfit(name, row, error) from error

    def answer(self, row: Row, choices: list[str]) -> int:
        """The place of the right choice."""
        text = self.render("answer", self.task.answer, row).strip()
        if text.isdecimal():
            place = int(text)
        else:
            place = LETTERS.find(text) if len(text) == 1 else -1
        if not 0 <= place < len(choices):
            raise self.misfit("answer", row, f'is "{text}"; with {len(choices)} choices give 0 to {len(choices) - 1}')
        return place

    def constraints(self, row: Row) -> list[dict]:
        """What the answer must keep to, checked."""
        if not self.task.constraints:
            return []
        from ftkit.evaluation.metrics.constraints import checked

        found = self.evaluate("constraints", self.task.constraints, row)
        try:
            checked(found)
        except ValueError as error:
            raise self.misfit("constraints", row, error) from error
        return found

    def examples(self, data: str, num_fewshot: int, groups: set[str]) -> dict[str, list[Example]]:
        """The first `num_fewshot` examples of each group. Raises UserError where there are fewer."""
        task = self.task
        if not task.fewshot_split or not has_split(data, task.fewshot_split, task.config):
            split = task.fewshot_split or "train"
            raise UserError(f"task {task.name}: {data} has no {split} split to take examples from; use --num_fewshot 0")
        rows = read_rows(data, task.fewshot_split, task.config)
        found = {}
        for group in groups:
            own = [row for row in rows if self.group_of(row) == group][:num_fewshot]
            if len(own) < num_fewshot:
                name = f"{data} ({task.fewshot_split}{', ' + group if group else ''})"
                raise UserError(f"task {task.name}: {name} has {len(own)} examples; use --num_fewshot {len(own)}")
            found[group] = [Example(self.render("prompt", task.prompt, row), self.solution(row)) for row in own]
        return found

    def solution(self, row: Row) -> str:
        """The right answer of an example."""
        choices = self.choices(row)
        return choices[self.answer(row, choices)] if choices else self.render("target", self.task.target, row)


def plain_prompt(task: Task, item: TaskItem, prompt: str) -> str:
    """Description, examples and question as one text, as lm-eval joins them."""
    examples = "".join(
        example.prompt + task.target_delimiter + example.answer + task.fewshot_delimiter for example in item.examples
    )
    return item.description + examples + prompt


def conversation(item: TaskItem, prompt: str) -> list[dict]:
    """Description, examples and question as messages, for a chat template."""
    messages = [{"role": "system", "content": item.description.strip()}] if item.description.strip() else []
    for example in item.examples:
        messages += [
            {"role": "user", "content": example.prompt},
            {"role": "assistant", "content": example.answer},
        ]
    return [*messages, {"role": "user", "content": prompt}]
