"""Benchmark tasks as YAML files: the bundled ones in ftkit/evaluation/bench/tasks, a person's own by path.

task = load_task("mmlu"), load_task("my/task.yaml")
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.yaml_file import read_yaml_settings

FOLDER = Path(__file__).with_name("tasks")
METRICS = {  # by kind of task, what an item can be scored by
    "multiple_choice": ("acc", "acc_norm", "acc_worst", "consistency", "stereotype_share"),
    "generation": (
        "exact_match", "contains", "final_answer", "quoted", "token_f1", "numeric_match", "constraints",
        "each_constraint", "refusal", "bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum", "faithfulness",
    ),
    "perplexity": ("bits_per_byte", "perplexity"),
    "retrieval": (
        "recall_at_1", "recall_at_3", "recall_at_5", "recall_at_10", "mrr", "ndcg_at_3", "ndcg_at_5", "ndcg_at_10",
    ),
    "tool_calls": ("call_accuracy", "name_accuracy", "argument_accuracy", "decision_accuracy"),
}  # fmt: skip
WHOLE_ROWS = (  # settings that tasks have no use for which take rows as they are
    "choices", "answer", "rephrasings", "target", "constraints", "stop", "template", "description", "fewshot_split",
    "num_fewshot", "target_delimiter", "fewshot_delimiter",
)  # fmt: skip
LACKING = {  # by kind of task, the settings that it has no use for
    "multiple_choice": ("target", "constraints", "stop", "max_new_tokens", "relevant"),
    "generation": ("choices", "answer", "rephrasings", "relevant"),
    "retrieval": (*WHOLE_ROWS, "max_new_tokens", "conversations"),
    "perplexity": (*WHOLE_ROWS, "max_new_tokens", "relevant"),
    "tool_calls": (*WHOLE_ROWS, "prompt", "conversations", "relevant"),
}  # fmt: skip
NOT_HASHED = ("about", "num_fewshot", "data", "config", "path", "conversations")  # do not change what is asked
ADDED = ("relevant",)  # settings of a later ftkit: left out where they are not set, so that hashes stay what they were


@dataclass(frozen=True)
class Task:
    """One benchmark task. Texts are Jinja templates that see the columns of a row.

    kind: multiple_choice (the likeliest of `choices`), generation (an answer against `target`), perplexity (of
    `prompt`), retrieval (the passages that an index finds, against `relevant`) or tool_calls (rows with tools, in any
    form that `ftkit sft` takes: the calls of their last answer that makes any). data: file, folder, bundled dataset
    or Hub id; config: of the Hub id. fewshot_split: where examples come from, the first `num_fewshot` of the row's
    group. choices: texts, or one template that gives a list. answer: the right place in `choices`, a number from 0 or a
    letter. metrics: the first is the main one. template: ask through the model's chat template where it has one. stop:
    texts that end an answer. group_by: a column whose values are scored apart too. rephrasings: further prompts for the
    same row, whose answers should be the same. constraints: a Jinja expression that gives what an answer must keep to,
    see `metrics.constraints`. relevant: one that gives the sources or passages' ids that answer the question.
    conversations: take rows in any form that `ftkit sft` takes; templates see instruction, input and output, earlier
    turns stand before the question.
    """

    name: str
    version: int
    kind: str
    about: str
    metrics: list[str]
    data: str = ""
    prompt: str = ""
    config: str | None = None
    split: str = "test"
    fewshot_split: str | None = None
    num_fewshot: int = 0
    description: str = ""
    choices: list[str] | str = field(default_factory=list)
    answer: str = ""
    target: str = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    template: bool = False
    stop: list[str] = field(default_factory=list)
    max_new_tokens: int = 128
    group_by: str | None = None
    rephrasings: list[str] = field(default_factory=list)
    constraints: str = ""
    relevant: str = ""
    conversations: bool = False
    path: str = ""

    @property
    def settings_hash(self) -> str:
        """SHA-256 of what is asked and how it is scored; the same wherever the rows lie and however many examples."""
        settings = {key: value for key, value in dataclasses.asdict(self).items() if key not in NOT_HASHED}
        settings = {key: value for key, value in settings.items() if value or key not in ADDED}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def bundled_tasks() -> list[str]:
    """Names of the bundled tasks, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_task(name: str) -> Task:
    """The task of a bundled name or of a .yaml file.

    Raises UserError for an unknown name or setting, a missing one, and values that do not fit together.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: no such task file; give a path, or one of ftkit bench --list")
    else:
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            known = bundled_tasks()
            raise UserError(f'unknown task "{name}"{did_you_mean(name, known) or "; see ftkit bench --list"}')
    return parse_task(path)


def parse_task(path: Path) -> Task:
    """The task in one file; see `load_task`."""
    fields = {item.name: item for item in dataclasses.fields(Task) if item.name not in ("name", "path")}
    settings = read_yaml_settings(str(path), set(fields), allowed=f"a task has {', '.join(fields)}")
    for name, item in fields.items():
        if name not in settings and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise UserError(f"{path}:1: {name} is missing; a task needs {name}:")
        if name in settings:
            check_type(path, name, settings[name], item.type)
    task = Task(name=path.stem, path=str(path), **settings)
    check_task(task)
    return task


def check_type(path: Path, name: str, value, type_) -> None:
    """Raise UserError, with the line, for a value of another type than its setting's."""
    allowed = {
        str: (str,), int: (int,), bool: (bool,), list[str]: (list,), str | None: (str, type(None)),
        list[str] | str: (list, str),
    }[type_]  # fmt: skip
    fits = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
    fits = fits and (not isinstance(value, list) or all(isinstance(one, str) for one in value))
    if not fits:
        named = {str: "a text", int: "a whole number", bool: "true or false", list: "a list of texts"}
        ways = " or ".join(named[one] for one in allowed if one in named)
        raise UserError(f"{line_of(path, name)}: {name} is {value!r}; give {ways}")


def check_task(task: Task) -> None:
    """Raise UserError for values that are not allowed, or do not fit together."""
    if task.kind not in METRICS:
        wrong(task, "kind", f'unknown kind "{task.kind}"{did_you_mean(task.kind, METRICS)}; give {", ".join(METRICS)}')
    for metric in task.metrics:
        if metric not in METRICS[task.kind]:
            known = METRICS[task.kind]
            hint = did_you_mean(metric, known) or f"; a {task.kind} task has {', '.join(known)}"
            wrong(task, "metrics", f'unknown metric "{metric}"{hint}')
    if not task.metrics:
        wrong(task, "metrics", "no metric; give at least one, the main one first")
    check_kind(task)
    if task.kind == "multiple_choice":
        check_choices(task)
    if task.version < 1 or task.num_fewshot < 0 or task.max_new_tokens < 1:
        wrong(task, "version", "version and max_new_tokens start at 1, num_fewshot at 0")
    if not task.rephrasings and {"acc_worst", "consistency"} & set(task.metrics):
        wrong(task, "metrics", "acc_worst and consistency are about rephrasings:, which the task lacks")
    if "" in task.stop:
        wrong(task, "stop", "an empty text ends every answer before it begins; leave it out")
    if task.fewshot_split == task.split:
        wrong(task, "fewshot_split", f"items of {task.split} would be their own examples; give another split")


def check_kind(task: Task) -> None:
    """Raise UserError for settings that the kind of task or its metrics need, or have no use for."""
    if not task.prompt and task.kind not in ("multiple_choice", "tool_calls"):
        wrong(task, "kind", f"a {task.kind} task needs prompt:")
    if task.kind == "multiple_choice" and not (task.choices and task.answer):
        wrong(task, "kind", "a multiple_choice task needs choices: and answer:")
    if task.kind == "retrieval" and not task.relevant:
        wrong(task, "kind", "a retrieval task needs relevant:")
    for metric in task.metrics if task.kind == "generation" else ():
        needed = "constraints" if metric in ("constraints", "each_constraint") else "target"
        if metric != "faithfulness" and not getattr(task, needed):
            wrong(task, "metrics", f"{metric} needs {needed}:")
    default = Task("", 1, "", "", [])
    for name in LACKING[task.kind]:
        if getattr(task, name) != getattr(default, name):
            wrong(task, name, f"a {task.kind} task has no {name}:; leave it out")


def check_choices(task: Task) -> None:
    """Raise UserError for a list of choices that can't be told apart."""
    if isinstance(task.choices, list):
        if len(task.choices) < 2 or "" in task.choices:
            wrong(task, "choices", f"choices are {task.choices}; give two or more, none of them empty")
        if len(set(task.choices)) < len(task.choices):
            wrong(task, "choices", f"choices are {task.choices}, two of them equal; keep one of each")


def wrong(task: Task, name: str, reason: str) -> None:
    """Raise UserError at the line of a setting."""
    raise UserError(f"{line_of(Path(task.path), name)}: {reason}")


def line_of(path: Path, name: str) -> str:
    """ "path:line" of a setting at the top level of a YAML file."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return f"{path}:{next((n for n, line in enumerate(lines, start=1) if line.startswith(f'{name}:')), 1)}"
