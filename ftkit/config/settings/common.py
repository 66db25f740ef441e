"""The settings ftkit adds to TRL's, and the defaults it takes from the hardware instead of from a constant.

Import this only after the flags were checked (`ftkit.config.parser`): it imports TRL.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from trl import DPOConfig, ModelConfig, ScriptArguments, SFTConfig

from ftkit.config.errors import UserError
from ftkit.config.hardware import probe
from ftkit.config.launch import default_ddp_backend, world_size

PLAIN_TYPES = (bool, int, float, str, list, dict)
UNRECORDED = {
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "hub_token", "resume_from_checkpoint", "ddp_backend",
    "ddp_find_unused_parameters", "include_num_input_tokens_seen",
}  # fmt: skip


def setting(default, help, **metadata):
    """A dataclass field that the command line shows with its help."""
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class DataArguments(ScriptArguments):
    """Where the rows come from and how they become text."""

    template: str = setting("auto", "Prompt template: a bundled name, a .jinja file, or auto (the tokenizer's own).")
    add_template_tokens: bool = setting(False, "Add the template's control tokens to the vocabulary and train them.")
    dataset_format: str = setting(
        "auto",
        "Row format.",
        choices=["auto", "alpaca", "prompt_completion", "messages", "sharegpt", "text"],
    )
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
class PreferenceDataArguments(DataArguments):
    """Rows with a chosen and a rejected answer."""

    dataset_format: str = setting("auto", "Row format.", choices=["auto", "alpaca", "prompt", "messages"])


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

    model_is_required = True  # pretraining may start from nothing

    def __post_init__(self):
        super().__post_init__()
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
        if (self.use_dora or self.use_rslora) and self.peft_method != "lora":
            raise UserError(f"--use_dora and --use_rslora belong to LoRA; --peft_method is {self.peft_method}")


@dataclass
class TrainerArguments:
    """What ftkit's trainers share; stands left of a TRL configuration. None means "decide, and say why"."""

    activation_checkpointing: bool | None = setting(
        None, "Recompute activations in backward to save memory. Default: on a GPU only."
    )
    gradient_checkpointing: bool | None = setting(None, "Former name of --activation_checkpointing.")
    compact_loss_head: bool = setting(
        True, "Score trained tokens only, in chunks. Default: on, off for pretraining with few logits."
    )
    loss_head_kernel: str = setting(
        "auto", "Kernel of the LM head: auto (on a GPU the faster one, timed).", choices=["auto", "compact", "trl"]
    )
    fused_lora: bool = setting(True, "Compute a LoRA layer as one function, where it is plain and on a CPU.")
    num_samples: int = setting(3, "Held-out questions answered at each evaluation.")
    sample_max_new_tokens: int = setting(64, "Longest sample answer, in tokens.")
    benchmark_tasks: str | None = setting(None, "Tasks of ftkit bench asked before and after, with a verdict: T,U.")
    benchmark_data: str | None = setting(None, "Rows of those tasks: TASK=PATH,...")
    benchmark_limit: int | None = setting(None, "Only so many items of each of them, or of each of its subjects.")

    def __post_init__(self):
        hardware = probe()
        if not self.output_dir:
            raise UserError("--output_dir is missing; give the folder for the run, such as --output_dir runs/first")
        self.use_cpu = self.use_cpu or hardware.device == "cpu"
        if self.bf16 is None:
            self.bf16 = hardware.bf16 and not self.fp16
        self.ddp_backend = self.ddp_backend or default_ddp_backend(self.use_cpu)
        if self.ddp_find_unused_parameters is None and world_size() > 1:
            self.ddp_find_unused_parameters = False  # every trained weight is used in every step
        self.pushes_result = self.push_to_hub  # ftkit pushes once, by an allow-list; Trainer would push pickles
        self.push_to_hub = False
        if self.activation_checkpointing is None and self.gradient_checkpointing is None:
            self.activation_checkpointing = not self.use_cpu
        if not hasattr(SFTConfig, "activation_checkpointing"):  # transformers for Python 3.10 know the former name only
            self.gradient_checkpointing = bool(self.activation_checkpointing or self.gradient_checkpointing)
            self.activation_checkpointing = self.gradient_checkpointing
        super().__post_init__()

    def hardware_reasons(self, given: Collection[str] = ()) -> dict[str, str]:
        """Why the hardware-dependent defaults are what they are, by setting; those that a person has given left out."""
        hardware = probe()
        reasons = {
            "bf16": f"bf16 runs at {hardware.bf16_speedup:.1f}x the speed of fp32 here",
            "activation_checkpointing": "time is scarcer than memory on a CPU"
            if self.use_cpu
            else "GPU memory is scarce",
        }
        return {name: reason for name, reason in reasons.items() if name not in given}


@dataclass
class SFTArguments(TrainerArguments, SFTConfig):
    """TRL's SFTConfig with defaults for the hardware at hand."""

    packing: bool | None = setting(None, "Put several rows into one sequence. Default: on where rows stay isolated.")
    learning_rate: float | None = setting(None, "Peak learning rate. Default: 2e-5 for all weights, 2e-4 with PEFT.")

    default_learning_rates = (2e-5, 2e-4)  # all weights, PEFT

    def __post_init__(self):
        if self.assistant_only_loss or self.completion_only_loss is not None:
            raise UserError(
                "ftkit always trains the answers and their end token only; drop --assistant_only_loss "
                "and --completion_only_loss"
            )
        if self.chat_template_path:
            raise UserError("--chat_template_path is TRL's; use --template NAME|FILE|auto")
        if self.packing and self.packing_strategy == "wrapped":
            raise UserError("--packing_strategy wrapped lets rows see each other; use bfd or bfd_split")
        super().__post_init__()


@dataclass
class DPOArguments(TrainerArguments, DPOConfig):
    """TRL's DPOConfig with defaults for the hardware at hand."""

    learning_rate: float | None = setting(None, "Peak learning rate. Default: 1e-6 for all weights, 1e-5 with PEFT.")

    default_learning_rates = (1e-6, 1e-5)  # all weights (TRL's default), PEFT

    def __post_init__(self):
        if self.truncation_mode != "keep_start":
            raise UserError(f"--truncation_mode {self.truncation_mode} would cut the prompt; use keep_start")
        super().__post_init__()


class RunSettings(NamedTuple):
    """All settings of a run. given: names of the settings the person set; the others are ftkit's to decide."""

    data: DataArguments
    model: ModelArguments
    training: SFTArguments | DPOArguments
    given: set[str]


def changed_settings(*arguments) -> dict:
    """Settings that differ from their defaults, as plain YAML values, for run.yaml.

    Objects that TRL builds out of a setting, deprecated names that mirror another setting, and secrets are left out.
    """
    changed = {}
    for instance in arguments:
        for item in dataclasses.fields(instance):
            default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
            value = getattr(instance, item.name)
            value = getattr(value, "value", value)  # an enum's
            is_default = value == default or [value] == default  # TRL unpacks lists of one
            if item.init and not is_default and item.name not in UNRECORDED and isinstance(value, PLAIN_TYPES):
                changed[item.name] = value
    return changed
