"""Every setting of ours, and those of the libraries that matter most, changes something to observe, or is refused.

A setting is tried on what is built without training where that shows it: what was decided, rows, model, optimizer,
schedule, data loaders, callbacks; else on three updates. run.yaml does not count.
"""

import copy
import dataclasses
import hashlib
import importlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, set_seed

from ftkit.config.errors import UserError
from ftkit.config.reporting import check_report_to
from ftkit.config.settings.common import RunSettings
from ftkit.config.settings.needs import check_needs, unmet, without_effect
from ftkit.config.versions import has_fused_head
from ftkit.runs.lifecycle import decide_run
from ftkit.runs.opening import begin
from ftkit.runs.recipe import found
from ftkit.runs.recipes import TRAINERS, load_recipe
from ftkit.training.preparation import with_base_of_adapter

BASE = {
    "bf16": False, "max_steps": 3, "disable_tqdm": True, "learning_rate": 1e-2, "report_to": "none",
    "per_device_train_batch_size": 2, "num_samples": 0, "save_strategy": "no", "logging_steps": 1,
}  # fmt: skip
SAMPLED = {
    "rewards": ["length:-1"], "max_completion_length": 6, "num_generations": 2, "receipt_prompts": 2,
    "start_anyway": True, "gradient_accumulation_steps": 1,
}  # fmt: skip
ROLLOUTS = {
    "rewards": ["length:-1"], "max_completion_length": 6, "receipt_prompts": 2, "start_anyway": True,
    "num_mini_batches": 2, "num_ppo_epochs": 2,
}  # fmt: skip
NEW_ROLLOUTS = {"num_mini_batches": 1, "num_ppo_epochs": 1}  # one for each update
MIXED_GROUPS = {"optim": "sgd", "per_device_train_batch_size": 12, "max_completion_length": 8, "max_steps": 1}
NEW_MODEL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SETTINGS = {name: importlib.import_module(f"ftkit.config.settings.{name}").SETTINGS for name in TRAINERS}


def asked_of(command: str, given: dict[str, Any]) -> RunSettings:
    """The settings as a command line would ask them."""
    parts = []
    for cls in SETTINGS[command]:
        names = {item.name for item in dataclasses.fields(cls)}
        parts.append(cls(**{name: copy.deepcopy(value) for name, value in given.items() if name in names}))
    return RunSettings(*parts, frozenset(given))


class Start:
    """A run up to any point, from settings as a person gave them; each part is made when it is looked at."""

    def __init__(self, command: str, given: dict[str, Any]):
        self.command, self.given = command, given
        self.method = found(load_recipe(command).method)
        self.seen: dict = {}

    def observed(self, see):
        """What `see` sees of it, looked at once."""
        if see not in self.seen:
            self.seen[see] = see(self)
        return self.seen[see]

    @cached_property
    def settings(self) -> RunSettings:
        asked = asked_of(self.command, self.given)
        check_needs(asked)
        check_report_to(asked.training.report_to)
        return with_base_of_adapter(asked)

    @cached_property
    def data(self):
        return self.method.prepare(self.settings)

    @cached_property
    def run(self):
        start = begin(self.command, self.settings, self.data)
        return decide_run(self.command, self.method, self.settings, self.data, start)

    @cached_property
    def trainer(self):
        set_seed(self.settings.training.seed)
        return self.method.build_trainer(self.run, self.method.load(self.run))

    @cached_property
    def trained(self):
        trainer = Start(self.command, self.given).trainer  # whose optimizer nobody has looked at
        trainer.train()
        return trainer


# What is observed.


def decided(start: Start) -> dict:
    values = dataclasses.asdict(start.run.decided)
    return {name: value for name, value in values.items() if name not in ("facts", "reasons")}


def reported(start: Start) -> list[str]:
    return without_effect(start.settings)


def rows(start: Start) -> list:
    data = start.data
    parts = [getattr(data, name, None) for name in ("train", "test", "validation", "observed")]
    return [[str(row) for row in getattr(part, "rows", part) or []] for part in parts]


def labels(start: Start) -> tuple:
    return start.data.rows.labels, start.data.positive, start.data.class_weights


def vocabulary(start: Start) -> tuple:
    return len(start.data.tokenizer), start.data.tokenizer.chat_template


def model(start: Start) -> list:
    built = start.trainer.model
    parameters = [(name, one.shape, one.dtype, one.requires_grad) for name, one in built.named_parameters()]
    adapters = {name: str(config) for name, config in getattr(built, "peft_config", {}).items()}
    return [type(built), parameters, adapters, str(built.config), built.config._attn_implementation]


def head(start: Start) -> bool:
    return start.trainer.has_compact_heads


def optimizer(start: Start) -> list:
    made = start.trainer.create_optimizer()
    groups = [{name: value for name, value in group.items() if name != "params"} for group in made.param_groups]
    return [type(made), groups, [len(group["params"]) for group in made.param_groups]]


def rates(start: Start) -> list[float]:
    start.trainer.create_optimizer_and_scheduler(20)
    found_rates = []
    for _ in range(20):
        found_rates.append(start.trainer.lr_scheduler.get_last_lr()[0])
        start.trainer.optimizer.step()
        start.trainer.lr_scheduler.step()
    return found_rates


def loaders(start: Start) -> list:
    made = [start.trainer.get_train_dataloader()]
    if start.trainer.eval_dataset is not None:
        made.append(start.trainer.get_eval_dataloader())
    return [(loader.total_batch_size, loader.num_workers, len(loader)) for loader in made]


def callbacks(start: Start) -> list[str]:
    return [type(one).__name__ for one in start.trainer.callback_handler.callbacks]


def questions(start: Start) -> list:
    asked = start.method.questions(start.run)
    return [] if asked is None else asked[0]


def answers(start: Start) -> list[str]:
    _, answer_all = start.method.questions(start.run)
    return answer_all(start.trainer.model)


def weights(start: Start) -> str:
    state = start.trained.model.state_dict()
    return hashlib.sha256(b"".join(value.float().numpy().tobytes() for value in state.values())).hexdigest()


def losses(start: Start) -> list:
    logs = [record for record in start.trained.state.log_history if "loss" in record or "eval_loss" in record]
    return [[(name, record[name]) for name in ("step", "loss", "eval_loss") if name in record] for record in logs]


def checkpoints(start: Start) -> list[str]:
    return sorted(path.name for path in Path(start.trained.args.output_dir).glob("checkpoint-*"))


def saved(start: Start) -> list:
    start.method.finish(start.run, start.trainer)
    return [value.dtype for value in start.trainer.model.state_dict().values()]


def learning(start: Start) -> dict:
    return start.method.receipt(start.run, start.trainer)["learning"]


def loaded_rows(start: Start) -> list:
    start.trainer  # noqa: B018 - rows may be mined when the model is there
    return rows(start)


def loss(start: Start) -> str:
    return str(start.trainer.loss)


def dropout(start: Start) -> list[float]:
    return [one.p for one in start.trainer.model.modules() if isinstance(one, torch.nn.Dropout)]


@dataclass
class Effect:
    """value: of the setting. seen: where it is seen; a text is what the refusal matches. base: settings beside it.

    needed: whether the run is refused without the setting, and takes place with it.
    """

    value: Any
    seen: Any
    base: dict = field(default_factory=dict)
    needed: bool = False


PEFT = {"use_peft": True}
HELD_OUT = {"test_size": 4}
OWN_ANSWERS = {"answers": "student"}
SHOWN = HELD_OUT | {"num_samples": 2}
COMMON = {
    # ours
    "activation_checkpointing": Effect(True, decided),
    "gradient_checkpointing": Effect(True, decided),
    "compact_loss_head": Effect(False, head),
    "loss_head_kernel": Effect("trl", decided),
    "fused_lora": Effect(False, decided, PEFT),
    "num_samples": Effect(1, questions, SHOWN),
    "sample_max_new_tokens": Effect(1, answers, SHOWN | {"sample_max_new_tokens": 3}),
    "learning_rate": Effect(1e-3, decided),
    "test_size": Effect(4, decided),
    "columns": Effect("text=gone", '--columns names "gone", which is not a column'),
    "encoding": Effect("nothing", 'unknown --encoding "nothing"'),
    "adapter": Effect("ADAPTER", model),
    "ftgpt": Effect(True, model),
    "dtype": Effect("bfloat16", model),
    "peft_method": Effect("prompt_tuning", model, PEFT),
    "lora_target_modules": Effect(["q_proj"], model, PEFT),
    "lora_dropout": Effect(0.3, model, PEFT),
    "use_bnb_nested_quant": Effect(False, model, PEFT | {"load_in_4bit": True}),
    "num_virtual_tokens": Effect(3, model, PEFT | {"peft_method": "prompt_tuning"}),
    "num_frozen_layers": Effect(1, model),
    # the libraries'
    "use_peft": Effect(True, model),
    "load_in_4bit": Effect(True, model, PEFT),
    "attn_implementation": Effect("eager", model),
    "lora_r": Effect(3, model, PEFT),
    "lora_alpha": Effect(3, model, PEFT),
    "lora_modules_to_save": Effect(["norm"], model, PEFT),
    "use_dora": Effect(True, model, PEFT),
    "use_rslora": Effect(True, model, PEFT),
    "num_train_epochs": Effect(5, decided, {"max_steps": -1}),
    "max_steps": Effect(7, decided),
    "per_device_train_batch_size": Effect(8, decided),
    "per_device_eval_batch_size": Effect(3, loaders, HELD_OUT),
    "gradient_accumulation_steps": Effect(3, decided),
    "dataloader_num_workers": Effect(1, loaders),
    "weight_decay": Effect(0.3, optimizer),
    "adam_beta1": Effect(0.5, optimizer),
    "optim": Effect("adafactor", optimizer),
    "warmup_steps": Effect(10, rates),
    "lr_scheduler_type": Effect("constant", rates),
    "lr_scheduler_kwargs": Effect({"num_cycles": 3}, rates, {"lr_scheduler_type": "cosine_with_restarts"}),
    "bf16": Effect(True, decided),
    "fp16": Effect(True, "needs a GPU"),
    "max_grad_norm": Effect(1e-6, weights, {"optim": "sgd"}),
    "seed": Effect(7, weights),
    "data_seed": Effect(7, weights),
    "neftune_noise_alpha": Effect(5, weights),
    "label_smoothing_factor": Effect(0.2, weights),
    "logging_steps": Effect(3, losses),
    "logging_strategy": Effect("epoch", losses, {"logging_steps": None}),
    "eval_strategy": Effect("steps", losses, HELD_OUT | {"eval_steps": None, "eval_on_start": False}),
    "eval_steps": Effect(2, losses, HELD_OUT | {"eval_strategy": "steps"}),
    "eval_on_start": Effect(False, losses, HELD_OUT),
    "save_strategy": Effect("steps", checkpoints, {"save_strategy": "no", "save_steps": None}),
    "save_steps": Effect(2, checkpoints, {"save_strategy": "steps"}),
    "save_total_limit": Effect(1, checkpoints, {"save_strategy": "steps", "save_steps": 1}),
    "report_to": Effect(["codecarbon"], "the package is not installed"),
    "disable_tqdm": Effect(False, callbacks),
    "train_sampling_strategy": Effect("sequential", weights),
}


def row_effects(prompt: int, answer: int) -> dict[str, Effect]:
    """Effects of the settings of rows. prompt, answer: tokens of all rows but one, which is longer."""
    drop, any_cut = {"untrained_rows": "drop"}, {"max_truncated_share": 1.0}
    whole = prompt + answer
    return {
        "template": Effect("chatml", rows),
        "add_template_tokens": Effect(True, vocabulary, {"template": "chatml"}),
        "dataset_format": Effect("messages", "messages"),
        "untrained_rows": Effect("drop", rows, {"max_length": whole + 1} | any_cut, needed=True),
        "max_truncated_share": Effect(1.0, rows, {"max_length": whole + 6}, needed=True),
        "allow_untrained_end_of_turn": Effect(True, rows, {"max_length": whole - 2} | drop | any_cut, needed=True),
        "allow_empty_mask": Effect(
            True, rows, {"max_length": prompt - 1, "untrained_rows": "keep"} | any_cut, needed=True
        ),
        "max_length": Effect(300, decided),
    }


SHARED = (  # settings of ours that have been tried on the whole table above with sft and dpo
    "activation_checkpointing", "gradient_checkpointing", "compact_loss_head", "loss_head_kernel", "fused_lora",
    "num_samples", "sample_max_new_tokens", "learning_rate", "test_size", "columns", "encoding", "adapter", "ftgpt",
    "dtype", "peft_method", "lora_target_modules", "lora_dropout", "use_bnb_nested_quant", "num_virtual_tokens",
    "num_frozen_layers", "data_seed",
)  # fmt: skip
WEIGHTS = dict.fromkeys((*NEW_MODEL, "tokenizer")) | {"model_name_or_path": "MODEL"}
TERNARY = {"ternary": Effect(True, model), "ternary_warmup": Effect(0, weights, {"ternary": True})}
EFFECTS = {
    "sft": COMMON | row_effects(22, 3) | TERNARY | {
        "before_after": Effect(True, decided, HELD_OUT),
        "packing": Effect(False, decided),
        "loss_type": Effect("dft", weights),
        "packing_strategy": Effect("wrapped", "lets rows see each other"),
        "assistant_only_loss": Effect(True, "the answers and their end token only"),
        "completion_only_loss": Effect(False, "the answers and their end token only"),
    },
    "dpo": COMMON | row_effects(4, 3) | {
        "dataset_format": Effect("messages", "must be a list of turns"),
        "before_after": Effect(True, decided, HELD_OUT),
        "beta": Effect(0.7, weights),
        "loss_type": Effect(["ipo"], weights),
        "label_smoothing": Effect(0.2, weights, {"loss_type": ["robust"]}),
        "label_smoothing_factor": Effect(0.2, "use --label_smoothing"),
        "allow_empty_mask": Effect(True, "a pair has two answers"),
        "cpo_alpha": Effect(0.3, decided, {"loss_type": ["cpo"]}),
        "simpo_gamma": Effect(0.3, weights, {"loss_type": ["simpo"]}),
        "precompute_ref_log_probs": Effect(True, lambda start: start.trainer.ref_model is None),
        "truncation_mode": Effect("keep_end", "would cut the prompt"),
    },
    "kto": {name: COMMON[name] for name in SHARED} | row_effects(4, 3) | {
        "dataset_format": Effect("messages", "messages"),
        "allow_empty_mask": Effect(True, "a label needs its answer"),
        "dataset_streaming": Effect(True, "mixes wanted and unwanted ones"),
        "beta": Effect(0.7, weights),
        "loss_type": Effect("apo_zero_unpaired", weights),
        "desirable_weight": Effect(2.0, decided),
        "undesirable_weight": Effect(3.0, decided),
        "label_smoothing_factor": Effect(0.2, "has no effect on labels"),
        "precompute_ref_log_probs": Effect(True, lambda start: start.trainer.ref_model is None),
        "train_sampling_strategy": Effect("random", "pairs neighbours"),
        "per_device_train_batch_size": Effect(1, "pairs the rows of a batch"),
    },
    "distill": {name: COMMON[name] for name in SHARED} | row_effects(22, 3) | {
        "loss_head_kernel": Effect("compact", "both heads are read in chunks"),
        "add_template_tokens": Effect(True, "does not have"),
        "dataset_streaming": Effect(True, "is asked about all"),
        "teacher_model_name_or_path": Effect("ADAPTER", weights),
        "teacher_dtype": Effect("bfloat16", decided),
        "answers": Effect("student", lambda start: type(start.trainer)),
        "teacher_top_k": Effect(3, weights),
        "hard_label_weight": Effect(0.5, weights),
        "beta": Effect(0.5, weights),
        "temperature": Effect(2.0, weights),
        "max_completion_length": Effect(5, lambda start: start.run.config.max_completion_length, OWN_ANSWERS),
        "top_p": Effect(0.5, "samples its own distribution"),
        "log_completions": Effect(True, "add --answers student"),
        "label_smoothing_factor": Effect(0.2, "a teacher's probabilities"),
    },
    "reward": {name: COMMON[name] for name in SHARED} | {
        "template": Effect("chatml", rows),
        "dataset_format": Effect("messages", "must be a list of turns"),
        "max_length": Effect(300, decided),
        "untrained_rows": Effect("drop", rows, {"max_length": 8}, needed=True),
        "max_truncated_share": Effect(0.5, "no pair is cut"),
        "allow_untrained_end_of_turn": Effect(True, "no pair is cut"),
        "allow_empty_mask": Effect(True, "no pair is cut"),
        "add_template_tokens": Effect(True, "writes no token"),
        "center_rewards_coefficient": Effect(0.7, weights),
        "num_trained_layers": Effect(0, model),
        "adapter": Effect("ADAPTER", "starts a new adapter"),
        "num_frozen_layers": Effect(1, "give --num_trained_layers"),
        "num_virtual_tokens": Effect(3, "is the length of a soft prompt", PEFT),
        "compact_loss_head": Effect(True, "has no LM head"),
        "loss_head_kernel": Effect("trl", "has no LM head"),
        "sample_max_new_tokens": Effect(1, "has no LM head"),
        "lora_modules_to_save": Effect(["layers.0.mlp"], model, PEFT),
        "disable_dropout": Effect(False, lambda start: start.run.config.disable_dropout),
    },
    "grpo": {name: COMMON[name] for name in SHARED} | {
        "template": Effect("chatml", rows),
        "add_template_tokens": Effect(True, "adds tokens that the model can't say yet", {"template": "chatml"}),
        "dataset_format": Effect("messages", "messages"),
        "untrained_rows": Effect("drop", rows, {"max_completion_length": 506}, needed=True),
        "max_truncated_share": Effect(0.5, "no prompt is cut"),
        "allow_untrained_end_of_turn": Effect(True, "answers are sampled"),
        "allow_empty_mask": Effect(True, "answers are sampled"),
        "peft_method": Effect("prompt_tuning", "PEFT drops the positions", PEFT),
        "num_virtual_tokens": Effect(3, "PEFT drops the positions", PEFT | {"peft_method": "prompt_tuning"}),
        "sample_max_new_tokens": Effect(1, answers, SHOWN | {"sample_max_new_tokens": 3}),
        "rewards": Effect(["json"], lambda start: [one.name for one in start.data.rewards]),
        "algorithm": Effect("rloo", lambda start: type(start.trainer).__name__),
        "beta": Effect(0.9, weights),
        "num_generations": Effect(4, decided, {"per_device_train_batch_size": 4}),
        "gradient_accumulation_steps": Effect(3, decided),
        "max_completion_length": Effect(3, weights),
        "multi_objective_aggregation": Effect("sum_then_normalize", decided, {"rewards": ["length:-1", "json"]}),
        "disable_dropout": Effect(False, dropout, PEFT | {"lora_dropout": 0.3}),
        "lora_dropout": Effect(0.3, dropout, PEFT | {"disable_dropout": False}),
        "data_seed": Effect(7, "prompts are mixed by --seed"),
        "skip_equal_groups": Effect(False, weights, MIXED_GROUPS),
        "receipt_prompts": Effect(3, learning),
        "start_anyway": Effect(True, learning, {"rewards": ["json"], "start_anyway": None}, needed=True),
        "max_logp_difference": Effect(0.5, decided),
        "normalize_advantages": Effect(True, weights, {"algorithm": "rloo"}),
        "reward_clip_range": Effect([0.0, 0.4], weights, {"algorithm": "rloo", "optim": "sgd"}),
        "before_after": Effect(False, decided, HELD_OUT),
        "loss_type": Effect("dr_grpo", lambda start: start.trainer.loss_type),
        "temperature": Effect(0.5, weights),
    },
    "ppo": {name: COMMON[name] for name in SHARED} | {
        "template": Effect("chatml", rows),
        "add_template_tokens": Effect(True, "adds tokens that the model can't say yet", {"template": "chatml"}),
        "dataset_format": Effect("messages", "messages"),
        "untrained_rows": Effect("drop", rows, {"max_completion_length": 506}, needed=True),
        "max_truncated_share": Effect(0.5, "no prompt is cut"),
        "allow_untrained_end_of_turn": Effect(True, "answers are sampled"),
        "allow_empty_mask": Effect(True, "answers are sampled"),
        "num_virtual_tokens": Effect(3, "is the length of a soft prompt", PEFT),
        "lora_dropout": Effect(0.3, "another policy", PEFT),
        "compact_loss_head": Effect(True, "scores its answers itself"),
        "loss_head_kernel": Effect("trl", "scores its answers itself"),
        "sample_max_new_tokens": Effect(1, answers, SHOWN | {"sample_max_new_tokens": 3}),
        "rewards": Effect(["json"], lambda start: [one.name for one in start.data.rewards]),
        "reward_weights": Effect([2.0], weights),
        "value_learning_rate": Effect(0.5, optimizer),
        "value_trunk": Effect("separate", model),
        "max_completion_length": Effect(3, weights),
        "temperature": Effect(0.5, weights),
        "num_mini_batches": Effect(1, weights),
        "num_ppo_epochs": Effect(1, weights),
        "gamma": Effect(0.5, weights),
        "lam": Effect(0.5, weights),
        "cliprange": Effect(1e-4, weights),
        "cliprange_value": Effect(1e-4, weights),
        "vf_coef": Effect(0.9, weights),
        "kl_coef": Effect(5.0, weights, NEW_ROLLOUTS),
        "kl_target": Effect(1e-3, weights, NEW_ROLLOUTS),
        "missing_eos_penalty": Effect(1.0, weights),
        "whiten_advantages": Effect(False, weights),
        "receipt_prompts": Effect(3, learning),
        "start_anyway": Effect(True, learning, {"rewards": ["json"], "start_anyway": None}, needed=True),
        "before_after": Effect(False, decided, HELD_OUT),
        "train_sampling_strategy": Effect("sequential", weights),
    },
    "pretrain": COMMON | {name: dataclasses.replace(COMMON[name], base=COMMON[name].base | WEIGHTS) for name in (
        "fused_lora", "adapter", "ftgpt", "dtype", "peft_method", "lora_target_modules", "lora_dropout",
        "use_bnb_nested_quant", "num_virtual_tokens", "num_frozen_layers", "use_peft", "load_in_4bit", "lora_r",
        "lora_alpha", "lora_modules_to_save", "use_dora", "use_rslora",
    )} | TERNARY | {
        "compact_loss_head": Effect(True, head),
        "dataset_test_split": Effect("test", rows, {"dataset_name": "SPLITS"}),
        "document_separator": Effect("####", rows, {"dataset_name": "TEXT"}),
        "block_size": Effect(16, decided),
        "isolate_documents": Effect(True, decided),
        "preset": Effect("gpt2", model),
        "tokenizer": Effect("TOKENIZER", model),
        "hidden_size": Effect(32, model),
        "num_hidden_layers": Effect(2, model),
        "num_attention_heads": Effect(4, model),
        "num_key_value_heads": Effect(1, model),
        "intermediate_size": Effect(24, model),
        "dropout": Effect(0.3, model),
        "max_tokens": Effect(640, decided, {"max_steps": -1}),
        "decay_share": Effect(0.5, decided, {"lr_scheduler_type": "warmup_stable_decay", "max_steps": 20}),
        "min_learning_rate_share": Effect(0.5, rates),
        "save_dtype": Effect("bfloat16", saved),
        "adam_beta2": Effect(0.5, optimizer),
        "dataloader_drop_last": Effect(False, loaders, {"per_device_train_batch_size": 3}),
        "remove_unused_columns": Effect(True, "blocks hold what is needed alone"),
    },
    "classify": COMMON | {
        "validation_size": Effect(5, rows),
        "class_names": Effect(["spam", "ham"], labels),
        "positive_label": Effect("ham", labels),
        "class_weights": Effect(["spam=3"], labels),
        "num_trained_layers": Effect(0, model),
        "max_length": Effect(3, rows),
        "early_stopping_patience": Effect(2, decided, HELD_OUT | {"save_strategy": None}),
        "metric_for_best_model": Effect(
            "brier", decided, HELD_OUT | {"early_stopping_patience": 2, "save_strategy": None}
        ),
        "adapter": Effect("ADAPTER", "starts a new adapter"),
        "num_frozen_layers": Effect(1, "give --num_trained_layers"),
        "num_virtual_tokens": Effect(3, "is the length of a soft prompt", PEFT),
        "compact_loss_head": Effect(True, "has no LM head"),
        "loss_head_kernel": Effect("trl", "has no LM head"),
        "sample_max_new_tokens": Effect(1, "has no LM head"),
        "lora_modules_to_save": Effect(["layers.0.mlp"], model, PEFT),
    },
    "embed": {name: COMMON[name] for name in SHARED} | {
        "dataset_format": Effect("triplets", "is passages, but triplets is expected"),
        "lora_dropout": Effect(0.3, dropout, PEFT),
        "mine_negatives": Effect(1, loaded_rows),
        "negatives_from": Effect("NOWHERE", "holds no index", {"mine_negatives": 1}),
        "negative_margin": Effect(0.9, loaded_rows, {"mine_negatives": 2}),
        "pooling": Effect("cls", lambda start: start.trainer.model[1].pooling_mode),
        "max_length": Effect(3, rows),
        "per_device_train_batch_size": Effect(4, decided),
        "per_device_eval_batch_size": Effect(3, loaders, HELD_OUT),
        "loss_type": Effect("triplet", loss, {"mine_negatives": 1}),
        "scale": Effect(1.0, weights),
        "mini_batch_size": Effect(1, loss),
        "triplet_margin": Effect(0.5, losses, {"mine_negatives": 1, "loss_type": "triplet"}),
        "matryoshka_dims": Effect([8], loss),
        "adapter": Effect("ADAPTER", "is merged at the end of its run"),
        "num_frozen_layers": Effect(1, "is of language models"),
        "load_in_4bit": Effect(True, "which quantised weights would not stand", PEFT),
        "use_bnb_nested_quant": Effect(False, "which quantised weights would not stand", PEFT | {"load_in_4bit": True}),
        "num_virtual_tokens": Effect(3, "is the length of a soft prompt", PEFT),
        "compact_loss_head": Effect(True, "has no LM head"),
        "loss_head_kernel": Effect("trl", "has no LM head"),
        "sample_max_new_tokens": Effect(1, "has no LM head"),
        "columns": Effect("anchor=gone", '--columns names "gone", which is not a column'),
    },
}  # fmt: skip
# Settings whose effect another test shows: where.
ELSEWHERE = {
    "join_turns": "tests/data/test_rows_as_people_have_them.py",
    "plan": "tests/runs/test_plan.py",
    "overwrite": "tests/runs/test_opening.py",
    "allow_changes": "tests/runs/test_changes_on_resume.py",
    "hardware": "tests/runs/test_plan.py",
    "benchmark_tasks": "tests/runs/test_benchmark.py",
    "benchmark_data": "tests/runs/test_benchmark.py",
    "benchmark_limit": "tests/runs/test_benchmark.py",
    "trust_remote_code": "tests/model/test_remote_code.py",
}
# The parser refuses every other value.
ONE_CHOICE = {(name, "peft_method"): "prompt_tuning" for name in ("ppo", "classify", "reward", "embed")}
NEEDS_FUSED_HEAD = ("compact_loss_head", "label_smoothing_factor")
CASES = [
    (command, name) for command, effects in EFFECTS.items() for name in effects if (command, name) not in ONE_CHOICE
]


def is_tried_with_sft(command: str, name: str) -> bool:
    """Whether a setting is a library's that all trainers hand on alike; each case costs half a second."""
    return command != "sft" and name not in SHARED and EFFECTS[command][name] is COMMON.get(name)


PARAMS = [
    pytest.param(*case, marks=pytest.mark.slow if is_tried_with_sft(*case) else (), id=":".join(case)) for case in CASES
]


@pytest.fixture(scope="module")
def places(files, tiny_folder, tiny_teacher, tmp_path_factory) -> dict[str, str]:
    """What stands for the names in capitals of the tables."""
    folder = tmp_path_factory.mktemp("places")
    texts = [[json.dumps({"text": f"{word} {number} " * 30}) for number in range(9)] for word in ("train", "va", "te")]
    (folder / "splits").mkdir()
    for name, lines in zip(("train", "validation", "test"), texts, strict=True):
        (folder / "splits" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "text.txt").write_text("####".join(f"document {number} " * 20 for number in range(9)))
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.add_tokens(["document"])
    tokenizer.save_pretrained(folder / "tokenizer")
    named = {"MODEL": str(tiny_folder), "SPLITS": str(folder / "splits"), "TEXT": str(folder / "text.txt")}
    named["TEACHER"] = str(tiny_teacher)
    named |= {"TOKENIZER": str(folder / "tokenizer"), "ADAPTER": str(folder / "adapter")}
    start = Start("sft", given_to("sft", files, named, folder, {"use_peft": True, "lora_r": 2}))
    start.trained.model.save_pretrained(folder / "adapter")
    start.data.tokenizer.save_pretrained(folder / "adapter")
    return named


def given_to(command: str, files, places: dict, out: Path, more: dict) -> dict:
    """All settings of a run; those that are None are left out."""
    own = (
        {"model_name_or_path": "MODEL"}
        if command != "pretrain"
        else NEW_MODEL | {"tokenizer": "MODEL", "block_size": 32}
    )
    own |= {"template": "plain"} if command not in ("classify", "embed", "pretrain") else {}
    own |= {"grpo": SAMPLED, "ppo": ROLLOUTS}.get(command, {})
    own |= {"teacher_model_name_or_path": "TEACHER"} if command == "distill" else {}
    given = BASE | own | {"dataset_name": str(files.path(command)), "output_dir": str(out)} | more
    return {
        name: places.get(value, value) if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }


@pytest.fixture(scope="module")
def baselines() -> dict[tuple, Start]:
    """Runs without a setting, by command and settings; many share them."""
    return {}


@pytest.mark.parametrize(("command", "name"), PARAMS)
def test_a_setting_changes_something_or_is_refused(command, name, files, places, baselines, tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(places["MODEL"]) + "-cache")
    effect = EFFECTS[command][name]
    if name in NEEDS_FUSED_HEAD and not has_fused_head():
        pytest.skip("TRL before 1.16 has no head to take over")
    base = {key: value for key, value in effect.base.items() if key != name}
    with_it = Start(command, given_to(command, files, places, tmp_path / "with", base | {name: effect.value}))
    if isinstance(effect.seen, str):
        with pytest.raises(UserError, match=re.escape(effect.seen)):
            with_it.trainer  # noqa: B018
        return
    base |= {name: effect.base[name]} if name in effect.base else {}
    without = baselines.setdefault(
        (command, str(base)), Start(command, given_to(command, files, places, tmp_path / "without", base))
    )
    if effect.needed:
        with pytest.raises(UserError, match=name):
            effect.seen(without)
        assert effect.seen(with_it)
    else:
        assert effect.seen(with_it) != without.observed(effect.seen)


@pytest.mark.parametrize("command", EFFECTS)
def test_the_table_holds_every_setting_of_ours(command):
    ours = set()
    for part in SETTINGS[command]:
        fields = {item.name for item in dataclasses.fields(part)}
        for cls in part.__mro__:
            ours |= fields & set(vars(cls).get("__annotations__", {})) if cls.__module__.startswith("ftkit.") else set()
    assert ours - EFFECTS[command].keys() - ELSEWHERE.keys() == set()


def test_settings_that_are_tested_elsewhere_are_named_there():
    for name, path in ELSEWHERE.items():
        assert name in Path(path).read_text()


@pytest.mark.parametrize("command", EFFECTS)
def test_the_table_names_no_setting_that_is_not_there(command):
    known = {item.name for part in SETTINGS[command] for item in dataclasses.fields(part)}
    assert set(EFFECTS[command]) <= known


@pytest.mark.parametrize(("command", "name"), ONE_CHOICE, ids=str)
def test_a_setting_of_one_choice_is_refused_by_the_parser(command, name, files, tmp_path):
    with pytest.raises(UserError, match="--peft_method is .*; give one of"):
        files.parse(command, tmp_path / "out", f"--{name}", ONE_CHOICE[command, name])


@pytest.mark.parametrize("budget", [{"max_steps": 3}, {"max_tokens": 640, "max_steps": None}], ids=str)
def test_epochs_beside_another_end_of_the_run_are_reported(budget, files, places, tmp_path):
    given = given_to("pretrain", files, places, tmp_path, budget | {"num_train_epochs": 2})
    assert reported(Start("pretrain", given)) == [f"no effect  --num_train_epochs: --{next(iter(budget))} ends the run"]


STOPS_EARLY = {"early_stopping_patience": 2}
WITHOUT_EFFECT = {  # command: settings, of which the first has no effect, and what is said of it
    "sft": [
        ({"ignore_bias_buffers": True}, "has no effect in ftkit"),
        ({"lora_r": 4, "adapter": "x"}, "the adapter has its own"),
        ({"lora_r": 16}, "all weights would be trained"),
        ({"use_dora": True, "use_peft": True, "peft_method": "prompt_tuning"}, "belongs to LoRA"),
        ({"num_virtual_tokens": 3, "use_peft": True}, "add --peft_method prompt_tuning"),
        ({"use_bnb_nested_quant": False}, "needs --load_in_4bit"),
        ({"model_revision": "x"}, "the model is a local one"),
        ({"lora_task_type": "CAUSAL_LM", "use_peft": True}, "follows from the command"),
        ({"hardware": "cpu-2"}, "add --plan"),
        ({"benchmark_limit": 4}, "without --benchmark_tasks"),
        ({"gradient_checkpointing": True, "activation_checkpointing": False}, "former name"),
        ({"loss_head_kernel": "trl", "compact_loss_head": False}, "without --compact_loss_head"),
        ({"hub_model_id": "x"}, "needs --push_to_hub"),
        ({"eval_steps": 3, "test_size": 4}, "needs --eval_strategy steps"),
        ({"save_steps": 3, "save_strategy": "epoch"}, "needs --save_strategy steps"),
        ({"save_total_limit": 3}, "--save_strategy no writes none"),
        ({"logging_steps": 3, "logging_strategy": "epoch"}, "needs --logging_strategy steps"),
        ({"greater_is_better": False}, "add --load_best_model_at_end"),
        ({"warmup_steps": 3, "lr_scheduler_type": "constant"}, "use constant_with_warmup"),
        ({"run_name": "x"}, "names the run for --report_to"),
        ({"dataset_config": "main"}, "the rows are local"),
        ({"optim_target_modules": "q_proj"}, "belongs to the optimizers"),
        ({"adam_beta1": 0.5, "optim": "sgd"}, "has no effect with this --optim"),
        ({"adam_epsilon": 1e-5, "optim": "sgd"}, "has no effect with this --optim"),
        ({"dataloader_prefetch_factor": 2}, "needs --dataloader_num_workers"),
        ({"fsdp_config": "x.json"}, "needs --fsdp"),
        ({"deepspeed": "x.json"}, "is not supported; FSDP2 splits weights too"),
        ({"activation_checkpointing_kwargs": {"a": 1}, "activation_checkpointing": False}, "nothing is recomputed"),
        ({"trackio_space_id": "x"}, "needs --report_to trackio"),
        ({"include_for_metrics": ["loss"]}, "ftkit measures by itself"),
        ({"liger_kernel_config": {"rope": True}}, "needs --use_liger_kernel"),
        ({"hub_strategy": "end"}, "pushes once, at the end"),
        ({"do_train": True}, "see --eval_strategy"),
        ({"overwrite": True, "resume_from_checkpoint": "true"}, "--resume_from_checkpoint goes on"),
        ({"allow_changes": "seed", "overwrite": True}, "--overwrite starts over"),
        ({"logging_nan_inf_filter": True}, "would hide a loss"),
        ({"dataset_num_proc": 2}, "read and cut them already"),
        ({"completion_only_loss": False}, "the answers and their end token only"),
        ({"chat_template_path": "x"}, "use --template"),
        ({"model_init_kwargs": {"a": 1}}, "by flags of its own"),
        ({"eval_packing": True, "packing": False}, "without --packing"),
        ({"packing_strategy": "wrapped"}, "lets rows see each other"),
        ({"num_train_epochs": 2, "max_steps": 3}, "--max_steps ends the run"),
        ({"ternary": True, "use_peft": True}, "trains all weights"),
        ({"ternary": True, "num_frozen_layers": 1}, "rounds every layer"),
        ({"ternary_warmup": 3}, "needs --ternary"),
    ],
    "dpo": [
        ({"allow_empty_mask": True}, "a pair has two answers"),
        ({"truncation_mode": "keep_end"}, "would cut the prompt"),
        ({"precompute_ref_batch_size": 2}, "needs --precompute_ref_log_probs"),
        ({"ref_model_sync_steps": 2}, "needs --sync_ref_model"),
        ({"discopop_tau": 0.1}, "belongs to --loss_type discopop"),
        ({"f_alpha_divergence_coef": 0.1}, "belongs to --f_divergence_type"),
        ({"label_smoothing": 0.1}, "has no effect on this --loss_type"),
        ({"label_smoothing_factor": 0.1}, "use --label_smoothing"),
        ({"padding_free": True}, "TRL pads pairs"),
        ({"cpo_alpha": 0.5}, "belongs to --loss_type cpo and simpo"),
        ({"simpo_gamma": 0.5, "loss_type": ["cpo"]}, "belongs to --loss_type simpo"),
        ({"use_weighting": True, "loss_type": ["orpo"]}, "which know no reference"),
        ({"precompute_ref_log_probs": True, "dataset_streaming": True}, "reads them as they come"),
    ],
    "kto": [
        ({"allow_empty_mask": True}, "a label needs its answer"),
        ({"dataset_streaming": True}, "mixes wanted and unwanted ones"),
        ({"precompute_ref_batch_size": 2}, "needs --precompute_ref_log_probs"),
        ({"ref_model_sync_steps": 2}, "needs --sync_ref_model"),
        ({"label_smoothing_factor": 0.1}, "has no effect on labels of answers"),
        ({"dataset_num_proc": 2}, "ftkit reads rows and model itself"),
    ],
    "distill": [
        ({"dataset_streaming": True}, "asked about all"),
        ({"add_template_tokens": True}, "the teacher does not have"),
        ({"teacher_top_k": 5, **OWN_ANSWERS}, "belongs to --answers rows"),
        ({"beta": 0.5, "answers": "teacher"}, "which are labels"),
        ({"max_completion_length": 5}, "those of the rows are there"),
        ({"compact_loss_head": True, **OWN_ANSWERS}, "TRL reads both heads in chunks"),
        ({"top_p": 0.5}, "samples its own distribution"),
        ({"use_vllm": True}, "add --answers student"),
        ({"label_smoothing_factor": 0.1}, "a teacher's probabilities"),
        ({"loss_head_kernel": "trl"}, "both heads are read in chunks"),
        ({"train_sampling_strategy": "sequential", **OWN_ANSWERS}, "TRL mixes prompts itself"),
        ({"chat_template_kwargs": {"a": 1}}, "ftkit reads rows and models itself"),
    ],
    "reward": [
        ({"max_truncated_share": 0.5}, "no pair is cut"),
        ({"add_template_tokens": True}, "writes no token"),
        ({"loss_head_kernel": "trl"}, "has no LM head"),
        ({"label_smoothing_factor": 0.1}, "has no effect on pairs"),
        ({"pad_token": "x"}, "the template closes an answer"),
        ({"dataset_num_proc": 2}, "reads rows and model itself"),
    ],
    "grpo": [
        ({"allow_empty_mask": True}, "answers are sampled"),
        ({"dataset_streaming": True}, "groups are drawn from all of them"),
        ({"add_template_tokens": True}, "adds tokens that the model can't say yet"),
        ({"top_p": 0.9}, "samples from another distribution"),
        ({"scale_rewards": "none", "algorithm": "rloo"}, "belongs to --algorithm grpo"),
        ({"normalize_advantages": True}, "belongs to --algorithm rloo"),
        ({"vllm_mode": "server"}, "needs --use_vllm"),
        ({"entropy_target": 0.3}, "needs --use_adaptive_entropy"),
        ({"ref_model_sync_steps": 2}, "needs --sync_ref_model"),
        ({"sync_ref_model": True}, "needs a --beta above 0"),
        ({"log_unique_prompts": True}, "needs --log_completions"),
        ({"data_seed": 3}, "prompts are mixed by --seed"),
        ({"label_smoothing_factor": 0.1}, "has no effect on rewards"),
        ({"num_generations_eval": 2}, "samples the answers itself"),
    ],
    "ppo": [
        ({"lora_dropout": 0.3, "use_peft": True}, "another policy"),
        ({"compact_loss_head": True}, "scores its answers itself"),
        ({"neftune_noise_alpha": 5}, "another policy"),
        ({"dataloader_num_workers": 1}, "sampled when they are due"),
    ],
    "pretrain": [
        ({"preset": "gpt2", **WEIGHTS}, "is of a new model"),
        ({"ftgpt": True}, "a new model is an FTGPT"),
        ({"dtype": "bfloat16"}, "of a new model is float32"),
        ({"decay_share": 0.1}, "belongs to --lr_scheduler_type warmup_stable_decay"),
        ({"min_learning_rate_share": 0.1, "lr_scheduler_type": "linear"}, "belongs to the schedules"),
        ({"min_learning_rate_share": 0.1, "lr_scheduler_kwargs": {"num_cycles": 1}}, "both describe the schedule"),
        ({"remove_unused_columns": True}, "blocks hold what is needed alone"),
        ({"document_separator": "x", "dataset_streaming": True}, "each row or line is a document"),
        ({"num_train_epochs": 2, "max_tokens": 99, "max_steps": None}, "--max_tokens ends the run"),
    ],
    "classify": [
        ({"sample_max_new_tokens": 3}, "has no LM head"),
        ({"save_strategy": "epoch", **STOPS_EARLY}, "saved at each evaluation; drop it"),
        ({"save_steps": 3, "save_strategy": "steps", **STOPS_EARLY}, "see --eval_steps"),
        ({"greater_is_better": True, **STOPS_EARLY}, "follows from --metric_for_best_model"),
    ],
    "embed": [
        ({"negatives_from": "X"}, "is about negatives that are mined"),
        ({"negative_margin": 0.1, "negatives_from": "X", "mine_negatives": 1}, "an index ranks by words too"),
        ({"compact_loss_head": True}, "has no LM head"),
        ({"scale": 1.0, "loss_type": "triplet"}, "belongs to --loss_type ranking"),
        ({"triplet_margin": 0.1}, "belongs to --loss_type triplet"),
        ({"neftune_noise_alpha": 5}, "has no effect on pairs of texts"),
    ],
}  # fmt: skip


def test_each_setting_without_effect_is_named_and_no_need_is_untested(files, places, tmp_path):
    tested = set()
    for command, cases in WITHOUT_EFFECT.items():
        for more, message in cases:
            name = next(iter(more))
            given = given_to(command, files, places, tmp_path, more)
            needs = dict(unmet(asked_of(command, given)))
            if not any(item.name == name for part in SETTINGS[command] for item in dataclasses.fields(part)):
                newer = [need for need in all_needs() if name in need.names]  # than the library here
                tested.update(newer)
                continue
            assert name in needs and message in needs[name].reason, (command, name)
            tested.add(needs[name])
    assert all_needs() == tested


def all_needs() -> set:
    classes = {cls for parts in SETTINGS.values() for part in parts for cls in part.__mro__}
    return {need for cls in classes for need in vars(cls).get("needs", ())}


@pytest.mark.parametrize("command", ["sft", "classify"])
def test_modules_that_are_not_there_are_named_with_those_that_are(command, files, places, tmp_path):
    given = given_to(command, files, places, tmp_path, PEFT | {"lora_target_modules": ["query"]})
    with pytest.raises(UserError, match="no module of the model has that name; linear ones are down_proj, .*q_proj"):
        Start(command, given).trainer  # noqa: B018
