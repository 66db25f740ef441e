"""The pieces of work of a bake-off, each in a process of its own: peak memory is then its own, and no crash ends the
others.

    with Workers() as work:
        work("make", asked, "lora")

One process imports the libraries and is forked for each piece. A GPU can't be shared with a fork: there each piece
has a fresh process.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import IO, cast

from ftkit.config.errors import LimitError, UserError
from ftkit.config.launch import has_accelerator, without_launcher
from ftkit.runs.bakeoff.asked import Asked

REFUSED, INTERRUPTED = 2, 130  # exit codes
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


class Refused(UserError):
    """What a contestant was given does not fit it: a reason that is listed."""


class Workers:
    """Does pieces of work, one after the other; stderr of their processes is shown."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __call__(self, job: str, asked: Asked, name: str) -> None:
        """Do it. job: make or ask; name: of the contestant.

        Raises Refused, with the line of the process, for what does not fit, and UserError for one that broke down.
        """
        if self.process is None or has_accelerator():
            self.close()
            self.process = started()
        given, answers = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)
        print(json.dumps([job, name, asked.as_json()]), file=given, flush=True)
        answer = answers.readline()
        status, line = json.loads(answer) if answer else (self.process.wait(), "")
        if status in (INTERRUPTED, -signal.SIGINT):
            raise KeyboardInterrupt
        if status == REFUSED:
            raise Refused(line)
        if status:
            how = f"was killed (signal {-status}; memory?)" if status < 0 else "broke down"
            raise UserError(f"{name}: its process {how}; the same command goes on with it, --skip {name} leaves it out")

    def close(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.communicate()
        self.process = None


def started() -> subprocess.Popen:
    """A process that takes work."""
    environment = without_launcher()
    paths = [str(Path(__file__).resolve().parents[3]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def do(job: str, asked: Asked, name: str) -> None:
    """Do a piece of work in this process."""
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.evaluation.bakeoff.contest import CONTESTANTS
    from ftkit.runs.bakeoff import asking, making

    quiet_libraries()
    use_all_cores()
    (making.make if job == "make" else asking.ask)(asked, CONTESTANTS[name])


def attempted(job: str, name: str, asked: str) -> tuple[int, str]:
    """Do a piece of work; exit code, and the line of a refusal."""
    try:
        do(job, Asked.from_json(asked), name)
    except (UserError, LimitError) as error:
        return REFUSED, " ".join(str(error).split())
    except KeyboardInterrupt:
        return INTERRUPTED, ""
    except BaseException:  # in a fork it must not reach what this process is a copy of
        traceback.print_exc()
        return 1, ""
    return 0, ""


def in_fork(job: str, name: str, asked: str) -> tuple[int, str]:
    """The same in a copy of this process."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        die_with_parent()
        status, line = attempted(job, name, asked)
        os.write(writer, line.encode())
        sys.stderr.flush()
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answer:
        line = answer.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), line


def die_with_parent() -> None:
    """Have this process killed when its parent ends, so that nobody writes where the next command goes on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


def main() -> None:
    """Do what each line of stdin says, and answer by a line."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    die_with_parent()
    attempt = attempted
    if not has_accelerator():
        from ftkit.runs.bakeoff import asking, making  # noqa: F401  (for the forks)
        from ftkit.runs.killing import get_ready

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C ends the fork
        get_ready(["sft"], use_cpu=False)
        attempt = in_fork
    for line in sys.stdin:
        print(json.dumps(attempt(*json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
