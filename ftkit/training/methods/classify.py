"""transformers' Trainer for classifiers: loss by rows with class weights, measures of the held-out rows."""

import torch
from transformers import DataCollatorWithPadding, EarlyStoppingCallback, Trainer

from ftkit.training.run_trainer import RunMixin


class FTClassificationTrainer(RunMixin, Trainer):
    """Trainer on {"input_ids", "labels"} rows, with what ftkit adds to every trainer.

    The training loss is the sum of weight[label] * cross-entropy over the rows of an update, divided by their number:
    the same for any split of an update into batches (the models' own loss is a mean of each batch, and with several
    batches an update transformers would add these up). Evaluation loss has neither class weights nor label smoothing.
    """

    def __init__(self, *args, class_weights: list[float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = torch.tensor(class_weights) if class_weights else None
        self.compute_loss_func = self.row_loss
        self.model_accepts_loss_kwargs = False  # the loss is ours, the model gets no part of it
        if self.args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(self.args.early_stopping_patience))

    def row_loss(self, outputs, labels, num_items_in_batch=None):
        """Mean over rows, in nats; of an update's rows where Trainer tells their number."""
        logits = outputs["logits"].float()
        options = {"reduction": "sum"}
        if self.model.training:
            options["weight"] = None if self.class_weights is None else self.class_weights.to(logits)
            options["label_smoothing"] = self.args.label_smoothing_factor
        total = torch.nn.functional.cross_entropy(logits, labels, **options)
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    def log(self, logs, *args, **kwargs):
        logs["num_tokens"] = self.state.num_input_tokens_seen
        super().log(logs, *args, **kwargs)


def padding_collator(tokenizer) -> DataCollatorWithPadding:
    """Batches padded to their longest row."""
    return DataCollatorWithPadding(tokenizer)
