"""Signals of a run: SIGTERM and SIGINT save at the next update and end it, SIGUSR1 saves and goes on.

Before the first update and after the last one a run ends at once: nothing is lost. So does it at a second SIGINT. The
exit code is 128 + the signal's number, as a shell has it. Put `@stoppable` on the function that is the run.
"""

import ctypes
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable

from ftkit.config.launch import is_first_process, is_lone_child_of_accelerate

SAVING = "SIGUSR1"
PR_SET_PDEATHSIG = 1  # of prctl(2)
HEARD = ("SIGTERM", "SIGINT", SAVING)  # by name: Windows has no SIGUSR1


class Stopped(SystemExit):
    """A signal ended the run. code: of the process. text: where it ended, and what goes on from there."""

    def __init__(self, number: int, text: str):
        super().__init__(128 + number)
        self.text = text


class Signals:
    """What signals ask of a run.

    stop: number of the signal that ends it, else 0. save: whether to save at the next update. is_updating: whether it
    is between its first update and its last, so that a stop waits until it is saved. update, num_updates, checkpoint:
    where the run is, and the newest checkpoint that is whole, None without one.
    """

    def __init__(self):
        self.process = os.getpid()
        self.stop = 0
        self.save = False
        self.is_updating = False
        self.update, self.num_updates = 0, 0
        self.checkpoint: str | None = None

    def receive(self, number: int, frame=None) -> None:
        """The handler. Raises Stopped where nothing needs to be saved, KeyboardInterrupt at a second SIGINT."""
        if os.getpid() != self.process:  # a forked worker, which the process that started it ends
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
        elif signal.Signals(number).name == SAVING:
            self.save = True
        elif number == self.stop == signal.SIGINT:
            raise KeyboardInterrupt
        elif not self.is_updating:
            self.stop = number
            raise self.stopped()
        elif not self.stop:
            self.stop = number
            self.acknowledge()

    def acknowledge(self) -> None:
        """Say that the signal was heard; the update may take a while."""
        if is_first_process():  # unbuffered: the signal may have come in the middle of a print
            again = "; once more ends it at once" if self.stop == signal.SIGINT else ""
            os.write(2, f"\n{signal.Signals(self.stop).name}: saving at the next update, then ending{again}\n".encode())

    def stopped(self, number: int | None = None) -> Stopped:
        """What ends the run here, by signal `number` or the one that came."""
        return Stopped(number or self.stop, self.place())

    def place(self) -> str:
        """Where the run ends, and what the same command does."""
        if self.checkpoint:
            where = f"stopped at update {self.update} of {self.num_updates}"
            return f"{where}; {self.checkpoint} is whole; the same command goes on"
        where = f"at update {self.update} of {self.num_updates}" if self.update else "before the first update"
        return f"stopped {where}; the same command starts again"


def current() -> Signals:
    """The signals that the run of this process listens to; without such a run, some that never come."""
    handlers = (signal.getsignal(number) for number in heard_signals())
    receivers = (getattr(handler, "__self__", None) for handler in handlers)
    return next((one for one in receivers if isinstance(one, Signals)), None) or Signals()


def heard_signals() -> list[signal.Signals]:
    """Those of HEARD that this system has and that the process was not started deaf to, as with nohup."""
    known = [one for one in signal.Signals if one.name in HEARD]
    return [one for one in known if signal.getsignal(one) is not signal.SIG_IGN]


def stoppable(run: Callable) -> Callable:
    """A run that listens to signals while it lasts; in the main thread only, as Python delivers them there."""

    @functools.wraps(run)
    def listening(*args, **kwargs):
        if threading.current_thread() is not threading.main_thread():
            return run(*args, **kwargs)
        if is_lone_child_of_accelerate():
            end_with_parent()
        signals = Signals()
        before = {number: signal.signal(number, signals.receive) for number in heard_signals()}
        try:
            return run(*args, **kwargs)
        except Stopped as stop:
            if is_first_process():
                print(stop.text, file=sys.stderr, flush=True)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    return listening


def end_with_parent() -> None:
    """Have this process get a SIGTERM when the one that started it ends: accelerate passes no signal on. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def with_deaf_workers(loader):
    """A DataLoader whose workers leave the signals of a whole process group to the process that reads from them."""
    start = functools.partial(start_worker, loader.worker_init_fn)
    loader.worker_init_fn = start  # from which accelerate makes the loader of a resumed epoch
    getattr(loader, "base_dataloader", loader).worker_init_fn = start  # inside accelerate's wrapper
    return loader


def start_worker(start: Callable | None, worker: int) -> None:
    """In a worker: hear no signal but a second SIGTERM, which is how it is ended; then `start`."""
    for number in heard_signals():
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    if start:
        start(worker)
