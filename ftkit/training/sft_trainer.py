"""TRL's SFTTrainer with safe checkpoints, a loss head that scores only trained tokens, and ftkit's callbacks."""

import functools

from peft import PeftModel
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTTrainer
from trl.trainer import utils as trl_utils

from ftkit.training.callbacks import MetricsCallback, TrainingProgress
from ftkit.training.checkpointing import CheckpointMixin


class FTSFTTrainer(CheckpointMixin, SFTTrainer):
    """SFTTrainer on rows that are already tokenized and labelled, so that it trains on what the receipt shows."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.compact_loss_head and hasattr(trl_utils, "add_fused_lm_head"):  # since TRL 1.16
            from ftkit.model.loss_head import use_compact_loss_head

            use_compact_loss_head(self.model, uniform_rows=self.args.loss_type == "nll")
        if isinstance(self.model, PeftModel) and trains_new_tokens(self.model):
            # The trained rows are in the adapter; PEFT would save the whole embedding because its size changed.
            self.model.save_pretrained = functools.partial(self.model.save_pretrained, save_embedding_layers=False)
        metrics = MetricsCallback(self.args.output_dir)
        progress_bar = not self.args.disable_tqdm
        for callback in (ProgressCallback, PrinterCallback):
            self.remove_callback(callback)
        self.add_callback(metrics)
        if progress_bar:
            self.add_callback(TrainingProgress(metrics))

    def create_model_card(self, *args, **kwargs):
        """Leave OUT/README.md to ftkit, which writes it once, with the results."""


def trains_new_tokens(model: PeftModel) -> bool:
    """Whether an adapter of the model trains single rows of the embedding."""
    return any(getattr(config, "trainable_token_indices", None) for config in model.peft_config.values())
