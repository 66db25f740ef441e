"""Direct preference optimisation (arXiv:2305.18290): from pairs of answers, one preferred; all weights, LoRA or QLoRA.

    accelerate launch ftkit/dpo.py --adapter runs/sft --dataset_name preferences --output_dir OUT

`ftkit dpo` and `python -m ftkit.dpo` are the same. The reference is the starting point itself: the model without its
adapter, the adapter as it came, a frozen copy of the weights, or log-probabilities computed beforehand
(--precompute_ref_log_probs). Held-out pairs are scored before and after, with intervals.
"""

import sys

from ftkit.config.flags import DPO_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.lifecycle import add_samples, announce, close_run, close_stream, open_run, parse_run, say


def main(argv: list[str]) -> None:
    """Parse the command line and run it."""
    align(parse(argv))


def parse(argv: list[str]):
    """The settings of a command line, as RunSettings."""
    from ftkit.data.rows.kinds import PREFERENCES

    return parse_run(argv, DPO_ARGUMENTS, dpo_dataclasses, prog="ftkit dpo", kind=PREFERENCES)


def dpo_dataclasses() -> tuple:
    """The dataclasses of the command line, in the order of RunSettings."""
    from ftkit.config.settings.common import DPOArguments, ModelArguments, PreferenceDataArguments

    return PreferenceDataArguments, ModelArguments, DPOArguments


def align(settings):
    """Run one preference optimisation into settings.training.output_dir and return the trainer.

    Raises UserError for a mistake in settings or data, before the model is loaded where possible.
    """
    from ftkit.data.rows.kinds import PREFERENCES
    from ftkit.data.tokens.preferences import tokenize_pairs
    from ftkit.data.tokens.receipt import build_receipt
    from ftkit.training.plan import settle_evaluation
    from ftkit.training.preparation import prepare_data, prepare_model

    checkpoint = open_run(settings)
    data = prepare_data(settings, PREFERENCES, tokenize_pairs, may_change_template=False)
    model = prepare_model(settings, data)
    settle_evaluation(settings, data.test is not None)
    trainer = build_trainer(settings, model, data)
    receipt = build_receipt(
        data.train.sequences(),
        data.tokenizer,
        data.template,
        data.train,
        num_rows_shown=4,
        batch_size=2 * settings.training.per_device_train_batch_size,
        copies=data.copies,
    )
    announce("dpo", settings, trainer, data, receipt)
    before = score(trainer, data)
    trainer.train(resume_from_checkpoint=checkpoint)
    write_results(settings, trainer, data, before, score(trainer, data))
    close_stream(settings, trainer, data, receipt)
    close_run("dpo", settings, trainer, receipt, rows=data.rows.train)
    return trainer


def build_trainer(settings, model, data):
    """The trainer on tokenized pairs, with sample answers at each evaluation."""
    from ftkit.model.adapters.methods import peft_config
    from ftkit.training.methods.dpo import FTDPOTrainer, reference_copy

    trainer = FTDPOTrainer(
        model=model,
        ref_model=reference_copy(model, settings),
        args=settings.training,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        peft_config=peft_config(settings.model, model, data.template.added_tokens),
    )
    add_samples(trainer, settings, data)
    return trainer


def score(trainer, data) -> list | None:
    """Log-probabilities of the held-out pairs; None where nothing is held out, or where the weights are sharded."""
    from ftkit.evaluation.held_out.preferences import score_pairs

    if not data.test or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return None
    return score_pairs(trainer.model, list(data.test.sequences()), data.tokenizer.pad_token_id)


def write_results(settings, trainer, data, before: list | None, after: list | None) -> None:
    """Write OUT/results.json and OUT/before/results.json, how held-out pairs were ranked, and print it."""
    from ftkit.evaluation.held_out.preferences import write_preferences

    if before and trainer.is_world_process_zero():
        say(write_preferences(settings, data.test.rows, data.tokenizer, before, after))


if __name__ == "__main__":
    sys.exit(run(main))
