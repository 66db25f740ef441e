"""How likely held-out answers, or held-out text, are to a language model, before and after it was trained.

    "answers": for each row the loss of its answers' tokens, and the share of them that the model finds likeliest
    "text": for each block bits per byte, the loss, and that share

The cost is two forward passes over at most MAX_ITEMS rows or blocks; with --eval_strategy no there is none.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ftkit.config.errors import UserError
from ftkit.data.rows.questions import question_and_answer
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import Item, Score, TaskResult, content_id, mean_score, task_of
from ftkit.evaluation.verdict.text import run_lines
from ftkit.inference.scoring import TokenScores, token_scores
from ftkit.training.method import HeldOut, Run
from ftkit.training.methods.pretrain import bits_per_byte
from ftkit.training.sharing import shared

MAX_ITEMS = 200  # taken evenly from all: enough for intervals, and no more than one evaluation costs
PROMPT_LENGTH = 300  # characters of a block that its item shows
ANSWERS, TEXT = "answers", "text"
ANSWER_LOSS, LOSS, BITS, ACCURACY = "answer_loss", "loss", "bits_per_byte", "token_accuracy"


class Part(NamedTuple):
    """What becomes an item. sequences: {"input_ids", "labels"} that are scored, each by itself."""

    content: object
    prompt: str
    reference: str
    sequences: list[dict]


def evenly(items: Sequence) -> Sequence:
    """At most MAX_ITEMS of them, first to last."""
    return items[:: math.ceil(len(items) / MAX_ITEMS)] if items else items


def answer_parts(run: Run, most: int = MAX_ITEMS, keep: Callable = lambda content: True) -> list[Part]:
    """Held-out rows in their order, of plain text the whole; `most` of them are also among any larger number."""
    test = run.data.test
    places = defaultdict(list)
    for place, index in enumerate(test.kept if test else ()):
        places[index].append(place)
    parts = [part_of(run, index, some) for index, some in places.items()]
    parts = [part for part in parts if keep(part.content)]
    chosen = sorted(range(len(parts)), key=lambda place: content_id(parts[place].content))[:most]
    return [parts[place] for place in sorted(chosen)]


def part_of(run: Run, index: int, places: list[int]) -> Part:
    """A held-out row. places: its own among the tokenized ones."""
    test = run.data.test
    row = run.data.rows.test[index]
    if "text" in row:
        content, prompt, answer = row["text"], "", row["text"]
    else:
        content, (turns, answer) = row["messages"], question_and_answer(row)
        prompt = turns[-1]["content"] if turns else ""
    return Part(content, prompt, answer, [test.rows[place] for place in places])


def text_parts(run: Run) -> list[Part]:
    """Held-out blocks; where documents are isolated, each document's part of a block stands alone."""
    blocks, parts = run.data.validation, []
    for place in evenly(range(len(blocks) if blocks else 0)):
        block = blocks[place]
        ids = block["input_ids"].tolist()
        lengths = block["seq_lengths"] if run.settings.data.isolate_documents else [len(ids)]
        sequences, start = [], 0
        for length in map(int, lengths):
            part = ids[start : start + length]
            sequences.append({"input_ids": part, "labels": part})
            start += length
        parts.append(Part(ids, run.data.tokenizer.decode(ids)[:PROMPT_LENGTH], "", sequences))
    return parts


def measure(run: Run, trainer, parts: list[Part]) -> list[TokenScores]:
    """The scores of each part. Raises UserError for weights whose loss is no number."""
    pad, batch_size = run.data.tokenizer.pad_token_id or 0, run.config.per_device_eval_batch_size

    def score(some: Sequence[Part]) -> list[TokenScores]:
        sequences = [sequence for part in some for sequence in part.sequences]
        with trainer.accelerator.autocast():
            found = iter(token_scores(trainer.model, sequences, pad, batch_size))
        return [total(next(found) for _ in part.sequences) for part in some]

    scores = shared(trainer.accelerator, parts, score)
    broken = [one.loss for one in scores if not math.isfinite(one.loss)]
    if broken:
        raise UserError(f"the held-out loss is {broken[0]}; the weights or the precision are broken")
    return scores


def total(scores: Iterable[TokenScores]) -> TokenScores:
    """The sums of some scores."""
    return TokenScores(*map(sum, zip(*scores, strict=True)))


def is_wanted(run: Run, parts: list[Part]) -> bool:
    """Whether anything is held out, and evaluation is wanted."""
    return bool(parts) and run.decided.eval_strategy != "no"


def likelihood_items(run: Run, trainer, task: str, parts: list[Part]) -> list[Item]:
    """The parts that have tokens to score, as items; in all processes."""
    scores = measure(run, trainer, parts)
    return [item_of(run, task, *pair) for pair in zip(parts, scores, strict=True) if pair[1].num_tokens]


def likelihood_scores(items: list[Item]) -> dict[str, Score]:
    """The mean of each metric of tokens that all items have, which counts an item as often as it has tokens."""
    weights, means = [item.extra.get("num_answer_tokens", item.weight) for item in items], {}
    for name in (BITS, ANSWER_LOSS, LOSS, ACCURACY):
        if all(name in item.scores for item in items):
            values, is_share = [item.scores[name] for item in items], name == ACCURACY
            means[name] = mean_score(values, weights, higher_is_better=is_share, is_share=is_share)
    return means


def held_out_task(run: Run, name: str, items: list[Item], scores: dict[str, Score]) -> TaskResult:
    """The task of some items: of rows, a sample of all that are held out. Losses of other tokens are not comparable."""
    if name == ANSWERS:
        targets = [row["labels"][1:] for row in run.data.test.rows]
    else:
        targets = [sequence["labels"][1:] for part in text_parts(run) for sequence in part.sequences]
    settings = hashlib.sha256(json.dumps(targets).encode()).hexdigest()
    return task_of(name, items, scores, settings=settings, is_sample=name == ANSWERS)


def measure_likelihoods(run: Run, trainer, task: str, parts: list[Part], *, is_trained: bool) -> bool:
    """Write what the parts score now; whether there is anything to score."""
    items = likelihood_items(run, trainer, task, parts) if is_wanted(run, parts) else []
    if items and trainer.is_world_process_zero():
        result = held_out_task(run, task, items, likelihood_scores(items))
        write_held_out(run, result, items, is_trained=is_trained)
    return bool(items)


def text_before(run: Run, trainer) -> None:
    """Write what held-out blocks score before training."""
    measure_likelihoods(run, trainer, TEXT, text_parts(run), is_trained=False)


def text_after(run: Run, trainer) -> list[str]:
    """Write what they score after it; the verdict."""
    is_there = measure_likelihoods(run, trainer, TEXT, text_parts(run), is_trained=True)
    return run_lines(run.output_dir, "block") if is_there and trainer.is_world_process_zero() else []


def item_of(run: Run, task: str, part: Part, score: TokenScores) -> Item:
    """A part with its scores, which counts as often as it has tokens."""
    scores = scores_of(run, task, score)
    return Item(content_id(part.content), scores, part.prompt, "", part.reference, weight=score.num_tokens)


def scores_of(run: Run, task: str, score: TokenScores) -> dict[str, float]:
    """Scores by metric, the main one first."""
    loss, accuracy = score.loss / score.num_tokens, {ACCURACY: score.num_right / score.num_tokens}
    if task == TEXT:
        return {BITS: bits_per_byte(loss, run.data.tokens_per_byte), LOSS: loss} | accuracy
    return {ANSWER_LOSS: loss} | accuracy


HELD_OUT_TEXT = HeldOut(text_after, text_before)
