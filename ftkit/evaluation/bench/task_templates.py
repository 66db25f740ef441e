"""The Jinja templates of a task, rendered with the columns of a row; a mistake names the row or the line of the task.

Templates(load_task("mmlu")).render("prompt", "{{ question }}", row)
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from ftkit.config.errors import LimitError, UserError
from ftkit.config.foreign import tried, within
from ftkit.evaluation.bench.task_file import FOLDER, Task, wrong
from ftkit.evaluation.bench.task_rows import Row

ROW_SECONDS = 2  # of the processor, for one template of a task


class Null(StrictUndefined):
    """A null of a row: templates may test for it, but not show it as the text "None"."""

    def __bool__(self):
        return False

    def __eq__(self, other):
        return other is None

    def __ne__(self, other):
        return other is not None

    __hash__ = None


class Templates:
    """Renders the templates of a task. Sandboxed: a task file that was fetched from somewhere runs no Python."""

    def __init__(self, task: Task):
        self.task = task
        self.compiled = {}
        self.environment = SandboxedEnvironment(
            undefined=StrictUndefined, keep_trailing_newline=True, finalize=not_none
        )
        self.environment.filters["regex_replace"] = lambda text, pattern, new: re.sub(pattern, new, text)
        self.environment.tests["none"] = lambda value: value is None or isinstance(value, Null)

    def render(self, name: str, source: str, row: Row) -> str:
        """The text of a template. name: the task's setting that it is.

        Raises UserError where it is no template, or fails: where a column is missing or null, or for whatever else.
        """
        self.first_try(name, source, lambda: self.environment.from_string(source).render(columns(row)))
        template = self.compile(name, source, self.environment.from_string)
        try:
            with self.limit(name):
                return template.render(columns(row))
        except LimitError:
            raise
        except Exception as error:  # a template is a person's program, so that whatever it raises is theirs
            raise self.misfit(name, row, str(error) or type(error).__name__) from error

    def evaluate(self, name: str, expression: str, row: Row) -> Any:
        """The value of a Jinja expression; raises as `render` does."""
        self.first_try(name, expression, lambda: self.compile_expression(expression)(columns(row)))
        evaluate = self.compile(name, expression, self.compile_expression)
        try:
            with self.limit(name):
                found = evaluate(columns(row))
                if isinstance(found, Undefined):
                    str(found)  # raises what is undefined
                return found
        except LimitError:
            raise
        except Exception as error:
            raise self.misfit(name, row, str(error) or type(error).__name__) from error

    def limit(self, name: str) -> AbstractContextManager:
        """A limit of time for one row, which raises LimitError."""
        return within(ROW_SECONDS, f"{self.task.path}: {name}", "fix the task")

    def first_try(self, name: str, source: str, work: Callable[[], Any]) -> None:
        """Compile and render a template of a task that is not ftkit's own where it can do no harm."""
        if (name, source) not in self.compiled and Path(self.task.path).parent != FOLDER:
            tried(work, f"{self.task.path}: {name}", "fix the task")

    def compile_expression(self, expression: str):
        """An expression that fails on an unknown name, as a function of the columns."""
        return self.environment.compile_expression(expression, undefined_to_none=False)

    def compile(self, name: str, source: str, compiler) -> Any:
        """A template or an expression, kept for the next row. Raises UserError with the task's line for a wrong one."""
        if (name, source) not in self.compiled:
            self.compiled[name, source] = self.checked(name, lambda: compiler(source))
        return self.compiled[name, source]

    def checked(self, name: str, read: Callable[[], Any]) -> Any:
        """What `read` makes of a template. Raises UserError with the task's line for a wrong one."""
        try:
            return read()
        except TemplateSyntaxError as error:
            wrong(self.task, name, f"not a Jinja template ({error.message}); fix the line")
        except RecursionError:
            wrong(self.task, name, "too deeply nested; fix the line")

    def columns_of(self, name: str, source: str) -> list[str]:
        """The columns that a template names, in their order there."""
        tree = self.checked(name, lambda: self.environment.parse(source))
        free = meta.find_undeclared_variables(tree)
        return list(dict.fromkeys(node.name for node in tree.find_all(nodes.Name) if node.name in free))

    def misfit(self, name: str, row: Row, reason) -> UserError:
        """The error of a row that does not fit a setting of the task."""
        return UserError(f"{row.source}: {name} of task {self.task.name}: {reason}; fix the row or {self.task.path}")


def columns(row: Row) -> dict:
    """The columns of a row as templates see them."""
    return {
        name: Null(f"column {name} is null", name=name) if value is None else value
        for name, value in row.values.items()
    }


def not_none(value):
    """What a template shows, unless it is the null of a list or of a column within a column."""
    if value is None:
        raise UndefinedError("a value that it shows is null")
    return value
