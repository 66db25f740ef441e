"""The settings that all trainers share, beside TRL's. What a person asked for stays as it was asked.

Import this only after the flags were checked (`ftkit.config.parser`): it imports TRL.
"""

import copy
import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trl import ModelConfig, ScriptArguments
from trl.trainer.base_config import _BaseConfig

from ftkit.config.errors import UserError
from ftkit.config.foreign import settings_that_libraries_take
from ftkit.config.launch import NO_DEEPSPEED
from ftkit.config.run_folder import RunRecord
from ftkit.config.settings.needs import Need, Needs, never, plain
from ftkit.config.settings.rates import ADAPTER, ALL_WEIGHTS, SOFT_PROMPT, Rates

UNRECORDED = {
    "hub_token",
    "resume_from_checkpoint",
    "plan",
    "hardware",
    "overwrite",
    "allow_changes",
}  # secrets, and what is about one start only


LORA_SETTINGS = (
    "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters", "lora_modules_to_save",
    "use_rslora", "use_dora",
)  # fmt: skip
PEFT_SETTINGS = (*LORA_SETTINGS, "peft_method", "num_virtual_tokens")
PUSH_SETTINGS = ("hub_model_id", "hub_token", "hub_private_repo", "hub_revision")
UNSCHEDULED = ("constant", "reduce_lr_on_plateau", "greedy")  # schedules without a warm-up


def setting(default, help, **metadata):
    """A dataclass field that the command line shows with its help."""
    return field(default=default, metadata={"help": help, **metadata})


def is_adam(asked) -> bool:
    """Whether the optimizer is one of Adam's family."""
    return any(name in plain(asked.training.optim) for name in ("adam", "ademamix", "apollo"))


@dataclass
class FileArguments(ScriptArguments):
    """How files of rows or text are read."""

    columns: str | None = setting(
        None, "Which columns of the rows are which, where they have other names: instruction=Question,output=Answer."
    )
    encoding: str | None = setting(None, "Encoding of text files that are not UTF-8, such as cp1252.")


@dataclass
class DataArguments(FileArguments):
    """Where the rows come from and how they become text."""

    needs = Needs([
        Need(("ignore_bias_buffers",), never, "has no effect in ftkit; drop it"),
        Need(("dataset_config",), lambda asked: not Path(asked.data.dataset_name).expanduser().exists(),
             "names a part of a Hub dataset, and the rows are local; drop it"),
    ])  # fmt: skip

    template: str = setting("auto", "Prompt template: a bundled name, a .jinja file, or auto (the tokenizer's own).")
    add_template_tokens: bool = setting(False, "Add the template's control tokens to the vocabulary and train them.")
    dataset_format: str = setting(
        "auto",
        "Row format.",
        choices=["auto", "alpaca", "prompt_completion", "messages", "sharegpt", "text"],
    )
    join_turns: bool = setting(False, "Join turns of the user that follow each other, in place of refusing them.")
    test_size: float | None = setting(
        None, "Share (below 1) or number of rows held out for evaluation when the data has no test split."
    )

    untrained_rows: str = setting(
        "refuse",
        "Rows of which no token is trained, such as those whose prompt fills --max_length.",
        choices=["refuse", "drop", "keep"],
    )
    max_truncated_share: float = setting(0.01, "Largest share of the rows that --max_length may cut; 1 allows any.")
    allow_untrained_end_of_turn: bool = setting(
        False, "Start though the end-of-turn token is never trained, so that the model will not learn to stop."
    )
    allow_empty_mask: bool = setting(False, "Start though no token of any row is trained.")

    def __post_init__(self):
        if not 0 <= self.max_truncated_share <= 1:
            raise UserError(f"--max_truncated_share is {self.max_truncated_share}; give a share from 0 to 1")
        if not self.dataset_name:
            raise UserError("--dataset_name is missing; give a file, a folder, a bundled name or a Hub id")
        if self.test_size is not None and self.test_size <= 0:
            raise UserError(f"--test_size is {self.test_size}; give a share such as 0.1 or a number of rows")


@dataclass
class ModelArguments(ModelConfig):
    """Which weights are trained, and how."""

    adapter: str | None = setting(
        None, "Go on training this LoRA adapter, the output folder of a run with --use_peft; its base is known."
    )
    ftgpt: bool = setting(False, "Load GPT-2, Llama or Qwen2 weights into FTGPT, ftkit's readable model.")
    dtype: str | None = setting(
        None,
        "Precision of the loaded weights. Default: bfloat16 for a frozen base where bf16 is fast, else float32.",
        choices=["auto", "bfloat16", "float16", "float32"],
    )
    peft_method: str = setting("lora", "What --use_peft trains.", choices=["lora", "prompt_tuning"])
    lora_target_modules: list[str] | None = field(
        default_factory=lambda: ["all-linear"],  # every linear layer but the head, as in the QLoRA paper (2305.14314)
        metadata={"help": "Modules that get a LoRA adapter."},
    )
    lora_dropout: float = setting(  # PEFT's default; TRL's 0.05 takes a fifth of a step on a CPU
        0.0, "Dropout in front of the LoRA matrices."
    )
    use_bnb_nested_quant: bool = setting(True, "Quantise the quantisation constants too (double quantisation).")
    num_virtual_tokens: int = setting(16, "Length of the soft prompt that prompt tuning trains, in tokens.")
    num_frozen_layers: int = setting(0, "Freeze the embeddings and this many first layers (full fine-tuning only).")

    model_is_required = True  # pretraining may start from scratch
    needs = Needs([
        Need(PEFT_SETTINGS, lambda asked: not asked.model.adapter,
             "with --adapter: the adapter has its own; drop one of them"),
        Need(PEFT_SETTINGS, lambda asked: asked.model.use_peft,
             "without --use_peft: all weights would be trained; add --use_peft, or drop it"),
        Need(LORA_SETTINGS, lambda asked: asked.model.peft_method == "lora",
             "belongs to LoRA, and --peft_method is a different one; drop one of them"),
        Need(("num_virtual_tokens",), lambda asked: asked.model.peft_method == "prompt_tuning",
             "is the length of a soft prompt; add --peft_method prompt_tuning, or drop it"),
        Need(("bnb_4bit_quant_type", "bnb_4bit_quant_storage", "use_bnb_nested_quant"),
             lambda asked: asked.model.load_in_4bit, "needs --load_in_4bit; add it, or drop this"),
        Need(("model_revision",), lambda asked: not Path(asked.model.model_name_or_path or ".").exists(),
             "names a version of a Hub model, and the model is a local one; drop it"),
        Need(("lora_task_type",), never, "follows from the command; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        if self.load_in_4bit and self.load_in_8bit:
            raise UserError("--load_in_4bit and --load_in_8bit are two ways to store the weights; give one of them")
        super().__post_init__()
        targets = self.lora_target_modules
        if isinstance(targets, str) and re.fullmatch(r"[\w.]+(,[\w.]+)+", targets):  # as other tools have a list
            self.lora_target_modules = targets.split(",")
        if self.adapter:
            self.use_peft = True
        if self.model_is_required and not self.model_name_or_path and not self.adapter:
            raise UserError("--model_name_or_path is missing; give a Hub id, a local folder or a .gguf file")
        if (self.load_in_4bit or self.load_in_8bit) and not self.use_peft:
            bits = 4 if self.load_in_4bit else 8
            raise UserError(
                f"--load_in_{bits}bit without a PEFT method: quantised weights can't be trained; add --use_peft"
            )
        if self.num_frozen_layers and self.use_peft:
            raise UserError("--num_frozen_layers with --use_peft: PEFT freezes the base already; drop one of them")


@dataclass
class TrainerArguments:
    """What ftkit's trainers share; stands left of a TRL configuration. None means "decide, and say why".

    An instance holds what was asked and is not changed; `configured` makes of it, with what was decided, the
    configuration that a trainer takes.
    """

    if TYPE_CHECKING:  # what the class right of it defines
        learning_rates: Rates = {}
        lr_scheduler_type: Any = None
        load_best_model_at_end: Any = None
        save_strategy: Any = None
        push_to_hub: bool = False
        logging_nan_inf_filter: bool = False

    plan: bool = setting(False, "Print what would be done and why, and stop before the weights are loaded.")
    hardware: str | None = setting(None, "With --plan: plan for another machine, such as h100-80gb, or a FILE.yaml.")
    overwrite: bool = setting(False, "Start over: remove the run that --output_dir holds.")
    allow_changes: str | None = setting(
        None, "Go on with a run though these settings, or what it rests on, have changed: NAME,..."
    )
    activation_checkpointing: bool | None = setting(
        None, "Recompute activations in backward to save memory. Default: only where memory asks for it."
    )
    gradient_checkpointing: bool | None = setting(None, "Former name of --activation_checkpointing.")
    compact_loss_head: bool | None = setting(
        None, "Score trained tokens only, in chunks. Default: on, off for pretraining with few logits."
    )
    loss_head_kernel: str = setting(
        "auto", "Kernel of the LM head: auto (on a GPU the faster one, timed).", choices=["auto", "compact", "trl"]
    )
    fused_lora: bool | None = setting(
        None, "Compute a LoRA layer as one function. Default: on where it is plain and on a CPU."
    )
    num_samples: int = setting(3, "Held-out questions answered at each evaluation.")
    sample_max_new_tokens: int = setting(64, "Longest sample answer, in tokens.")
    benchmark_tasks: str | None = setting(None, "Tasks of ftkit bench asked before and after, with a verdict: T,U.")
    benchmark_data: str | None = setting(None, "Rows of those tasks: TASK=PATH,...")
    benchmark_limit: int | None = setting(None, "Only this many items of each of them, or of each of its subjects.")

    needs = Needs([
        Need(("overwrite",), lambda asked: not asked.training.resume_from_checkpoint,
             "starts over and --resume_from_checkpoint goes on; drop one of them"),
        Need(("allow_changes",), lambda asked: not asked.training.overwrite,
             "is about a run that goes on, and --overwrite starts over; drop one of them"),
        Need(("hardware",), lambda asked: asked.training.plan, "plans for another machine; add --plan"),
        Need(("benchmark_data", "benchmark_limit"), lambda asked: asked.training.benchmark_tasks,
             "has no effect without --benchmark_tasks; name the tasks, or leave it out"),
        Need(("gradient_checkpointing",), lambda asked: asked.training.activation_checkpointing is None,
             "is the former name of --activation_checkpointing; drop one of them"),
        Need(("loss_head_kernel",), lambda asked: asked.training.compact_loss_head is not False,
             "without --compact_loss_head: the model's own loss has no such kernel; drop one of them"),
        Need(PUSH_SETTINGS, lambda asked: asked.training.push_to_hub, "needs --push_to_hub; add it, or drop this"),
        Need(("eval_steps",), lambda asked: plain(asked.training.eval_strategy) == "steps",
             "needs --eval_strategy steps; add it, or drop this"),
        Need(("save_steps",), lambda asked: plain(asked.training.save_strategy) == "steps",
             "needs --save_strategy steps; add it, or drop this"),
        Need(("save_total_limit",), lambda asked: plain(asked.training.save_strategy) != "no",
             "limits checkpoints, and --save_strategy no writes none; drop one of them"),
        Need(("logging_steps",), lambda asked: plain(asked.training.logging_strategy) == "steps",
             "needs --logging_strategy steps; add it, or drop this"),
        Need(("metric_for_best_model", "greater_is_better"), lambda asked: asked.training.looks_for_best,
             "chooses the best weights; add --load_best_model_at_end, or drop it"),
        Need(("warmup_steps",), lambda asked: plain(asked.training.lr_scheduler_type) not in UNSCHEDULED,
             "has no effect with this --lr_scheduler_type; use constant_with_warmup, or drop it"),
        Need(("optim_target_modules",), lambda asked: plain(asked.training.optim).startswith(("galore", "apollo")),
             "belongs to the optimizers galore_* and apollo_*; drop it"),
        Need(("adam_beta1", "adam_beta2"), lambda asked: is_adam(asked) or "lion" in plain(asked.training.optim),
             "has no effect with this --optim; drop it"),
        Need(("adam_epsilon",), is_adam, "has no effect with this --optim; drop it"),
        Need(("dataloader_prefetch_factor", "dataloader_persistent_workers", "dataloader_multiprocessing_context"),
             lambda asked: asked.training.dataloader_num_workers,
             "needs --dataloader_num_workers; add it, or drop this"),
        Need(("fsdp_config",), lambda asked: asked.training.fsdp, "needs --fsdp; add it, or drop this"),
        Need(("deepspeed",), never, NO_DEEPSPEED),
        Need(("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"),
             lambda asked: asked.training.activation_checkpointing is not False,
             "without --activation_checkpointing: nothing is recomputed; drop one of them"),
        Need(("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
             lambda asked: any(name in asked.training.report_to for name in ("trackio", "all")),
             "needs --report_to trackio; add it, or drop this"),
        Need(("include_for_metrics", "batch_eval_metrics"), never, "has no effect: ftkit measures by itself; drop it"),
        Need(("liger_kernel_config",), lambda asked: asked.training.use_liger_kernel,
             "needs --use_liger_kernel; add it, or drop this"),
        Need(("run_name",), lambda asked: asked.training.report_to not in ("none", ["none"], []),
             "names the run for --report_to; add it, or drop this"),
        Need(("num_train_epochs",), lambda asked: asked.training.max_steps <= 0, "--max_steps ends the run", False),
        Need(("hub_strategy", "hub_always_push"), never, "has no effect: ftkit pushes once, at the end; drop it"),
        Need(("logging_nan_inf_filter",), lambda asked: not asked.training.logging_nan_inf_filter,
             "would hide a loss that is not finite, which ends the run; drop it"),
        Need(("do_train", "do_eval", "do_predict"), never, "has no effect: see --eval_strategy; drop it"),
    ])  # fmt: skip

    def own_decisions(self, facts, reasons: dict) -> dict:
        """Settings of one trainer alone that nobody chose, by name; `reasons` takes why."""
        return {}

    def updates_per_pass(self, num_rows: int, rows_per_batch: int, accumulation: int) -> int:
        """Optimizer steps of a pass over the rows, counted as transformers' Trainer does."""
        return max(1, math.ceil(math.ceil(num_rows / rows_per_batch) / accumulation))

    @property
    def looks_for_best(self) -> bool:
        """Whether a measure decides anything: which weights are kept, or the learning rate."""
        watches = plain(self.lr_scheduler_type) == "reduce_lr_on_plateau" or plain(self.save_strategy) == "best"
        return bool(self.load_best_model_at_end or watches)

    def __post_init__(self):  # TRL's comes with `configured`: it overwrites, and looks at the device
        if not self.output_dir:
            raise UserError("--output_dir is missing; give the folder for the run, such as --output_dir runs/first")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{item.name} is {value}; give a number that is finite")
        if self.fp16 and self.bf16:
            raise UserError("--fp16 and --bf16 are two precisions; give one of them")

    def trained_part(self, model: ModelArguments) -> str:
        """What is trained, as `learning_rates` calls it."""
        if not model.use_peft:
            return ALL_WEIGHTS
        return SOFT_PROMPT if model.peft_method == "prompt_tuning" else ADAPTER

    def configured(self, decided: dict[str, Any]):
        """A copy with the values of `decided`, completed by TRL and transformers. Raises UserError if they refuse."""
        config = copy.copy(self)
        for name, value in decided.items():
            setattr(config, name, value)
        config.push_to_hub = False  # ftkit pushes once, by an allow-list; Trainer would push pickles
        config.logging_nan_inf_filter = False  # which would log the mean of earlier losses in place of NaN
        config.gradient_checkpointing = config.activation_checkpointing  # transformers of Python 3.10 know only this
        with settings_that_libraries_take():
            super(TrainerArguments, config).__post_init__()  # type: ignore[misc]
        return config


class RunSettings(NamedTuple):
    """All settings of a run, as they were asked.

    given: names of the settings the person set; the others are ftkit's to decide. on_line: those of them that came as
    flags. record: the run that --config names, if it is one.
    """

    data: ScriptArguments
    model: ModelArguments
    training: _BaseConfig
    given: frozenset[str]
    on_line: frozenset[str] = frozenset()
    record: RunRecord | None = None

    def asked(self) -> dict[str, Any]:
        """What the person set, as plain YAML values, secrets left out."""
        fields = {item.name: part for part in self[:3] for item in dataclasses.fields(part)}
        names = [name for name in fields if name in self.given and name not in UNRECORDED]
        values = {name: getattr(fields[name], name) for name in names}
        return {name: plain(value) for name, value in values.items()}
