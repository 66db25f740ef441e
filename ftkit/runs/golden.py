"""OUT/golden.json of a run: what its model said to eight prompts before training, and what the result says."""

from ftkit.inference.engine import Voice
from ftkit.inference.golden import Golden, Precision, Top, golden_prompts, log_probs_after, tops, write_golden
from ftkit.model.adapters.files import adapter_fingerprint, base_fingerprint
from ftkit.training.method import Run
from ftkit.training.sharing import is_sharded

Before = tuple[list[list[int]], tuple[Top, ...]]  # the prompts, and what the base says to each


def golden_before(run: Run, trainer) -> Before | None:
    """What the base says to the golden prompts; None where the model is no causal language model, where no process
    holds whole weights, and in all processes but the first."""
    model = trainer.model
    base = model.get_base_model() if run.settings.model.use_peft else model
    if not trainer.is_world_process_zero() or is_sharded(trainer) or not base.can_generate():
        return None
    voice = Voice("result", run.data.tokenizer, getattr(run.data, "template", None))
    prompts = golden_prompts(voice, base)
    if not prompts:
        return None
    if not run.settings.model.use_peft:
        return prompts, tops(log_probs_after(model, prompts))
    with model.disable_adapter():
        return prompts, tops(log_probs_after(model, prompts))


def golden_after(run: Run, trainer, before: Before | None) -> None:
    """Write OUT/golden.json of the result, which has just been saved."""
    if before is None:
        return
    prompts, base = before
    fingerprint = adapter_fingerprint if run.settings.model.use_peft else base_fingerprint
    result = tops(log_probs_after(trainer.model, prompts))
    golden = Golden(fingerprint(run.output_dir), Precision.of(trainer.model), tuple(map(tuple, prompts)), base, result)
    write_golden(run.output_dir, golden, run.data.tokenizer)
