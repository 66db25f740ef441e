"""Pretraining: transformers' Trainer on blocks of text, with the compact loss head, and decay of matrices only."""

import copy
import math
from collections.abc import Callable

import torch
from peft import get_peft_model
from transformers import Trainer
from trl.trainer import utils as trl_utils

from ftkit.config.versions import has_fused_head
from ftkit.data.tokens.blocks import BlockCollator
from ftkit.inference.asking import Sampling
from ftkit.inference.engine import Engine
from ftkit.model.adapters.methods import peft_config
from ftkit.model.finite import check_finite
from ftkit.training.budget import SpeedCallback, tokens_per_update, training_flops
from ftkit.training.callbacks import MetricsCallback
from ftkit.training.method import Method, Run
from ftkit.training.run_trainer import RunMixin
from ftkit.training.text_preparation import block_facts, describe_blocks, load_or_make, prepare_blocks

SAMPLE_PROMPT_TOKENS = 12  # of a held-out document; the model goes on from there
SAMPLE_TEMPERATURE = 0.7


class HeadedTrainer(Trainer):
    """A Trainer whose model has TRL's loss head, the seam at which RunMixin puts the compact one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if has_fused_head():
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

    def get_eval_dataloader(self, eval_dataset=None):
        """Batches of all held-out blocks: --dataloader_drop_last is about training."""
        asked = self.args
        self.args = copy.copy(asked)
        self.args.dataloader_drop_last = False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args = asked

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
        logs["num_tokens"] = self.num_tokens_seen()
        super().log(logs, start_time)

    def num_tokens_seen(self) -> int:
        """Every block is full."""
        return self.state.global_step * self.tokens_per_update


def bits_per_byte(loss: float, tokens_per_byte: float) -> float:
    """Bits that coding one byte of text takes, from the mean loss in nats per token, end tokens included."""
    return loss * tokens_per_byte / math.log(2)


def build_trainer(run: Run, model) -> FTPretrainTrainer:
    """The trainer on blocks; it measures its speed."""
    data, asked = run.data, run.settings
    each = tokens_per_update(run.config, asked.data.block_size)
    if asked.model.use_peft and not asked.model.adapter:
        model = get_peft_model(model, peft_config(asked.model, model, []))
    trainer = FTPretrainTrainer(
        model=model,
        args=run.config,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=BlockCollator(asked.data.isolate_documents),
        processing_class=data.tokenizer,
        tokens_per_byte=data.tokens_per_byte,
        tokens_per_update=each,
    )
    metrics = next(one for one in trainer.callback_handler.callbacks if isinstance(one, MetricsCallback))
    trainer.add_callback(SpeedCallback(metrics, model.num_parameters(), each))
    return trainer


def beginnings(run: Run) -> tuple[list[dict], Callable] | None:
    """The beginnings of some held-out documents, and what continues them, drawn with a fixed seed."""
    config, tokenizer = run.config, run.data.tokenizer
    prompts = [ids[:SAMPLE_PROMPT_TOKENS] for ids in run.data.beginnings[: config.num_samples]]
    if not prompts:
        return None
    questions = [{"prompt": tokenizer.decode(ids), "reference": ""} for ids in prompts]

    def continue_all(model) -> list[str]:
        drawn = Sampling(config.sample_max_new_tokens, SAMPLE_TEMPERATURE, seed=config.seed)
        return Engine.of(model, tokenizer).texts(prompts, drawn)

    return questions, continue_all


def finish(run: Run, trainer: FTPretrainTrainer) -> dict:
    """Round the weights to --save_dtype; for the card: size, tokens trained on, and 6ND of both."""
    if run.config.save_dtype != "float32":
        trainer.model.to(getattr(torch, run.config.save_dtype))
        check_finite(trainer.model, run.output_dir)
    num_parameters = trainer.model.num_parameters()
    num_tokens = trainer.state.global_step * tokens_per_update(trainer.args, run.settings.data.block_size)
    operations = f"{training_flops(num_parameters, num_tokens):.2e}"
    return {"num_parameters": num_parameters, "num_trained_tokens": num_tokens, "operations (6ND)": operations}


METHOD = Method(
    prepare_blocks, block_facts, load_or_make, build_trainer, lambda run, trainer: run.data.receipt, describe_blocks,
    questions=beginnings, finish=finish,
)  # fmt: skip
