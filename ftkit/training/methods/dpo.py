"""Preference optimisation: pairs tokenized by ftkit, trained by TRL's DPOTrainer against the starting point itself."""

import copy

from trl import DPOTrainer

from ftkit.data.rows.kinds import ANSWERS, PREFERENCES
from ftkit.data.tokens.preferences import tokenize_pairs
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.model.adapters.methods import peft_config
from ftkit.training.method import Method, Run
from ftkit.training.preferences import BothFallCallback, StuckCallback
from ftkit.training.preparation import describe_rows, load_trained, prepare_data, row_facts, row_receipt
from ftkit.training.reference import ReferenceMixin, log_distance, log_lengths, reference_copy, scored_log_probs
from ftkit.training.reference_free import ReferenceFreeMixin
from ftkit.training.run_trainer import RunMixin
from ftkit.training.samples import row_questions

HOLD_UP = "add the sft loss (--loss_type sigmoid sft), lower --learning_rate or raise --beta"


class FTDPOTrainer(RunMixin, ReferenceMixin, DPOTrainer):
    """DPOTrainer on {"prompt_ids", "chosen_ids", "rejected_ids"}, with what ftkit adds to every trainer."""

    reference_columns = ("ref_chosen_logps", "ref_rejected_logps")

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset  # tokenized already

    def _compute_loss(self, model, inputs, return_outputs):
        with scored_log_probs(self) as scored:
            loss = super()._compute_loss(model, inputs, return_outputs)
        log_lengths(self, inputs["completion_mask"])
        if len(scored) == 2:  # the policy's and the reference's
            log_distance(self, *scored, inputs["completion_mask"])
        return loss


class FTReferenceFreeTrainer(RunMixin, ReferenceFreeMixin, DPOTrainer):
    """The same without a reference: ORPO, CPO and SimPO."""

    _prepare_dataset = FTDPOTrainer._prepare_dataset


def prepare(settings):
    """The pairs, tokenized."""
    return prepare_data(settings, PREFERENCES, tokenize_pairs, may_change_template=False)


def build_trainer(run: Run, model) -> FTDPOTrainer | FTReferenceFreeTrainer:
    """The trainer on tokenized pairs."""
    data, config = run.data, run.config
    is_free = run.settings.training.is_reference_free
    if is_free:  # what is scored beforehand needs no reference, so TRL loads none
        config = copy.copy(config)
        config.precompute_ref_log_probs = True
    trainer = (FTReferenceFreeTrainer if is_free else FTDPOTrainer)(
        model=model,
        ref_model=None if is_free else reference_copy(model, run.settings),
        args=config,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        peft_config=peft_config(run.settings.model, model, data.template.added_tokens),
    )
    if not is_free:
        trainer.add_callback(BothFallCallback("chosen and rejected", HOLD_UP))
        trainer.add_callback(StuckCallback(trainer))
    return trainer


def receipt(run: Run, trainer) -> dict:
    """What is trained on, counted from the pairs."""
    return row_receipt(run, sequences_per_row=len(ANSWERS))


METHOD = Method(prepare, row_facts, load_trained, build_trainer, receipt, describe_rows, format_receipt, row_questions)
