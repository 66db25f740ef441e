"""transformers' Trainer on blocks of text: the compact loss head, decay of matrices only, bits per byte."""

import math

import torch
from transformers import Trainer
from trl.trainer import utils as trl_utils

from ftkit.training.run_trainer import RunMixin


class HeadedTrainer(Trainer):
    """A Trainer whose model has TRL's loss head, the seam at which RunMixin puts the compact one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if hasattr(trl_utils, "add_fused_lm_head"):
            model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
            trl_utils.add_fused_lm_head(model, outputs=("log_probs",))


class FTPretrainTrainer(RunMixin, HeadedTrainer):
    """Trains on what BlockCollator gives.

    tokens_per_byte: of the held-out text, end tokens included; turns its loss into bits per byte.
    tokens_per_update: of all processes, for the log.
    """

    def __init__(self, *args, tokens_per_byte: float | None, tokens_per_update: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.tokens_per_byte = tokens_per_byte
        self.tokens_per_update = tokens_per_update
        self.loss_is_scaled_for_ga = True

    def get_decay_parameter_names(self, model) -> list[str]:
        """Matrices, the embedding among them; norms and biases do not decay."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Nats per scored token; the sum over this batch divided by the tokens of the whole update."""
        if not self.has_compact_heads:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        count = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = -outputs.log_probs.sum() / count
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages what was divided by all processes' tokens
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the tokens seen so far and, where bytes are known, perplexity and bits per byte."""
        for prefix in ("", "eval_"):
            loss = logs.get(f"{prefix}loss")
            if loss is not None and math.isfinite(loss):
                logs[f"{prefix}perplexity"] = math.exp(min(loss, 700.0))
                if self.tokens_per_byte is not None:
                    logs[f"{prefix}bits_per_byte"] = bits_per_byte(loss, self.tokens_per_byte)
        logs["num_tokens"] = self.state.global_step * self.tokens_per_update
        super().log(logs, start_time)


def bits_per_byte(loss: float, tokens_per_byte: float) -> float:
    """Bits that coding one byte of text takes, from the mean loss in nats a token, end tokens included."""
    return loss * tokens_per_byte / math.log(2)


def cast_weights(model: torch.nn.Module, dtype: str) -> None:
    """Round the weights for saving; nothing happens for float32."""
    if dtype != "float32":
        model.to(getattr(torch, dtype))
