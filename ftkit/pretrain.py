"""Pretraining of a causal language model on raw text: FTGPT from nothing, or any weights further.

    accelerate launch ftkit/pretrain.py --tokenizer runs/tokenizer --dataset_name corpus --output_dir OUT

`ftkit pretrain` and `python -m ftkit.pretrain` are the same. Documents are joined into blocks; held-out ones are scored
at each evaluation (loss, perplexity, bits per byte), and their beginnings are continued.
"""

import sys
from pathlib import Path

from ftkit.config.flags import PRETRAIN_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.benchmark import benchmark_before
from ftkit.runs.lifecycle import close_run, open_run, parse_run, say

SAMPLE_PROMPT_TOKENS = 12  # of a held-out document; the model goes on from there
SAMPLE_TEMPERATURE = 0.7


def main(argv: list[str]) -> None:
    """Parse the command line and run it."""
    pretrain(parse(argv))


def parse(argv: list[str]):
    """The settings of a command line, as RunSettings."""
    return parse_run(argv, PRETRAIN_ARGUMENTS, pretrain_dataclasses, prog="ftkit pretrain")


def pretrain_dataclasses() -> tuple:
    """The dataclasses of the command line, in the order of RunSettings."""
    from ftkit.config.settings.pretrain import PretrainArguments, PretrainDataArguments, PretrainModelArguments

    return PretrainDataArguments, PretrainModelArguments, PretrainArguments


def pretrain(settings):
    """Run one pretraining into settings.training.output_dir and return the trainer.

    Raises UserError for a mistake in settings or text, before the model is built where possible.
    """
    from ftkit.training.budget import settle_length, settle_schedule
    from ftkit.training.methods.pretrain import cast_weights
    from ftkit.training.plan import settle_evaluation, settle_logging
    from ftkit.training.text_preparation import prepare_base, prepare_blocks

    training = settings.training
    checkpoint = open_run(settings)
    data = prepare_blocks(settings)
    model = prepare_base(settings, data)
    updates = settle_length(training, settings.data.block_size, None if data.is_stream else len(data.train))
    settle_schedule(training, updates)
    settle_evaluation(settings, data.validation is not None)
    trainer = build_trainer(settings, model, data)
    settle_logging(settings, trainer)
    announce(settings, trainer, data, updates)
    benchmark_before(settings, trainer, data.tokenizer)
    trainer.train(resume_from_checkpoint=checkpoint)
    cast_weights(trainer.model, training.save_dtype)
    receipt = data.receipt | spent(trainer, settings.data.block_size)
    close_run("pretrain", settings, trainer, receipt, rows=data.documents)
    return trainer


def spent(trainer, block_size: int) -> dict:
    """For the card: size of the model, tokens trained on, and 6ND of both."""
    from ftkit.training.budget import tokens_per_update, training_flops

    num_parameters = trainer.model.num_parameters()
    num_tokens = trainer.state.global_step * tokens_per_update(trainer.args, block_size)
    operations = f"{training_flops(num_parameters, num_tokens):.2e}"
    return {"num_parameters": num_parameters, "num_trained_tokens": num_tokens, "operations (6ND)": operations}


def build_trainer(settings, model, data):
    """The trainer on blocks, with continued beginnings of held-out documents at each evaluation."""
    from ftkit.data.tokens.blocks import BlockCollator
    from ftkit.model.adapters.methods import peft_config
    from ftkit.model.fast.loss_head import CHUNK_LOGITS
    from ftkit.training.budget import SpeedCallback, tokens_per_update
    from ftkit.training.callbacks import MetricsCallback
    from ftkit.training.methods.pretrain import FTPretrainTrainer

    training = settings.training
    each = tokens_per_update(training, settings.data.block_size)
    num_logits = training.per_device_train_batch_size * settings.data.block_size * len(data.tokenizer)
    if "compact_loss_head" not in settings.given and num_logits <= CHUNK_LOGITS:
        training.compact_loss_head = False  # so few logits are scored faster whole
    if settings.model.use_peft and not settings.model.adapter:
        from peft import get_peft_model

        model = get_peft_model(model, peft_config(settings.model, model, []))
    trainer = FTPretrainTrainer(
        model=model,
        args=training,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=BlockCollator(settings.data.isolate_documents),
        processing_class=data.tokenizer,
        tokens_per_byte=data.tokens_per_byte,
        tokens_per_update=each,
    )
    metrics = next(one for one in trainer.callback_handler.callbacks if isinstance(one, MetricsCallback))
    trainer.add_callback(SpeedCallback(metrics, model.num_parameters(), each))
    add_continuations(trainer, settings, data)
    return trainer


def add_continuations(trainer, settings, data) -> None:
    """Have the beginnings of some held-out documents continued at each evaluation, drawn with a fixed seed."""
    from ftkit.inference.generation import generate_answers
    from ftkit.training.callbacks import SampleCallback

    training, tokenizer = settings.training, data.tokenizer
    beginnings = data.beginnings[: training.num_samples]
    if not beginnings:
        return
    prompts = [ids[:SAMPLE_PROMPT_TOKENS] for ids in beginnings]
    questions = [{"prompt": tokenizer.decode(ids), "reference": ""} for ids in prompts]

    def continue_all(model) -> list[str]:
        return generate_answers(
            model, tokenizer, prompts, max_new_tokens=training.sample_max_new_tokens,
            eos_token_ids=[tokenizer.eos_token_id], temperature=SAMPLE_TEMPERATURE, seed=training.seed,
        )  # fmt: skip

    trainer.add_callback(SampleCallback(training.output_dir, questions, continue_all))


def announce(settings, trainer, data, updates: int) -> None:
    """Print the plan and the first block; write run.yaml, receipt.json and the lock, before the first step."""
    from ftkit.config.files import write_json
    from ftkit.config.run_folder import write_run_yaml
    from ftkit.config.settings.common import changed_settings
    from ftkit.data.templates.lock import make_lock, write_lock
    from ftkit.training.text_preparation import plan_lines

    if not trainer.is_world_process_zero():
        return
    say("\n".join(plan_lines(settings, trainer, data, updates)))
    output_dir = settings.training.output_dir
    write_run_yaml(output_dir, "pretrain", changed_settings(settings.data, settings.model, settings.training))
    write_json(Path(output_dir) / "receipt.json", data.receipt)
    trainer.template_lock = make_lock(data.tokenizer)
    write_lock(output_dir, trainer.template_lock)


if __name__ == "__main__":
    sys.exit(run(main))
