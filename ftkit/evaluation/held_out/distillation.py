"""How near a student is to its teacher on held-out answers, before and after: KL(teacher || student), and their loss.

Where the teacher has a vocabulary of its own, or only writes answers, the loss of held-out answers is measured alone.
"""

from collections.abc import Sequence

from ftkit.config.settings.distill import TEACHER
from ftkit.evaluation.held_out.likelihoods import (
    ANSWERS,
    Part,
    answer_parts,
    held_out_task,
    is_wanted,
    item_of,
    likelihood_scores,
    measure,
    measure_likelihoods,
)
from ftkit.evaluation.held_out.writing import write_held_out
from ftkit.evaluation.results import Item, mean_score
from ftkit.evaluation.verdict.text import run_lines
from ftkit.inference.divergence import row_divergences
from ftkit.training.method import HeldOut, Run
from ftkit.training.sharing import shared

KL = "kl_to_teacher"


def measured(run: Run, trainer, *, is_trained: bool) -> bool:
    """Write what held-out answers score now; whether there are any."""
    parts = answer_parts(run)
    if run.settings.training.answers == TEACHER:
        return measure_likelihoods(run, trainer, ANSWERS, parts, is_trained=is_trained)
    if not is_wanted(run, parts):
        return False
    items = distilled_items(run, trainer, parts)
    if trainer.is_world_process_zero():
        weights = [item.weight for item in items]
        scores = {KL: mean_score([item.scores[KL] for item in items], weights, higher_is_better=False, is_share=False)}
        task = held_out_task(run, ANSWERS, items, scores | likelihood_scores(items))
        write_held_out(run, task, items, is_trained=is_trained)
    return True


def distilled_items(run: Run, trainer, parts: list[Part]) -> list[Item]:
    """The parts that have tokens to score, with their KL from the teacher; in all processes."""
    data, accelerator = run.data, trainer.accelerator
    pad, batch_size = data.tokenizer.pad_token_id, run.config.per_device_eval_batch_size
    scores = measure(run, trainer, parts)
    with data.teacher.loaded(accelerator.device) as teacher:

        def score(some: Sequence[Part]) -> list[float]:
            rows = [part.sequences[0] for part in some]
            with accelerator.autocast():
                return row_divergences(
                    teacher, trainer.model, rows, pad, num_tokens=data.num_tokens, batch_size=batch_size
                )

        found = shared(accelerator, parts, score)
    items = []
    for part, likelihood, divergence in zip(parts, scores, found, strict=True):
        if likelihood.num_tokens:
            item = item_of(run, ANSWERS, part, likelihood)
            item.scores = {KL: divergence / likelihood.num_tokens} | item.scores
            items.append(item)
    return items


def before(run: Run, trainer) -> None:
    """Write OUT/before/results.json."""
    measured(run, trainer, is_trained=False)


def after(run: Run, trainer) -> list[str]:
    """Write OUT/results.json; how near it was before and after, and the verdict."""
    is_there = measured(run, trainer, is_trained=True)
    return run_lines(run.output_dir, "row") if is_there and trainer.is_world_process_zero() else []


HELD_OUT = HeldOut(after, before)
