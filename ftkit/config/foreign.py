"""Files that others made: whatever they make a library do is one line, and nothing takes for ever.

config = read_object(folder / "config.json", "save the model again")    # bounded in size and depth
with foreign(folder, "has no tokenizer that loads"):                    # any error of a library is one line
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
with within(8, f"{adapter}: fitting it to the model", "see its patterns"):  # bounded in time
    ...
tried(lambda: tokenizer(text), f"{folder}: its tokenizer", "take another")  # first in a process that may die
"""

import contextlib
import ctypes
import gc
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from ftkit.config.errors import LimitError, UserError, first_line

ASKS_FOR_TRUST = "trust_remote_code=True"  # in transformers' error where a folder's own code would be needed
PACKAGE = Path(__file__).resolve().parents[1]
RUST_PANIC = "PanicException"  # of a library in Rust; no Exception, and in no module to import
SETTING_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ImportError, FileNotFoundError, IsADirectoryError,
)  # fmt: skip
WATCH_SECONDS = 0.2  # between two looks at another thread's clock
TRIAL_CPU_SECONDS, TRIAL_WALL_SECONDS, TRIAL_BYTES = 2, 60, 2**30


@contextlib.contextmanager
def foreign(subject: str | Path, what: str, fix: str = "") -> Iterator[None]:
    """Inside, any error is a UserError `subject: what (reason); fix`, or says that code of its own would be needed.

    For calls of libraries on what a person was given: such files can make a library raise anything.
    """
    try:
        yield
    except (UserError, LimitError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        if ASKS_FOR_TRUST in str(error):
            raise UserError(
                f"{subject}: needs Python code of its own, which runs only with --trust_remote_code; read it first, or "
                "choose another model"
            ) from error
        raise UserError(f"{subject}: {what} ({first_line(error)})" + (f"; {fix}" if fix else "")) from error


@contextlib.contextmanager
def settings_that_libraries_take() -> Iterator[None]:
    """Inside, what a library raises on the settings it is given is a UserError with its reason.

    An error that ftkit's own code raises is ours, and goes through.
    """
    try:
        yield
    except SETTING_ERRORS as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        is_ours = frame is None or PACKAGE in Path(frame.tb_frame.f_code.co_filename).resolve().parents
        if isinstance(error, UserError) or is_ours:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"settings that a library does not take: {reason}") from error


def is_panic(error: BaseException) -> bool:
    """Whether a library that is written in Rust gave up."""
    return type(error).__name__ == RUST_PANIC


class TimeIsUp(BaseException):
    """Raised inside `within`; no Exception, so that no library takes it for a mistake of its own."""


@contextlib.contextmanager
def within(seconds: float, subject: str, fix: str) -> Iterator[None]:
    """Raise LimitError once the work inside took so much of the processor's time, wherever Python code runs in it.

    Without a limit on systems without such a timer.
    """
    is_main = threading.current_thread() is threading.main_thread()
    limited = limited_by_signal if is_main and hasattr(signal, "ITIMER_VIRTUAL") else limited_by_watching
    try:
        with limited(seconds):
            yield
    except TimeIsUp as error:
        raise LimitError(f"{subject} takes more than {seconds:g} seconds; {fix}") from error


@contextlib.contextmanager
def limited_by_signal(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the main thread after so much of its time."""

    def stop(*_) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGVTALRM, stop)
    outer = signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 1)  # again each second, should a library swallow it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *outer)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def limited_by_watching(seconds: float) -> Iterator[None]:
    """The same in any other thread, whose clock is looked at from one more."""
    if not hasattr(time, "pthread_getcpuclockid"):
        yield
        return
    worker, over, lock = threading.get_ident(), threading.Event(), threading.Lock()
    clock = time.pthread_getcpuclockid(worker)
    end = time.clock_gettime(clock) + seconds

    def raise_in_worker(error) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker), error)

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            with lock:
                if not over.is_set() and time.clock_gettime(clock) > end:
                    raise_in_worker(ctypes.py_object(TimeIsUp))

    def end_watch() -> None:
        with lock:
            over.set()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        try:
            end_watch()
        except TimeIsUp:  # in the last moment
            end_watch()
        raise_in_worker(None)


def tried(
    work: Callable[[], object], subject: str, fix: str, *, cpu_seconds: int = TRIAL_CPU_SECONDS,
    wall_seconds: float = TRIAL_WALL_SECONDS,
) -> None:  # fmt: skip
    """Do `work` once in a child process with limits of time and memory, before it is done here.

    Raises LimitError where it breaks them or the child dies. Other errors are not looked at: they come again here.
    Nothing is tried where processes can't be forked.
    """
    if not hasattr(os, "fork"):
        return
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other threads are gone in the child, which needs none of them
        child = os.fork()
    if not child:
        _work_in_child(work, writer, cpu_seconds)
    os.close(writer)
    try:
        ended, _, _ = select.select([reader], [], [], wall_seconds)
        said = os.read(reader, 1000).decode() if ended else ""
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not said:
        said = f"takes more than {cpu_seconds} seconds, or breaks down"
    if said != "done":
        raise LimitError(f"{subject} {said}; {fix}")


def _work_in_child(work: Callable[[], object], writer: int, cpu_seconds: int) -> None:
    """Do `work` silently within the limits, write how it ended, and end the process."""
    import resource

    said = "done"
    try:
        gc.disable()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        sys.stdout = sys.stderr = open(os.devnull, "w")
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if Path("/proc/self/statm").exists():
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + TRIAL_BYTES, used + TRIAL_BYTES))
        work()
    except (MemoryError, LimitError):
        said = f"needs more than {TRIAL_BYTES >> 30} GiB"
    except BaseException as error:
        said = f"breaks down ({first_line(error)})" if is_panic(error) else said
    finally:
        os.write(writer, said.encode()[:1000])
        os._exit(0)  # whatever happened: nothing of the parent's is to be cleaned up here
