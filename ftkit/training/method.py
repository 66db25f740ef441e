"""How one trainer makes its data ready and trains: a Method of functions, and the Run they share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel, Trainer

from ftkit.config.hardware import Hardware
from ftkit.config.settings.common import RunSettings
from ftkit.training.decided import Decided, Facts


@dataclass
class Run:
    """One run. settings: as asked. data: what the method's `prepare` gave. config: what the trainer takes.

    num_parameters, num_trained: of the model, None before it is loaded. num_sequences, num_updates: rows or
    blocks of a pass, and optimizer steps, as the trainer counts them once there is one. notes: what is decided again.
    """

    command: str
    settings: RunSettings
    decided: Decided
    hardware: Hardware
    data: Any
    config: Any
    num_updates: int
    num_parameters: int | None = None
    num_sequences: int | None = None
    num_trained: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def output_dir(self) -> str:
        """The run folder."""
        return self.config.output_dir


@dataclass(frozen=True)
class Method:
    """The parts of a trainer, in the order in which a run calls them; the last ones may be None.

    prepare(settings): data with `tokenizer`, `template`, `folder` of the model; before any weights are read.
    facts(settings, data, hardware): what decisions rest on.
    load(run): the model. build_trainer(run, model). receipt(run, trainer): what is trained on, for receipt.json.
    describe(run, receipt): lines of the plan about data and updates; receipt is None before weights are loaded.
    show(receipt, color): the receipt for a person, or None.
    questions(run): questions that are answered at each evaluation, and the function that answers, or None.
    finish(run, trainer): after training, before saving; what it returns is added to the receipt.
    next_command(run): what to run on the result.
    prove(run, trainer): in the first process, after saving; a line for a person. Raises UserError where the saved
    model is not the trained one.
    """

    prepare: Callable[[RunSettings], Any]
    facts: Callable[[RunSettings, Any, Hardware], Facts]
    load: Callable[[Run], PreTrainedModel]
    build_trainer: Callable[[Run, PreTrainedModel], Trainer]
    receipt: Callable[[Run, Trainer], dict]
    describe: Callable[[Run, dict | None], list[str]]
    show: Callable[..., str] | None = None
    questions: Callable[[Run], tuple[list[dict], Callable] | None] | None = None
    finish: Callable[[Run, Trainer], dict] | None = None
    next_command: Callable[[Run], str] | None = None
    prove: Callable[[Run, Trainer], str] | None = None


@dataclass(frozen=True)
class HeldOut:
    """How held-out rows are scored, one by one; left out where the weights are sharded.

    Both are called in all processes. before(run, trainer): before training, None for nothing; writes OUT/before*.
    after(run, trainer): writes OUT/results.json; lines for a person, none where nothing is held out.
    """

    after: Callable[[Run, Trainer], list[str]]
    before: Callable[[Run, Trainer], None] | None = None
