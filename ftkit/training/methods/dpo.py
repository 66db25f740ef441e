"""Preference optimisation: pairs tokenized by ftkit, trained by TRL's DPOTrainer against the starting point itself."""

import copy

from trl import DPOTrainer

from ftkit.data.rows.kinds import ANSWERS, PREFERENCES
from ftkit.data.tokens.preferences import tokenize_pairs
from ftkit.data.tokens.receipt import build_receipt
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.model.adapters.methods import peft_config
from ftkit.training.callbacks import BothFallCallback
from ftkit.training.method import Method, Run
from ftkit.training.preparation import describe_rows, load_trained, prepare_data, row_facts
from ftkit.training.run_trainer import RunMixin
from ftkit.training.samples import row_questions


class FTDPOTrainer(RunMixin, DPOTrainer):
    """DPOTrainer on {"prompt_ids", "chosen_ids", "rejected_ids"}, with what ftkit adds to every trainer."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(BothFallCallback())

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset  # tokenized already

    def _precompute_ref_logps(self, *args, **kwargs):
        self.put_compact_heads()  # TRL scores the reference before its constructor returns
        return super()._precompute_ref_logps(*args, **kwargs)


def prepare(settings):
    """The pairs, tokenized."""
    return prepare_data(settings, PREFERENCES, tokenize_pairs, may_change_template=False)


def reference_copy(model, settings):
    """A frozen copy of the starting weights; None where the reference is a disabled adapter or computed beforehand."""
    if settings.model.use_peft or settings.training.precompute_ref_log_probs:
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()


def build_trainer(run: Run, model) -> FTDPOTrainer:
    """The trainer on tokenized pairs."""
    data = run.data
    return FTDPOTrainer(
        model=model,
        ref_model=reference_copy(model, run.settings),
        args=run.config,
        train_dataset=data.train_dataset(),
        eval_dataset=data.test_dataset(),
        processing_class=data.tokenizer,
        peft_config=peft_config(run.settings.model, model, data.template.added_tokens),
    )


def receipt(run: Run, trainer: FTDPOTrainer) -> dict:
    """What is trained on, counted from the pairs."""
    data = run.data
    return build_receipt(
        data.train.sequences(),
        data.tokenizer,
        data.template,
        data.train,
        sequences_per_row=len(ANSWERS),
        origins=data.origins(),
        batch_size=len(ANSWERS) * run.config.per_device_train_batch_size,
        copies=data.copies,
    )


METHOD = Method(prepare, row_facts, load_trained, build_trainer, receipt, describe_rows, format_receipt, row_questions)
