"""Supervised fine-tuning of a causal language model on your own rows: all weights, LoRA, QLoRA, DoRA or a soft prompt.

    accelerate launch ftkit/sft.py --model_name_or_path M --dataset_name D --template alpaca --use_peft --output_dir OUT

`ftkit sft` and `python -m ftkit.sft` are the same. Bad rows are found before the model is loaded, the plan is printed
before the first step, and OUT/report.html tells afterwards what was trained on and what came out.
"""

import itertools
import sys

from ftkit.config.flags import SFT_ARGUMENTS
from ftkit.config.parser import run
from ftkit.runs.lifecycle import add_samples, announce, close_run, close_stream, open_run, parse_run

STREAMED_SEQUENCES = 200  # first sequences of a stream that are counted for the receipt


def main(argv: list[str]) -> None:
    """Parse the command line and run it."""
    finetune(parse(argv))


def parse(argv: list[str]):
    """The settings of a command line, as RunSettings."""
    from ftkit.data.rows.formats import CONVERSATIONS

    return parse_run(argv, SFT_ARGUMENTS, sft_dataclasses, prog="ftkit sft", kind=CONVERSATIONS)


def sft_dataclasses() -> tuple:
    """The dataclasses of the command line, in the order of RunSettings."""
    from ftkit.config.settings.common import DataArguments, ModelArguments, SFTArguments

    return DataArguments, ModelArguments, SFTArguments


def finetune(settings):
    """Run one supervised fine-tune into settings.training.output_dir and return the trainer.

    What the person did not set is decided from the data and the hardware, printed, and written to run.yaml.
    Raises UserError for a mistake in settings or data, before the model is loaded where possible.
    """
    from ftkit.data.tokens.receipt import build_receipt
    from ftkit.training.plan import settle_evaluation, settle_packing
    from ftkit.training.preparation import prepare_data, prepare_model

    training = settings.training
    checkpoint = open_run(settings)
    data = prepare_data(settings)
    model = prepare_model(settings, data)
    packing_reason = settle_packing(settings, model, data.train.lengths)
    settle_evaluation(settings, data.test is not None)
    trainer = build_trainer(settings, model, data)
    receipt = build_receipt(
        trainer.train_dataset if data.stream is None else itertools.islice(trainer.train_dataset, STREAMED_SEQUENCES),
        data.tokenizer,
        data.template,
        data.train,
        max_length=training.max_length if training.packing else None,
        batch_size=training.per_device_train_batch_size,
        padding_free=trainer.padding_free,
        copies=data.copies,
    )
    announce("sft", settings, trainer, data, receipt, {"packing": packing_reason} if packing_reason else {})
    trainer.train(resume_from_checkpoint=checkpoint)
    close_stream(settings, trainer, data, receipt)
    close_run("sft", settings, trainer, receipt, rows=data.rows.train)
    return trainer


def build_trainer(settings, model, data):
    """The trainer on tokenized rows, with sample answers at each evaluation."""
    from ftkit.model.adapters.methods import peft_config
    from ftkit.training.methods.sft import FTSFTTrainer

    trainer = FTSFTTrainer(
        model=model,
        args=settings.training,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        peft_config=peft_config(settings.model, model, data.template.added_tokens if data.template else []),
    )
    add_samples(trainer, settings, data)
    return trainer


if __name__ == "__main__":
    sys.exit(run(main))
