"""A fault of the disk, whenever it comes, is one line and exit code 2, and the same command goes on once it is gone.

Two tables: faults of one file that `disk_faults.c` makes below Python, C++ and Rust; and real disks that are too small.
A few cases are tried with -m processes, all others with -m slow.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ftkit.config.jsonl import read_jsonl

HERE = Path(__file__).parent
FAULTS = """
sft       open    .ftkit/lock                                      EROFS
sft       write   .ftkit/lock                                      ENOSPC
sft       write   .ftkit/.run.json.*                               ENOSPC
sft       rename  .ftkit/run.json                                  EIO
sft       write   .run.yaml.*                                      ENOSPC
sft       rename  run.yaml                                         EROFS
sft       write   .receipt.json.*                                  ENOSPC
sft       write   .template.lock.json.*                            EDQUOT
sft       write   .base.json.*                                     EIO
sft       open    metrics.jsonl                                    EROFS
sft       write   metrics.jsonl                                    ENOSPC
sft       write   samples.jsonl                                    ENOSPC
sft       mkdir   .staging/checkpoint-4                            ENOSPC
sft       open    .staging/checkpoint-4/.tmp*                      EROFS
sft       write   .staging/checkpoint-4/.tmp*                      ENOSPC
sft       write   .staging/checkpoint-4/adapter_config.json        EIO
sft       write   .staging/checkpoint-4/tokenizer.json             ENOSPC
sft       write   .staging/checkpoint-4/.template.lock.json.*      EIO
sft       open    .staging/checkpoint-4/optimizer.pt               EROFS
sft       write   .staging/checkpoint-4/optimizer.pt               EIO
sft       write   .staging/checkpoint-4/scheduler.pt               EIO
sft       write   .staging/checkpoint-4/rng_state.pth              EIO
sft       write   .staging/checkpoint-4/trainer_state.json         ENOSPC
sft       write   .staging/checkpoint-4/*manifest.json*            ENOSPC
sft       sync    .staging/checkpoint-4/adapter_model.safetensors  EIO
sft       sync    .staging/checkpoint-4                            EIO
sft       rename  checkpoint-4                                     ENOSPC
sft       rename  .deleting-checkpoint-2                           EIO
sft       remove  .deleting-checkpoint-2/*                         EIO
sft       write   .staging/model/.tmp*                             ENOSPC
sft       write   .staging/model/tokenizer.json                    ENOSPC
sft       rename  adapter_model.safetensors                        EIO
sft       write   .results.json.*                                  ENOSPC
sft       write   .golden.json.*                                   ENOSPC
sft       write   .loss.png.*                                      ENOSPC
sft       write   .report.html.*                                   ENOSPC
sft       write   .README.md.*                                     ENOSPC
dpo       write   .receipt.json.*                                  EROFS
dpo       write   metrics.jsonl                                    EIO
dpo       write   .staging/checkpoint-4/.tmp*                      ENOSPC
dpo       write   .staging/checkpoint-4/optimizer.pt               EIO
dpo       rename  report.html                                      EROFS
pretrain  write   .run.yaml.*                                      EDQUOT
pretrain  write   .staging/checkpoint-4/.tmp*                      EIO
pretrain  rename  checkpoint-4                                     EROFS
pretrain  write   .staging/model/.tmp*                             EIO
pretrain  rename  model.safetensors                                ENOSPC
classify  write   .staging/checkpoint-4/.tmp*                      ENOSPC
classify  write   .staging/checkpoint-4/trainer_state.json         EIO
classify  write   .evaluation.json.*                               ENOSPC
classify  write   .results.json.*                                  ENOSPC
bench     write   .bench.json.*                                    ENOSPC
bench     write   items/*.jsonl                                    ENOSPC
bench     rename  results.json                                     EIO
bench     write   .times.json.*                                    EROFS
bench     write   .report.html.*                                   ENOSPC
judge     write   .judge.json.*                                    ENOSPC
judge     write   judgements.jsonl                                 EIO
judge     write   mine/.results.json.*                             ENOSPC
"""
FULL = """
sft       8
sft       24
sft       48
sft       100
sft       160
sft       240
sft       320
pretrain  60
pretrain  120
classify  400
bench     4
bench     12
"""
CASES = [tuple(line.split()) for line in (FAULTS + FULL).split("\n") if line]
EACH_TIME = {
    ("sft", "write", ".run.yaml.*", "ENOSPC"), ("sft", "write", ".staging/checkpoint-4/optimizer.pt", "EIO"),
    ("sft", "240"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcome(request, tmp_path_factory):
    """What became of each case that is tried now: a function of the case."""
    work = tmp_path_factory.mktemp("faults")
    asked = [item.callspec.params["case"] for item in request.session.items if is_here(item)]
    library, may_mount = compiled(work), mounts()
    tried = [case for case in asked if (may_mount if len(case) == 2 else library)]
    listed = [[case[0], int(case[1])] if len(case) == 2 else list(case) for case in tried]
    line = [*(["unshare", "-rm"] if may_mount else []), sys.executable, str(HERE / "disk_faults.py"), str(work)]
    paths = (HERE.parents[1], HERE.parent / "benchmarks", HERE.parent / "evaluation")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    if library:
        environment["LD_PRELOAD"] = str(library)
    done = subprocess.run([*line, json.dumps(listed)], capture_output=True, text=True, env=environment)
    found = dict(zip(tried, read_jsonl(work / "outcomes.jsonl"), strict=False))

    def of(case: tuple) -> dict:
        if case not in tried:
            pytest.skip("needs a C compiler, or the right to mount")
        assert case in found, done.stderr[-3000:]
        return found[case]

    return of


def is_here(item) -> bool:
    """Whether a test is one of this table."""
    return item.path == Path(__file__) and "case" in getattr(getattr(item, "callspec", None), "params", {})


def compiled(work: Path) -> Path | None:
    """The library that makes faults; None without a C compiler for this system."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or not compiler:
        return None
    line = [compiler, "-shared", "-fPIC", "-O1", "-o", str(work / "faults.so"), str(HERE / "disk_faults.c"), "-ldl"]
    return work / "faults.so" if subprocess.run(line, capture_output=True).returncode == 0 else None


def mounts() -> bool:
    """Whether this user may mount a disk in a name space of its own."""
    line = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(line, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.processes if case in EACH_TIME else pytest.mark.slow, id="-".join(case))
        for case in CASES
    ],
)
def test_a_fault_of_the_disk_is_one_line_and_the_same_command_goes_on(case, outcome):
    found = outcome(case)
    log = "\n".join(found["log"])
    assert found["met"] and found["status"] == 2 and not found["traceback"], log
    number = errno.ENOSPC if len(case) == 2 else getattr(errno, case[3])
    assert os.strerror(number) in found["line"] or len(case) == 2 and " free; " in found["line"], log
    assert "/disk/out" in found["line"] and "; " in found["line"], log
    assert not found["invalid"], found["invalid"]
    if "checkpoint-4" in "".join(case):
        assert found["checkpoints"][0] == "checkpoint-2"
    assert found["again"] == 0 and not found["differences"], (found["differences"], log)


def test_the_table_holds_what_it_promises():
    faults = [case for case in CASES if len(case) == 4]
    assert len(faults) == len(set(faults)) >= 45 and EACH_TIME <= set(CASES)
    assert {case[3] for case in faults} == {"ENOSPC", "EIO", "EROFS", "EDQUOT"}
