"""Items whose answers are held against wanted calls of tools.

ToolCallRun(task, items, subject)
"""

import json

from ftkit.config.errors import UserError
from ftkit.data.rows.thoughts import THOUGHT, split_thought
from ftkit.data.rows.tools import CALLS, names_of, tools_apart, with_calls
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_items import TaskItem
from ftkit.evaluation.bench.units import GenerationRun, Subject, noted
from ftkit.evaluation.results import Item
from ftkit.inference.tool_calls import CallReader
from ftkit.metrics.tool_calls import call_scores


class ToolCallRun(GenerationRun):
    """Items whose answer is held against wanted calls of tools."""

    def __init__(self, task: Task, items: list[TaskItem], subject: Subject):
        if subject.endpoint:
            raise UserError(f"task {task.name} reads calls as the model's template writes them; load its model")
        place = subject.template.tools if subject.template else None
        if not (place and place.takes_tools and place.style):
            what = "writes calls in a way that is not read back" if place else "has no place for tools"
            name = subject.template.name if subject.template else "none"
            raise UserError(f"task {task.name}: the template {name} {what}; use --template chatml or llama3")
        self.style = place.style
        super().__init__(task, items, subject)

    @property
    def by_template(self) -> bool:
        """Tools are shown by the template alone."""
        return True

    def record(self, item: TaskItem, reply: str) -> Item:
        """One item with the scores of its calls. reply: as it came."""
        thought, answer = split_thought(reply)
        _, tools = tools_apart(item.turns)
        text, calls = calls_in(answer, self.style, names_of(tools))
        scores = call_scores([call["function"] for call in calls], json.loads(item.target))
        extra = noted({} if thought is None else {THOUGHT: thought}, item)
        said = with_calls({"content": text.strip(), CALLS: calls})
        metrics = {name: scores[name] for name in self.task.metrics}
        return Item(item.item_id, metrics, item.prompts[0], said, item.reference, extra=extra)


def calls_in(answer: str, style: str, names: list[str]) -> tuple[str, list[dict]]:
    """The text of an answer and its calls, their arguments objects."""
    reader = CallReader(style, names)
    parts = [reader.feed(answer), reader.close()]
    calls = [call["function"] for _, found in parts for call in found]
    read = [{"function": {"name": call["name"], "arguments": json.loads(call["arguments"])}} for call in calls]
    return "".join(text for text, _ in parts), read
