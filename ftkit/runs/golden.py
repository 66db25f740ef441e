"""OUT/golden.json of a run: what its model said to eight prompts before training, and what the result says."""

from contextlib import nullcontext

from peft import PeftModel

from ftkit.inference.engine import Voice
from ftkit.inference.golden import Golden, Precision, Top, golden_prompts, log_probs_after, tops, write_golden
from ftkit.model.adapters.files import adapter_fingerprint, base_fingerprint
from ftkit.training.method import Run
from ftkit.training.sharing import is_sharded

Before = tuple[list[list[int]], tuple[Top, ...]]  # the prompts, and what the base says to each


def golden_before(run: Run, trainer) -> Before | None:
    """What the base says to the golden prompts; None where the model is no causal language model, where no process
    holds whole weights, in all processes but the first, and where an answer is not finite, which ends the run soon."""
    model, is_adapter = trainer.model, run.settings.model.use_peft
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not trainer.is_world_process_zero() or is_sharded(trainer) or not getattr(base, "can_generate", bool)():
        return None
    prompts = golden_prompts(Voice("base", run.data.tokenizer, getattr(run.data, "template", None)), base)
    if not prompts:
        return None
    with model.disable_adapter() if is_adapter else nullcontext():
        said = tops(log_probs_after(model, prompts))
    return (prompts, said) if said else None


def golden_after(run: Run, trainer, before: Before | None) -> None:
    """Write OUT/golden.json of the result, which has just been saved."""
    said = before and tops(log_probs_after(trainer.model, before[0]))
    if not before or not said:
        return
    fingerprint = adapter_fingerprint if run.settings.model.use_peft else base_fingerprint
    prompts, base = before
    precision = Precision.of(trainer.model)
    golden = Golden(fingerprint(run.output_dir), precision, tuple(map(tuple, prompts)), base, said)
    write_golden(run.output_dir, golden, run.data.tokenizer)
