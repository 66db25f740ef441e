"""How likely held-out answers, or held-out text, are to a language model, before and after it was trained.

    "answers": for each row the loss of its answers' tokens, and the share of them that the model finds likeliest
    "text": for each block bits per byte, the loss, and that share

The cost is two forward passes over at most MAX_ITEMS rows or blocks; with --eval_strategy no there is none.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ftkit.config.errors import UserError
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import Item, content_id, mean_score, metric_text, task_of
from ftkit.evaluation.verdict.pairing import read_run_and_befores
from ftkit.evaluation.verdict.text import difference_text, level
from ftkit.evaluation.verdict.verdict import compare_runs
from ftkit.inference.scoring import TokenScores, token_scores
from ftkit.training.method import HeldOut, Run
from ftkit.training.methods.pretrain import bits_per_byte
from ftkit.training.samples import question_and_answer
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


def answer_parts(run: Run) -> list[Part]:
    """Held-out rows; of plain text the whole."""
    test, parts = run.data.test, []
    for place in evenly(range(len(test.kept) if test else 0)):
        row = run.data.rows.test[test.kept[place]]
        if "text" in row:
            content, prompt, answer = row["text"], "", row["text"]
        else:
            content, (turns, answer) = row["messages"], question_and_answer(row)
            prompt = turns[-1]["content"] if turns else ""
        parts.append(Part(content, prompt, answer, [test.rows[place]]))
    return parts


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


def measure(run: Run, trainer, parts: list[Part]) -> list[TokenScores] | None:
    """The scores of each part; None where nothing is held out, or no evaluation is wanted.

    Raises UserError for weights whose loss is no number.
    """
    if not parts or run.decided.eval_strategy == "no":
        return None
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


def report(run: Run, task: str, parts: list[Part], before: list[TokenScores], after: list[TokenScores]) -> list[str]:
    """Write OUT/before/results.json and OUT/results.json; the verdict in a line for a person."""
    targets = [[label for one in part.sequences for label in one["labels"][1:]] for part in parts]
    settings = hashlib.sha256(json.dumps(targets).encode()).hexdigest()  # losses of other tokens are not comparable
    for scores, is_trained in ((before, False), (after, True)):
        items = [item_of(run, task, *pair) for pair in zip(parts, scores, strict=True) if pair[1].num_tokens]
        if not items:
            return []
        weights, means = [item.weight for item in items], {}
        for name in items[0].scores:
            values, is_share = [item.scores[name] for item in items], name == ACCURACY
            means[name] = mean_score(values, weights, higher_is_better=is_share, is_share=is_share)
        write_held_out(run, task_of(task, items, means, settings=settings), items, is_trained=is_trained)
    verdict = compare_runs(*read_run_and_befores(run.output_dir), num_examples=0)
    (row,) = verdict.tasks
    return [
        f"{row.num_items} held-out {'blocks' if task == TEXT else 'rows'}, {metric_text(row.metric)}: "
        f"{level(row, row.before)} before, {level(row, row.after)} after, change {difference_text(row)}: "
        f"{verdict.outcome}"
    ]


def item_of(run: Run, task: str, part: Part, score: TokenScores) -> Item:
    """A part with its scores, which counts as often as it has tokens."""
    loss = score.loss / score.num_tokens
    if task == TEXT:
        scores = {BITS: bits_per_byte(loss, run.data.tokens_per_byte), LOSS: loss}
    else:
        scores = {ANSWER_LOSS: loss}
    scores[ACCURACY] = score.num_right / score.num_tokens
    return Item(content_id(part.content), scores, part.prompt, "", part.reference, weight=score.num_tokens)


HELD_OUT_ANSWERS = HeldOut(
    lambda run, trainer: measure(run, trainer, answer_parts(run)),
    lambda run, before, after: report(run, ANSWERS, answer_parts(run), before, after),
)
HELD_OUT_TEXT = HeldOut(
    lambda run, trainer: measure(run, trainer, text_parts(run)),
    lambda run, before, after: report(run, TEXT, text_parts(run), before, after),
)
