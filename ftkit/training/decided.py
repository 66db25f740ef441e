"""What decisions rest on, and what they are: two frozen records that hold no rule."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ftkit.config.estimate import Shape
from ftkit.config.hardware import Hardware


@dataclass(frozen=True)
class Facts:
    """What decisions rest on, beside what was asked.

    shape: of the model. context: its longest input, None for any. lengths: tokens of each training row, of a stream's
    first rows, empty where text is cut into blocks. num_blocks: of such text, None for a stream. isolates: whether
    packed documents see nothing of each other under sdpa, and under document-by-document attention. gpu_attention: the
    fastest backend on this GPU that keeps them apart without a mask, None where there is none. num_test: held-out rows.
    held_out: tokens of each held-out row that can be asked, and of its answer. head_kernel: the faster kernel of
    the loss head on this GPU, None where it was not timed. mix: wanted and unwanted answers, where rows are such.
    """

    hardware: Hardware
    shape: Shape
    context: int | None = None
    lengths: Sequence[int] = ()
    is_stream: bool = False
    num_blocks: int | None = None
    num_test: int = 0
    held_out: Sequence[tuple[int, int]] = ()
    isolates: bool = True
    isolates_by_document: bool = True
    gpu_attention: str | None = None
    head_kernel: str | None = None
    mix: tuple[int, int] | None = None

    def digest(self) -> str:
        """SHA-256 of what is known of rows and model: other rows may need other decisions."""
        known = [dataclasses.asdict(self.shape), self.context, list(self.lengths), self.is_stream, self.num_blocks]
        return hashlib.sha256(json.dumps([*known, self.num_test, self.isolates], default=int).encode()).hexdigest()


@dataclass(frozen=True)
class Decided:
    """Every value of a run that was decided, by the names of the settings where there is one, and why.

    attention: the backend. loss_head: kernel of the LM head, "off" for the model's own loss. max_length: longest row.
    block_length: of packed rows or of text, None where rows stay apart. num_updates: about as many as there will be.
    num_parameters, peak_memory_gib: of the model as planned, and the estimate for a training step. checkpoint_bytes: of
    what is saved at once, at least. facts: the digest of those it rests on. saves_by_clock: whether it is saved when
    ten minutes have passed, and not too often (`ftkit.training.saving`). num_answered: held-out rows that are answered
    before and after. own: what one trainer alone decides, by the names of its settings.
    """

    use_cpu: bool
    bf16: bool
    dtype: str
    attention: str
    packing: bool
    eval_packing: bool
    max_length: int | None
    block_length: int | None
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    activation_checkpointing: bool
    fused_lora: bool
    loss_head: str
    learning_rate: float
    lr_scheduler_type: str
    lr_scheduler_kwargs: dict | None
    max_steps: int
    num_updates: int
    eval_strategy: str
    eval_on_start: bool
    logging_steps: float
    save_strategy: str
    save_steps: float
    save_total_limit: int | None
    load_best_model_at_end: bool
    metric_for_best_model: str | None
    greater_is_better: bool | None
    saves_by_clock: bool
    ddp_backend: str | None
    ddp_find_unused_parameters: bool | None
    num_parameters: int
    peak_memory_gib: float
    checkpoint_bytes: int
    facts: str
    num_answered: int = 0
    own: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def tokens_per_update(self) -> int | None:
        """Of packed rows, on one device."""
        blocks = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return self.block_length * blocks if self.block_length else None

    def trainer_settings(self, names: set[str]) -> dict[str, Any]:
        """The values that a trainer's configuration with fields `names` has a place for."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if name in names} | self.own
        on = self.loss_head != "off"
        values |= {"compact_loss_head": on, "loss_head_kernel": self.loss_head if on else "auto"}
        if "packing" in names:  # TRL packs to max_length; rows that are not packed have been cut already
            values["max_length"] = self.block_length if self.packing else None
        return {name: value for name, value in values.items() if name in names}
