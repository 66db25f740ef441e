"""Answers that are wanted or not: tokenized by ftkit, mixed by seed, trained by TRL's KTOTrainer."""

import dataclasses

from datasets import Dataset
from trl import KTOTrainer

from ftkit.data.rows.kinds import KTO, LABELLED_ANSWERS
from ftkit.data.tokens.labelled_answers import interleaved, tokenize_answers, with_mismatched
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.model.adapters.methods import peft_config
from ftkit.training.method import Method, Run
from ftkit.training.preferences import BothFallCallback, StuckCallback
from ftkit.training.preparation import (
    PreparedData,
    describe_rows,
    load_trained,
    prepare_data,
    row_facts,
    row_receipt,
)
from ftkit.training.reference import ReferenceMixin, log_lengths, reference_copy
from ftkit.training.run_trainer import RunMixin
from ftkit.training.samples import row_questions

HOLD_UP = "raise --desirable_weight, lower --learning_rate or raise --beta"


class FTKTOTrainer(RunMixin, ReferenceMixin, KTOTrainer):
    """KTOTrainer on {"prompt_ids", "completion_ids", "label"} in the order of training, with ftkit's additions."""

    reference_columns = ("ref_logps", "ref_KL_logps")

    def _compute_loss(self, model, inputs, return_outputs):
        log_lengths(self, inputs["completion_mask"], inputs["label"])
        return super()._compute_loss(model, inputs, return_outputs)

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        if not self.calculate_KL or "KL_completion_ids" in dataset.column_names:
            return dataset
        size = args.per_device_train_batch_size if dataset_name == "train" else args.per_device_eval_batch_size
        return Dataset.from_list(with_mismatched(dataset.to_list(), size))


def prepare(settings) -> PreparedData:
    """The rows, tokenized; pairs have become two rows each."""
    return prepare_data(settings, LABELLED_ANSWERS, tokenize_answers, may_change_template=False)


def facts(settings, data: PreparedData, hardware):
    """What decisions rest on: also how many answers are wanted."""
    return dataclasses.replace(row_facts(settings, data, hardware), mix=data.train.mix)


def mixed(rows: list[dict], settings) -> Dataset:
    """The rows in the order they are trained in."""
    training = settings.training
    return Dataset.from_list(interleaved(rows, training.seed if training.data_seed is None else training.data_seed))


def build_trainer(run: Run, model) -> FTKTOTrainer:
    """The trainer on tokenized rows."""
    data, settings = run.data, run.settings
    trainer = FTKTOTrainer(
        model=model,
        ref_model=reference_copy(model, settings),
        args=run.config,
        train_dataset=mixed(data.train.rows, settings),
        eval_dataset=mixed(data.test.rows, settings) if data.test else None,
        processing_class=data.tokenizer,
        peft_config=peft_config(settings.model, model, data.template.added_tokens),
    )
    trainer.add_callback(BothFallCallback("wanted and unwanted", HOLD_UP))
    trainer.add_callback(StuckCallback(trainer))
    return trainer


def describe(run: Run, receipt: dict | None) -> list[str]:
    """Lines of the plan about rows, and how the labels are mixed."""
    wanted, unwanted = run.data.train.mix
    lines = describe_rows(run, receipt)
    if run.data.rows.format not in KTO.formats:
        lines.append("pairs      each is two answers here: the chosen one wanted, the rejected one unwanted")
    if not wanted or not unwanted:
        every, fix = ("wanted", "ftkit sft trains on those") if wanted else ("unwanted", "add wanted ones")
        return [*lines, f"warning    every answer is {every}, so nothing says what to prefer; {fix}"]
    weights = (run.decided.own[name] for name in ("desirable_weight", "undesirable_weight"))
    labels = ", ".join(
        f"{number:,} {name} (weight {weight:.3g})"
        for number, name, weight in zip((wanted, unwanted), ("wanted", "unwanted"), weights, strict=True)
    )
    return [*lines, f"labels     {labels}{mix_of_batches(run)}"]


def mix_of_batches(run: Run) -> str:
    """How many wanted answers a whole batch holds."""
    batch = run.config.per_device_train_batch_size
    labels = mixed(run.data.train.rows, run.settings)["label"]
    counts = [sum(labels[start : start + batch]) for start in range(0, len(labels) - batch + 1, batch)]
    if not counts:
        return ""
    fewest, most = min(counts), max(counts)
    return f"; batches of {batch} hold {fewest}{f' to {most}' if most > fewest else ''} wanted"


METHOD = Method(prepare, facts, load_trained, build_trainer, row_receipt, describe, format_receipt, row_questions)
