"""When a checkpoint is written: as a person chose, else so that little is lost and saving costs little; at signals.

Where nobody chose, one is due after a tenth of the run's updates and before ten minutes are lost, but not while saving
would take more than a tenth of the time. The first process looks at its clock, and all follow it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from transformers import TrainerCallback

from ftkit.training.agreement import agree
from ftkit.training.stopping import Signals

MOST_SECONDS_LOST = 600.0
TIMES_SAVING = 9  # a save takes at most a tenth of the time where nine times as long is trained before it
BYTES_PER_SECOND = 5e8  # a first guess at the speed of a disk, before the first save was timed


@dataclass
class Clock:
    """When the next save is due. interval: updates. update, moment: of the last save. save_seconds: it took."""

    interval: float
    update: int = 0
    moment: float = 0.0
    save_seconds: float = 0.0

    def is_due(self, update: int, now: float, update_seconds: float) -> bool:
        """Whether to save after `update`; update_seconds: about how long the next one takes."""
        seconds = now - self.moment
        if seconds < TIMES_SAVING * self.save_seconds:
            return False
        return update - self.update >= self.interval or seconds + update_seconds > MOST_SECONDS_LOST


class SavingCallback(TrainerCallback):
    """Has Trainer save when it is due, and ends the run after a save that a signal asked for.

    A save that falls on the last update of an epoch waits for what the epoch's end brings: a run that goes on from a
    checkpoint makes no evaluation or log line up for it. by_clock: whether nobody chose when to save. settle: waits
    until the newest checkpoint is whole.
    """

    def __init__(self, accelerator, signals: Signals, *, by_clock: bool, settle: Callable[[], None]):
        self.accelerator = accelerator
        self.settle = settle
        self.signals = signals
        self.by_clock = by_clock
        self.is_held = False

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        trained = sum(value.numel() * value.element_size() for value in model.parameters() if value.requires_grad)
        # where the best weights are chosen, evaluations come with saves of their own
        self.is_alone = self.by_clock and args.save_strategy == "steps" and not args.load_best_model_at_end
        interval = state.save_steps if self.is_alone else math.inf
        self.clock = Clock(interval, state.global_step, time.monotonic(), 3 * trained / BYTES_PER_SECOND)
        self.signals.update, self.signals.num_updates = state.global_step, state.max_steps
        if state.global_step:
            self.signals.checkpoint = f"checkpoint-{state.global_step}"

    def on_step_begin(self, args, state, control, **kwargs):
        self.signals.is_updating = True
        self.update_start = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        self.update_seconds = time.monotonic() - self.update_start
        self.signals.update = state.global_step
        if self.is_alone:
            control.should_save = state.global_step >= state.max_steps
        self.look(state, control)
        ends_epoch = float(state.epoch).is_integer() or control.should_training_stop
        if control.should_save and ends_epoch:
            control.should_save, self.is_held = False, True

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save |= self.is_held
        self.is_held = False

    def on_evaluate(self, args, state, control, **kwargs):
        if self.signals.is_updating:  # a signal or the ten minutes may have come in the meantime
            self.look(state, control)

    def look(self, state, control) -> None:
        """Set `should_save` where the clock or a signal of any process wants it."""
        now = time.monotonic()
        due = self.by_clock and self.clock.is_due(state.global_step, now, self.update_seconds)
        wanted = self.signals.stop or self.signals.save or (due and state.is_world_process_zero)
        control.should_save |= bool(agree(self.accelerator, bool(wanted))[0])

    def saved(self, state, seconds: float) -> None:
        """Note that a save has just ended, which took so long."""
        self.clock.update, self.clock.moment, self.clock.save_seconds = state.global_step, time.monotonic(), seconds
        self.signals.checkpoint = f"checkpoint-{state.global_step}"
        self.signals.save = False

    def on_save(self, args, state, control, **kwargs):
        self.end_if_asked()

    def on_train_end(self, args, state, control, **kwargs):
        self.signals.is_updating = False
        self.end_if_asked()

    def end_if_asked(self) -> None:
        """Raise Stopped in all processes if a signal came to one of them."""
        if number := agree(self.accelerator, self.signals.stop)[0]:
            self.settle()
            raise self.signals.stopped(number)
