"""Which tasks a command line names, with their items: names, subjects, files, and rows of their own."""

import dataclasses
from collections.abc import Iterable

from ftkit.config.errors import UserError


def choose_tasks(args) -> list:
    """The tasks of the command line with their items, before a model is loaded."""
    from ftkit.data.reading.read_as import ReadAs
    from ftkit.evaluation.bench.bench import choose
    from ftkit.evaluation.bench.task_file import load_task
    from ftkit.evaluation.bench.task_items import ItemSettings

    data, asked = task_data(args.task_data), {}
    flags = {
        name: getattr(args, name, None) for name in ("columns", "encoding", "join_turns") if getattr(args, name, None)
    }
    read_as = ReadAs.of(**flags)
    for name in filter(None, (part.strip() for part in args.tasks.split(","))):
        base, group = split_name(name)
        task = load_task(base)
        if group and not task.group_by:
            raise UserError(f'task "{name}": {task.name} has no subjects; write --tasks {task.name}')
        label = f"{task.name}/{group}" if group else task.name
        check_label(label, asked)
        asked[label] = (task, ItemSettings(data.get(task.name), group, args.num_fewshot, args.limit, read_as))
    if not asked:
        raise UserError(f'--tasks "{args.tasks}" names none; ftkit bench --list shows the bundled ones')
    for flag in flags:
        if not any(task.conversations for task, _ in asked.values()):
            raise UserError(f"--{flag} is about rows with answers; add --tasks instructions, or drop it")
    chosen = [
        choose(label, with_room(task, getattr(args, "max_new_tokens", None)), items)
        for label, (task, items) in asked.items()
    ]
    unused = set(data) - {one.task.name for one in chosen}
    if unused:
        raise UserError(f"--task_data {min(unused)}=...: no such task in --tasks {args.tasks}")
    return chosen


def with_room(task, max_new_tokens: int | None):
    """The task with another limit to its answers. Raises UserError for one that is not answered in text."""
    if max_new_tokens is None:
        return task
    if task.kind not in ("generation", "tool_calls"):
        raise UserError(f"task {task.name} is no text to answer, so that --max_new_tokens has no effect; leave one out")
    return dataclasses.replace(task, max_new_tokens=max_new_tokens)


def split_name(name: str) -> tuple[str, str | None]:
    """The task's name or file, and its subject if one is asked for: mmlu/astronomy, my/task.yaml/easy."""
    if name.endswith((".yaml", ".yml")):
        return name, None
    for suffix in (".yaml", ".yml"):
        file, found, subject = name.partition(f"{suffix}/")
        if found:
            return f"{file}{suffix}", subject or None
    base, _, subject = name.partition("/")
    return base, subject or None


def check_label(label: str, others: Iterable[str]) -> None:
    """Raise UserError for a task or a subject that is asked already, or whose items would share a file with another."""
    from ftkit.evaluation.results import items_file

    for other in others:
        if label == other:
            raise UserError(f'--tasks: "{label}" appears twice; keep one')
        if label.startswith(f"{other}/") or other.startswith(f"{label}/"):
            raise UserError(f'--tasks: "{label}" and "{other}" ask the same items; keep one')
        if items_file(label) == items_file(other):
            raise UserError(f'--tasks: "{label}" and "{other}" would both write {items_file(label)}; rename one')


def task_data(texts: list[str]) -> dict[str, str]:
    """The rows of tasks, from TASK=PATH each."""
    found = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UserError(f'--task_data "{text}": write TASK=PATH, such as mmlu=path/to/mmlu')
        if name in found:
            raise UserError(f'--task_data: "{name}" appears twice; keep one')
        found[name] = path
    return found
