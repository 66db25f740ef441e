"""Held-out conversations answered: by a model, with examples in its prompt, and by what answers without a model.

    items = answered(model, tokenizer, "chatml", test)
    write_answers("runs/mine", {"name": "runs/mine"}, items)

A row is {"messages": [...]}, whose last message is the answer; "group" names the task it belongs to, where there are
several.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ftkit.config.launch import is_first_process
from ftkit.config.terminal import Progress
from ftkit.data.rows.formats import alpaca_row
from ftkit.data.rows.thoughts import in_one_text, split_thought, without_thought
from ftkit.data.templates.templates import install_template
from ftkit.data.tokens.tokenization import tokenize_row
from ftkit.evaluation.bench.scores import task_scores
from ftkit.evaluation.bench.task_file import Task
from ftkit.evaluation.bench.task_items import Example, TaskItem
from ftkit.evaluation.bench.units import GenerationRun, Subject, answer_scores, noted
from ftkit.evaluation.results import Item, Results, content_id, mean_score, task_of, write_run
from ftkit.inference.engine import Engine
from ftkit.inference.scoring import copy_input, most_frequent_answer

LOSS = "answer_loss"  # nats per token of the answer wanted
TASK = Task("held-out", 1, "generation", "held-out rows", ["exact_match", "token_f1", "chrf"], template=True)
MAX_ANSWER_TOKENS, MAX_THOUGHT_TOKENS = 64, 512  # the latter where the rows think first
SPARE_TOKENS = 4  # an answer may be so much longer than the longest one wanted


def questions(test: Sequence[dict], train: Sequence[dict] = (), num_fewshot: int = 0) -> list[TaskItem]:
    """The rows of `test` as benchmark items, each after the first `num_fewshot` rows of its group in `train`.

    A row's earlier turns stand before its question.
    """
    shown = defaultdict(list)
    for row in train:
        question, answer = row["messages"][-2:]
        shown[row.get("group", "")].append(Example(question["content"], without_thought(answer["content"])))
    items = {}
    for row in test:
        *earlier, question, answer = row["messages"]
        key, group = content_id(row["messages"]), row.get("group", "")
        key = f"{key}-{len(items)}" if key in items else key
        system = "".join(turn["content"] for turn in earlier if turn["role"] == "system")
        turns = [without_thought(turn["content"]) for turn in earlier if turn["role"] != "system"]
        examples = shown[group][:num_fewshot] + list(map(Example, turns[::2], turns[1::2]))
        items[key] = TaskItem(
            key,
            [question["content"]],
            group,
            system,
            examples,
            target=without_thought(answer["content"]),
            source=row.get("source", ""),
        )
    return list(items.values())


def answered(
    model,
    tokenizer,
    template: str,
    test: Sequence[dict],
    train: Sequence[dict] = (),
    num_fewshot: int = 0,
    *,
    what: str = "held-out rows",
) -> list[Item]:
    """The rows of `test` with greedy answers and their scores, in order; without examples also with the answer loss.

    template: name of the prompt template, which is put on the tokenizer. what: is answered, as the progress calls it.
    Raises UserError for a prompt that leaves no
    room for an answer.
    """
    engine = Engine.of(model, tokenizer, install_template(tokenizer, template))
    subject = Subject(engine)
    wanted = [in_one_text(row["messages"][-1]) for row in test]
    room = max(len(tokenizer(text)["input_ids"]) for text in wanted) + SPARE_TOKENS
    most = MAX_THOUGHT_TOKENS if any(split_thought(text)[0] for text in wanted) else MAX_ANSWER_TOKENS
    task = dataclasses.replace(TASK, max_new_tokens=min(most, room))
    run = GenerationRun(task, questions(test, train, num_fewshot), subject)
    answers = generated(run, range(len(test)), what)
    if not num_fewshot:
        tokenized = [tokenize_row({"messages": row["messages"]}, tokenizer, subject.template) for row in test]
        losses = engine.answer_losses(tokenized)
        for item, (loss, num_tokens) in zip(answers, losses, strict=True):
            item.scores[LOSS], item.extra["num_answer_tokens"] = loss / num_tokens, num_tokens
    return answers


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


def baselines(test: Sequence[dict], train: Sequence[dict]) -> dict[str, list[Item]]:
    """Answers that need no model, by name: the most frequent of a row's group in `train`, a copy of its input."""
    answers = defaultdict(list)
    for row in train:
        answers[row.get("group", "")].append(without_thought(row["messages"][-1]["content"]))
    frequent = {group: most_frequent_answer(texts) for group, texts in answers.items()}
    items = questions(test)
    given = {
        "most frequent answer": [frequent[item.group] for item in items],
        "copying the input": copy_input([alpaca_row(row["messages"][-2:]) for row in test]),
    }
    return {name: [scored(*pair) for pair in zip(items, texts, strict=True)] for name, texts in given.items()}


def scored(item: TaskItem, answer: str) -> Item:
    """An item with an answer that no model gave."""
    scores = answer_scores(TASK.metrics, answer, item)
    return Item(item.item_id, scores, item.prompts[0], answer, item.reference, extra=noted({}, item))


def write_answers(folder: str | Path, model: dict, items: list[Item], *, num_fewshot: int = 0, seed: int = 0) -> Path:
    """Write FOLDER/results.json and its items; return its path. model: what is known of what answered."""
    scores = task_scores(TASK, items)
    if LOSS in items[0].scores:
        values, weights = zip(*((item.scores[LOSS], item.extra["num_answer_tokens"]) for item in items), strict=True)
        scores[LOSS] = mean_score(values, weights, higher_is_better=False, is_share=False)
    task = dataclasses.replace(task_of(TASK.name, items, scores), num_fewshot=num_fewshot)
    return write_run(folder, Results(model, {TASK.name: task}, seed=seed), {TASK.name: items})
