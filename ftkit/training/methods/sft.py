"""Supervised fine-tuning: TRL's SFTTrainer on rows that are tokenized and labelled as the receipt shows them."""

import itertools

from trl import SFTTrainer

from ftkit.data.rows.formats import CONVERSATIONS
from ftkit.data.tokens.receipt import build_receipt
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.model.adapters.methods import peft_config
from ftkit.training.method import Method, Run
from ftkit.training.preparation import describe_rows, load_trained, prepare_data, row_facts
from ftkit.training.run_trainer import RunMixin
from ftkit.training.samples import row_questions

STREAMED_SEQUENCES = 200  # first sequences of a stream that are counted for the receipt


class FTSFTTrainer(RunMixin, SFTTrainer):
    """SFTTrainer on rows that are tokenized, labelled and cut already."""

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):
        if not packing:  # TRL would cut held-out rows to the length of a packed block
            return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset
        return super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)


def prepare(settings):
    """The rows, tokenized."""
    return prepare_data(settings, CONVERSATIONS)


def build_trainer(run: Run, model) -> FTSFTTrainer:
    """The trainer on tokenized rows."""
    data = run.data
    return FTSFTTrainer(
        model=model,
        args=run.config,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        peft_config=peft_config(run.settings.model, model, data.template.added_tokens if data.template else []),
    )


def receipt(run: Run, trainer: FTSFTTrainer) -> dict:
    """What is trained on, counted from what the trainer has made of the rows."""
    data, sequences = run.data, trainer.train_dataset
    return build_receipt(
        sequences if data.stream is None else itertools.islice(sequences, STREAMED_SEQUENCES),
        data.tokenizer,
        data.template,
        data.train,
        max_length=run.decided.block_length,
        batch_size=run.config.per_device_train_batch_size,
        padding_free=trainer.padding_free,
        origins=data.origins(),
        copies=data.copies,
    )


METHOD = Method(prepare, row_facts, load_trained, build_trainer, receipt, describe_rows, format_receipt, row_questions)
