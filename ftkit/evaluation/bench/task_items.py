"""The questions of a task, rendered: which rows are asked, with which examples, and what the right answer is."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ftkit.config.assets import asset_root
from ftkit.config.errors import UserError, did_you_mean
from ftkit.data.reading.read_as import AS_WRITTEN, ReadAs
from ftkit.data.reading.text_file import read_text
from ftkit.data.rows.columns import format_of_keys
from ftkit.data.rows.formats import FORMATS
from ftkit.data.rows.known_names import known_names
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_rows import EARLIER, LETTERS, Row, has_split, read_conversations, read_rows
from ftkit.evaluation.bench.task_templates import Templates
from ftkit.evaluation.bench.tool_rows import read_tool_rows
from ftkit.evaluation.results import ID_LENGTH


@dataclass(frozen=True)
class Example:
    """One few-shot example: what is asked and what is answered."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class TaskItem:
    """One item to be answered. prompts: the task's own and its rephrasings. answer: the right place in `choices`.

    question: the bare text that is asked, by which the item is found in training data. source: "file:line" of its row.
    turns: a conversation that is asked as it is, in place of prompt and examples.
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
    relevant: list[str] = field(default_factory=list)
    question: str = ""
    source: str = ""
    turns: Sequence[dict] = ()

    @property
    def reference(self) -> str:
        """The right answer, as text."""
        if self.choices:
            return self.choices[self.answer]
        return json.dumps(self.constraints) if self.constraints and not self.target else self.target


@dataclass(frozen=True)
class ItemSettings:
    """What is chosen on the command line. data: in place of the task's; group: only its items; num_fewshot: in place of
    the task's; limit: only this many items of each group; read_as: --columns and --encoding, of conversations."""

    data: str | None = None
    group: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    read_as: ReadAs = AS_WRITTEN


def build_items(task: Task, settings: ItemSettings = ItemSettings()) -> list[TaskItem]:  # noqa: B008 - it is frozen
    """The items of a task, in the order of its rows.

    Raises UserError for data that is missing or does not fit the task, with the row it is about.
    """
    data = settings.data or resolved_data(task)
    if task.kind in ("perplexity", "tool_calls") and settings.num_fewshot:
        what = "scores whole texts" if task.kind == "perplexity" else "asks whole rows"
        raise UserError(f"task {task.name} {what}, which have no examples; run it without --num_fewshot")
    is_text = task.kind == "perplexity" and Path(data).suffix.lower() == ".txt"
    rows = one_text(data) if is_text else rows_of(task, data, task.split, settings.read_as)
    writer = ItemWriter(task, settings.read_as)
    if settings.group is not None:
        rows = rows_of_group(task, rows, writer.group_of, settings.group)
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
        if task.kind == "tool_calls":
            items.append(tool_item(item_id, row, writer.group_of(row)))
        else:
            items.append(writer.item(item_id, row, examples.get(writer.group_of(row), [])))
    return items


def rows_of(task: Task, data: str, split: str, read_as: ReadAs) -> list[Row]:
    """The rows of a split as the task takes them. Raises UserError for rows that belong to another task."""
    if task.kind == "tool_calls":
        return read_tool_rows(data, split, task.config, read_as)
    if task.conversations:
        return read_conversations(data, split, task.config, read_as)
    rows = read_rows(data, split, task.config)
    if task.choices == "choices" and rows and "choices" not in rows[0].values and has_answers(rows[0]):
        ways = f"--tasks instructions --task_data instructions={data}"
        raise UserError(f"{rows[0].source}: task {task.name} takes rows with choices; for these give {ways}")
    return rows


def has_answers(row: Row) -> bool:
    """Whether a row is of a form with answers that `ftkit sft` takes."""
    names = known_names(row.values, FORMATS)
    return format_of_keys([names.get(name, name) for name in row.values], FORMATS) not in (None, "text")


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
    return [Row({"text": read_text(Path(data))}, f"{data}:1")]


def rows_of_group(task: Task, rows: list[Row], group_of: Callable[[Row], str], group: str) -> list[Row]:
    """The rows of one group. Raises UserError, with the groups there are, where it has none."""
    found = [row for row in rows if group_of(row) == group]
    if not found:
        groups = sorted({group_of(row) for row in rows})
        hint = did_you_mean(group, groups) or f"; there are {', '.join(groups)}"
        raise UserError(f'no row of {task.name} has {task.group_by} "{group}"{hint}')
    return found


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
    """Turns rows into what is asked, and into what is right."""

    def __init__(self, task: Task, read_as: ReadAs = AS_WRITTEN):
        self.task, self.read_as, self.templates = task, read_as, Templates(task)
        self.render, self.misfit = self.templates.render, self.templates.misfit

    def group_of(self, row: Row) -> str:
        """The value by which items are scored apart and have their own examples."""
        name = self.task.group_by
        if name is not None and row.values.get(name) is None:
            raise self.misfit("group_by", row, f'no value in column "{name}"; the row has {", ".join(row.values)}')
        return "" if name is None else str(row.values[name])

    def item(self, item_id: str, row: Row, examples: list[Example]) -> TaskItem:
        """One row as an item."""
        task, earlier = self.task, row.values.get(EARLIER, ())
        choices = self.choices(row)
        prompts = [self.render("prompt", task.prompt, row)]
        prompts += [self.render("rephrasings", source, row) for source in task.rephrasings]
        if task.kind != "multiple_choice" and not prompts[0]:
            raise self.misfit("prompt", row, "is empty")
        return TaskItem(
            item_id,
            prompts,
            self.group_of(row),
            self.render("description", task.description, row) or system_of(earlier),
            [*examples, *examples_of(earlier)],
            choices,
            self.answer(row, choices) if choices else 0,
            self.target(row),
            self.constraints(row),
            self.relevant(row),
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
        task = self.task
        if task.prompt:
            return self.templates.columns_of("prompt", task.prompt)
        choices = task.choices if isinstance(task.choices, list) else [f"{{{{ {task.choices} }}}}"]
        return self.templates.columns_of("choices", " ".join(choices))

    def choices(self, row: Row) -> list[str]:
        """The choices: each a template, or all by one Jinja expression that gives a list."""
        written = self.task.choices
        if not written:
            return []
        if isinstance(written, list):
            found = [self.render("choices", source, row) for source in written]
        else:
            found = self.templates.evaluate("choices", written, row)
        if not isinstance(found, list) or len(found) < 2 or not all(isinstance(one, str) and one for one in found):
            raise self.misfit("choices", row, f"gives {found!r}, not a list of texts, two or more and none empty")
        return found

    def answer(self, row: Row, choices: list[str]) -> int:
        """The place of the right choice."""
        text = self.render("answer", self.task.answer, row).strip()
        if text.isdecimal():
            place = int(text)
        else:
            place = LETTERS.find(text) if len(text) == 1 else -1
        if not 0 <= place < len(choices):
            raise self.misfit("answer", row, f'is "{text}"; with {len(choices)} choices give 0 to {len(choices) - 1}')
        if isinstance(self.task.choices, list) and choices.count(choices[place]) > 1:
            raise self.misfit("choices", row, f'gives the right answer "{choices[place]}" twice')
        return place

    def target(self, row: Row) -> str:
        """The text that is right, which the task's metrics can compare with."""
        target = self.render("target", self.task.target, row)
        if "numeric_match" in self.task.metrics:
            from ftkit.metrics.text_match import final_number

            if final_number(target) is None:
                raise self.misfit("target", row, f'"{target}" has no number, which numeric_match compares')
        if "refusal" in self.task.metrics:
            from ftkit.metrics.refusal import EXPECTED

            if target not in EXPECTED:
                raise self.misfit("target", row, f'is "{target}"; refusal takes {" and ".join(EXPECTED)}')
        return target

    def constraints(self, row: Row) -> list[dict]:
        """What the answer must keep to, checked."""
        if not self.task.constraints:
            return []
        from ftkit.metrics.constraints import checked

        found = self.templates.evaluate("constraints", self.task.constraints, row)
        try:
            checked(found)
        except ValueError as error:
            raise self.misfit("constraints", row, error) from error
        return found

    def relevant(self, row: Row) -> list[str]:
        """What a search should find: one name, or several."""
        if not self.task.relevant:
            return []
        found = self.templates.evaluate("relevant", self.task.relevant, row)
        found = [found] if isinstance(found, str) else found
        if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
            raise self.misfit("relevant", row, f"gives {found!r}, not a list of sources or passages' ids")
        return found

    def examples(self, data: str, num_fewshot: int, groups: set[str]) -> dict[str, list[Example]]:
        """The first `num_fewshot` examples of each group. Raises UserError where there are fewer."""
        task = self.task
        if not task.fewshot_split or not has_split(data, task.fewshot_split, task.config):
            split = task.fewshot_split or "train"
            raise UserError(f"task {task.name}: {data} has no {split} split to take examples from; use --num_fewshot 0")
        rows = rows_of(task, data, task.fewshot_split, self.read_as)
        found = {}
        for group in sorted(groups):
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


def tool_item(item_id: str, row: Row, group: str) -> TaskItem:
    """A row of `read_tool_rows` as an item."""
    turns = row.values["turns"]
    asked = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), "")
    target = json.dumps(row.values["calls"], ensure_ascii=False)
    return TaskItem(item_id, [asked], group, target=target, question=asked, source=row.source, turns=turns)


def system_of(turns: Iterable[dict]) -> str:
    """The system turn of a conversation; "" where it has none."""
    return "".join(turn["content"] for turn in turns if turn["role"] == "system")


def examples_of(turns: Iterable[dict]) -> list[Example]:
    """The questions and answers of a conversation, in turn, without its system turn."""
    texts = [turn["content"] for turn in turns if turn["role"] != "system"]
    return list(map(Example, texts[::2], texts[1::2]))


def plain_prompt(task: Task, item: TaskItem, prompt: str) -> str:
    """Description, examples and question as one text, as lm-eval joins them."""
    examples = "".join(
        example.prompt + task.target_delimiter + example.answer + task.fewshot_delimiter for example in item.examples
    )
    return item.description + examples + prompt


def conversation(item: TaskItem, prompt: str) -> list[dict]:
    """Description, examples and question as messages, for a chat template."""
    if item.turns:
        return list(item.turns)
    messages = [{"role": "system", "content": item.description.strip()}] if item.description.strip() else []
    for example in item.examples:
        messages += [
            {"role": "user", "content": example.prompt},
            {"role": "assistant", "content": example.answer},
        ]
    return [*messages, {"role": "user", "content": prompt}]
