"""A contestant of a bake-off asked the held-out questions by bench's code: OUT/NAME/results.json and costs.json."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from ftkit.config.files import write_json
from ftkit.config.json_object import read_object
from ftkit.config.versions import versions
from ftkit.evaluation.bakeoff.answers import CountedRun, Watch, asked_with, mean_tokens, share_quoted
from ftkit.evaluation.bakeoff.contest import (
    ANSWERS,
    COSTS,
    FORGETTING,
    WITH_PASSAGE,
    WITHOUT_PASSAGE,
    Contestant,
    Costs,
)
from ftkit.evaluation.bench.bench import TIMES_FILE, Chosen, choose, run_benchmark
from ftkit.evaluation.bench.subject import SCORE_LIBRARIES, load_subject
from ftkit.evaluation.bench.task_file import load_task
from ftkit.evaluation.bench.task_items import ItemSettings
from ftkit.evaluation.bench.units import RUNS
from ftkit.evaluation.results import FILE, Results, read_items
from ftkit.inference.asking import ModelSettings
from ftkit.runs.bakeoff.asked import METRICS, PROMPT, Asked
from ftkit.runs.bakeoff.making import read_made
from ftkit.runs.bakeoff.setup import Setup, megabytes, read_setup


@dataclasses.dataclass
class Questions:
    """What a contestant is asked. kinds: what answers each kind of task. found: of its search, see `Costs`."""

    chosen: list[Chosen]
    kinds: dict[str, Callable[..., Any]]
    found: float | None = None


def ask(asked: Asked, contestant: Contestant) -> None:
    """Ask a contestant. Raises UserError for prompts that do not fit the model's context."""
    setup, watch, folder = read_setup(asked), Watch(), asked.of(contestant)
    questions = questions_for(asked, setup, contestant, watch)
    subject, model = load_subject(model_of(asked, setup, contestant), batch_size=asked.batch_size)
    settings = {"contestant": contestant.name, "rows": asked.rows, "batch_size": subject.batch_size}
    results = Results(model, {}, settings, versions(SCORE_LIBRARIES), asked.seed)
    results = run_benchmark(subject, questions.chosen, results, folder, kinds=questions.kinds)
    items = read_items(folder / FILE, results.tasks[ANSWERS])
    seconds = read_object(folder / TIMES_FILE)[ANSWERS]
    prompt_tokens, answer_tokens = mean_tokens(items)
    costs = Costs(
        memory_gib=watch.memory_gib, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens,
        seconds=seconds / len(items), found=questions.found, quoted=share_quoted(items),
        **costs_of_making(asked, setup, contestant, questions.chosen[0]),
    )  # fmt: skip
    write_json(folder / COSTS, dataclasses.asdict(costs))


def questions_for(asked: Asked, setup: Setup, contestant: Contestant, watch: Watch) -> Questions:
    """The held-out questions as a contestant is asked them, and the probe of what training may make it forget."""
    chosen = held_out(asked, setup, asked.num_examples if contestant.name == "few_shot" else 0)
    counted: dict[str, Callable[..., Any]] = {**RUNS, "generation": partial(CountedRun, watch=watch)}
    if contestant.searches:
        questions = searched(asked, chosen, counted, watch, quotes=contestant.is_trained)
    else:
        questions = Questions([chosen], counted)
    if asked.forgetting_limit and (contestant.is_trained or contestant.name == PROMPT):
        limit = ItemSettings(limit=asked.forgetting_limit)
        questions.chosen.append(choose(FORGETTING, load_task("forgetting"), limit))
    return questions


def held_out(asked: Asked, setup: Setup, num_fewshot: int) -> Chosen:
    """The held-out rows as a task, the same for all contestants but for the examples before each question."""
    task = dataclasses.replace(load_task("instructions"), name=ANSWERS, stop=[], max_new_tokens=setup.max_new_tokens)
    rows = ItemSettings(data=str(asked.data), num_fewshot=num_fewshot)
    metrics = sorted(METRICS, key=lambda name: name != setup.metric)
    return choose(ANSWERS, dataclasses.replace(task, metrics=metrics), rows)


def searched(asked: Asked, chosen: Chosen, counted: dict, watch: Watch, *, quotes: bool) -> Questions:
    """The questions after the passages that each of them finds. quotes: by a model that quotes: also with the right
    passage surely there, and without it."""
    from ftkit.inference.retrieval.prompting import with_sources
    from ftkit.runs.bakeoff.passages import Passages

    passages = Passages(asked)
    found = {item.item_id: passages.found(item.question) for item in chosen.items}
    items = asked_with(chosen.items, lambda item, messages: with_sources(messages, found[item.item_id]))
    shown = {ANSWERS: {key: [one.passage for one in some] for key, some in found.items()}}
    share = passages.share_found(chosen.items, shown[ANSWERS])
    tasks = [dataclasses.replace(chosen, items=items)]
    if not quotes:
        return Questions(tasks, counted, share)
    for name, has_passage in ((WITH_PASSAGE, True), (WITHOUT_PASSAGE, False)):
        made, shown[name] = passages.quoting_items(chosen.items, has_passage=has_passage)
        task = dataclasses.replace(chosen.task, name=name)
        if not has_passage:  # the answer is that there is none
            task = dataclasses.replace(task, metrics=sorted(task.metrics, key=lambda metric: metric != "exact_match"))
        tasks += [dataclasses.replace(chosen, name=name, task=task, items=made)] if made else []

    from ftkit.evaluation.bakeoff.quotes import QuotingRun

    def quoting(task, items, subject) -> QuotingRun:
        return QuotingRun(task, items, subject, watch=watch, passages=shown[task.name])

    return Questions(tasks, {**counted, "generation": quoting}, share)


def model_of(asked: Asked, setup: Setup, contestant: Contestant) -> ModelSettings:
    """The model that answers: the base, an adapter on it, or the weights that were trained."""
    run = str(asked.run(contestant))
    if not contestant.is_trained:
        return ModelSettings(asked.model, template=setup.template)
    if contestant.name == "full":
        return ModelSettings(run)
    in_4bit = contestant.name == "qlora"
    return ModelSettings(asked.model, adapters={contestant.name: run}, load_in_4bit=in_4bit)


def costs_of_making(asked: Asked, setup: Setup, contestant: Contestant, chosen: Chosen) -> dict:
    """What it took to make a contestant, and what is shipped of it, as `Costs` calls them."""
    searched = contestant.searches
    size, minutes = (setup.index_megabytes, setup.index_minutes) if searched else (0.0, 0.0)
    if not contestant.is_trained:
        shown = "".join(example.prompt + example.answer for example in chosen.items[0].examples)
        return {"minutes": minutes, "megabytes": size + len(shown.encode()) / 1e6}
    made = read_made(asked, contestant)
    weights = [path for path in asked.run(contestant).glob("*.safetensors")]
    return {
        "minutes": minutes + made.minutes, "megabytes": size + megabytes(weights),
        "training_memory_gib": made.memory_gib, "epochs": made.epochs,
    }  # fmt: skip
