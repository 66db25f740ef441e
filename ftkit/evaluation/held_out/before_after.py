"""Did fine-tuning help: held-out rows answered by the base, by the base with examples in its prompt, and by the result.

    OUT/before/             the base in its own template, or in the one that is trained where it has none
    OUT/before-3-examples/  the same after three training rows, where they fit its context
    OUT/results.json        the result; `ftkit compare OUT` gives the verdict

How many rows are answered is decided in the plan; where none is, the loss of their answers alone is measured.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Sequence

from ftkit.config.errors import UserError
from ftkit.config.launch import is_first_process
from ftkit.config.terminal import Progress
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.rows.thoughts import without_thought
from ftkit.evaluation.bench.scores import task_scores
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_items import TaskItem, examples_of, system_of
from ftkit.evaluation.bench.task_rows import is_question
from ftkit.evaluation.bench.units import GenerationRun, Subject
from ftkit.evaluation.held_out.likelihoods import (
    ANSWERS,
    Part,
    answer_parts,
    held_out_task,
    likelihood_scores,
    measure,
    measure_likelihoods,
    scores_of,
)
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import BEFORE, Item, content_id
from ftkit.evaluation.verdict.text import run_lines
from ftkit.inference.engine import Engine, template_of
from ftkit.metrics.text_match import graded_metric
from ftkit.model.adapters.files import tokenizer_folder
from ftkit.model.loading import load_tokenizer
from ftkit.training.answering import NUM_EXAMPLES, new_tokens
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

WITH_EXAMPLES = f"{BEFORE}-{NUM_EXAMPLES}-examples"
TASK = Task("held-out", 1, "generation", "held-out rows", ["exact_match", "token_f1", "chrf"], template=True)

logger = logging.getLogger(__name__)


def first_rows(run: Run, parts: list[Part]) -> list[list[dict]]:
    """Rows that stand as examples before each question: the first training rows that can."""
    return [[row for row in run.data.rows.train if is_question(row.get("messages"))][:NUM_EXAMPLES]] * len(parts)


def before(run: Run, trainer, examples: Callable[[Run, list[Part]], list[list[dict]]] = first_rows) -> None:
    """Write OUT/before and OUT/before-3-examples. examples(run, parts): the rows before each question."""
    parts = asked_parts(run)
    if not parts:
        measure_likelihoods(run, trainer, ANSWERS, answer_parts(run), is_trained=False)
        return
    with base_of(run, trainer.model):
        voice, shown = own_voice(run), examples(run, parts)
        try:
            prompted = answers(run, trainer, parts, voice, "base with examples", shown) if any(shown) else []
        except UserError as error:  # long rows
            logger.warning("the base with examples in its prompt is left out: %s", error)
            prompted = []
        items = answers(run, trainer, parts, voice, "base")
        add_likelihoods(run, trainer, parts, items)
    if prompted:
        write(run, trainer, prompted, folder=WITH_EXAMPLES, num_fewshot=len(shown[0]))
    write(run, trainer, items)  # the last: with it, all that was measured before is there


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json; how it was before and after, and the verdict."""
    parts = asked_parts(run)
    if parts:
        voice = run.data.tokenizer, run.data.template
        items = answers(run, trainer, parts, voice, "result")
        add_likelihoods(run, trainer, parts, items)
        write(run, trainer, items, is_trained=True)
    elif not measure_likelihoods(run, trainer, ANSWERS, answer_parts(run), is_trained=True):
        return []
    return run_lines(run.output_dir, "row") if trainer.is_world_process_zero() else []


def asked_parts(run: Run) -> list[Part]:
    """The held-out rows that are answered."""
    if not (run.decided.num_answered and run.data.template):
        return []
    return answer_parts(run, run.decided.num_answered, is_question)


def base_of(run: Run, model) -> contextlib.AbstractContextManager:
    """Inside, the model answers as the base: a new soft prompt, unlike a new LoRA, is not without effect."""
    is_new_prompt = run.settings.model.peft_method == "prompt_tuning" and not run.settings.model.adapter
    return model.disable_adapter() if run.settings.model.use_peft and is_new_prompt else contextlib.nullcontext()


def own_voice(run: Run) -> tuple:
    """Tokenizer and template that the model came with; those that are trained where it has no template that works."""
    data, model = run.data, run.settings.model
    if run.settings.data.template != "auto":
        source = tokenizer_folder(model.adapter, data.folder) if model.adapter else data.folder
        tokenizer = load_tokenizer(source, trust_remote_code=run.config.trust_remote_code)
        try:
            template = template_of(tokenizer, "auto", may_lack=True)
        except UserError as error:
            logger.warning("the base is asked in the template that is trained: %s", error)
            template = None
        if template:
            return tokenizer, template
    return data.tokenizer, data.template


def answers(
    run: Run, trainer, parts: list[Part], voice: tuple, what: str, shown: Sequence[Sequence[dict]] = ()
) -> list[Item]:
    """The parts with greedy answers and their scores; in all processes.

    what: is answering, as the progress calls it. shown: rows before each question. Raises UserError, in all processes,
    for a prompt that leaves an answer no room.
    """
    subject = Subject(Engine.of(trainer.model, *voice))
    lengths = [sum(label >= 0 for label in part.sequences[0]["labels"]) for part in parts]
    task = dataclasses.replace(TASK, max_new_tokens=new_tokens(lengths))
    asked = GenerationRun(task, questions([part.content for part in parts], shown), subject)
    found = shared(trainer.accelerator, range(len(parts)), lambda places: generated(asked, places, what))
    return [dataclasses.replace(item, prompt=item.prompt.replace(INPUT_MARKER, "\n\n")) for item in found]


def questions(conversations: Sequence[list[dict]], shown: Sequence[Sequence[dict]] = ()) -> list[TaskItem]:
    """The last question of each conversation as a benchmark item, after those of its `shown` rows and its own."""
    items = {}
    for (*earlier, question, answer), rows in zip(conversations, shown or [()] * len(conversations), strict=True):
        examples = [example for row in rows for example in examples_of(bare(row["messages"][-2:]))]
        key = content_id([*earlier, question, answer])
        key = f"{key}-{len(items)}" if key in items else key
        items[key] = TaskItem(
            key, [question["content"]], "", system_of(earlier), [*examples, *examples_of(bare(earlier))],
            target=without_thought(answer["content"]),
        )  # fmt: skip
    return list(items.values())


def bare(turns: list[dict]) -> list[dict]:
    """Turns without the thoughts that answers begin with."""
    return [{**turn, "content": without_thought(turn["content"])} for turn in turns]


def generated(run: GenerationRun, places: Sequence[int], what: str) -> list[Item]:
    """The items at some places with their answers, generated together where they are about as long.

    what: as the progress calls it.
    """
    ordered = sorted(places, key=lambda place: -len(run.prompts[place]))
    found, size = {}, run.subject.batch_size
    with Progress(len(ordered), what, "rows answered", shown=is_first_process()) as progress:
        for start in range(0, len(ordered), size):
            unit = ordered[start : start + size]
            found |= dict(zip(unit, run.run(unit), strict=True))
            progress.advance(len(unit))
    return [found[place] for place in places]


def add_likelihoods(run: Run, trainer, parts: list[Part], items: list[Item]) -> None:
    """Give the items the loss of the answers wanted, in the template that is trained."""
    for item, score in zip(items, measure(run, trainer, parts), strict=True):
        if score.num_tokens:
            item.scores |= scores_of(run, ANSWERS, score)
            item.extra["num_answer_tokens"] = score.num_tokens


def write(
    run: Run, trainer, items: list[Item], *, is_trained: bool = False, folder: str = BEFORE, num_fewshot: int = 0
) -> None:
    """Write one results.json, in the first process."""
    if not trainer.is_world_process_zero():
        return
    main = graded_metric([item.reference for item in items])
    task = dataclasses.replace(TASK, metrics=sorted(TASK.metrics, key=lambda name: name != main))
    scores = task_scores(task, items) | likelihood_scores(items)
    result = held_out_task(run, ANSWERS, items, scores)
    result = dataclasses.replace(result, num_fewshot=num_fewshot)
    write_held_out(run, result, items, is_trained=is_trained, folder=folder)


HELD_OUT = HeldOut(after, before)
