"""Runs that meet faults of a disk, in forks of one process; WORK/outcomes.jsonl says what became of each.

    LD_PRELOAD=faults.so unshare -rm python tests/runs/disk_faults.py WORK '[["sft", "write", "run.yaml", "ENOSPC"], ...]'

A case [command, operation, path below OUT, errno] is a fault that `disk_faults.c` makes; [command, KiB] is a disk of
that size, which is full for what does not fit. Each is run, looked at, and run again by the same command with the fault
gone and room on the disk; then its losses, weights and files are compared with those of an undisturbed run.
"""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from endpoint_stand_in import EndpointStandIn
from kill_matrix import ROWS, make_inputs

from ftkit.config.jsonl import append_jsonl, write_jsonl
from ftkit.runs.killing import forget_garbage, fork, result_of
from ftkit.training.checkpoints import list_checkpoints, verify_checkpoint

TRAINING = """--use_cpu --bf16 false --disable_tqdm --learning_rate 1e-2 --logging_steps 1 --test_size 4
    --max_steps 6 --save_strategy steps --save_steps 2 --save_total_limit 2 --eval_strategy steps --eval_steps 3
    --per_device_train_batch_size 2""".split()
SAMPLES = "--num_samples 1 --sample_max_new_tokens 4".split()
NEW_MODEL = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --block_size 32".split()
TRAINERS = ("sft", "dpo", "pretrain", "classify")
TASK = """
version: 1
about: "made up"
kind: generation
metrics: [exact_match]
data: sft.jsonl
prompt: "{{ input }}"
target: "{{ output }}"
max_new_tokens: 4
"""
RESULTS = ("results.json", "judgements.jsonl", "report.md")
ROOM_KIB = 64 * 1024


class Cases:
    """Runs commands in forks of this process. work: folder for them; url: of a judge."""

    def __init__(self, work: Path, url: str):
        self.work, self.url = work, url
        self.disk = work / "disk"
        self.out = self.disk / "out"
        self.disk.mkdir(exist_ok=True)

    def argv(self, command: str) -> list[str]:
        """The command line."""
        model, rows = ["--model_name_or_path", str(self.work / "model")], str(self.work / f"{command}.jsonl")
        alpaca = ["--template", "alpaca"]
        flags = {
            "sft": [*model, *alpaca, "--use_peft", "--lora_r", "4", "--packing", "false"],
            "dpo": [*model, *alpaca, "--use_peft", "--lora_r", "4"],
            "pretrain": ["--tokenizer", str(self.work / "model"), *NEW_MODEL],
            "classify": model,
            "bench": [*model, *alpaca, "--tasks", str(self.work / "words.yaml"), "--dtype", "float32"],
            "judge": [f"mine={rows}", "--endpoint", self.url, "--model_name_or_path", "judge", "--concurrency", "1"],
        }[command]
        training = ["--dataset_name", rows, *TRAINING] if command in TRAINERS else []
        training += SAMPLES if command in ("sft", "dpo", "pretrain") else []
        return [command, *flags, *training, "--output_dir", str(self.out)]

    def start(self, command: str, fault: list | None = None) -> int:
        """Run a command in a fork; its exit status. fault: operation, path below OUT, name of the errno."""
        process = fork(lambda: self.run(command, fault), self.work / "log")
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def run(self, command: str, fault: list | None) -> int:
        """Run a command in this process, and note how often the fault was met."""
        from ftkit.cli import dispatch
        from ftkit.config.parser import run

        if fault:
            operation, path, name = fault
            library = ctypes.CDLL(os.environ["LD_PRELOAD"])
            library.set_fault(operation.encode(), f"{self.out}/{path}".encode(), getattr(errno, name))
        status = run(dispatch, self.argv(command))
        (self.work / "met").write_text(str(library.num_faults() if fault else 1))
        return status

    def mount(self, kib: int, *options: str) -> None:
        """Give the disk so many KiB, with what lies on it where `remount` is an option."""
        line = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={kib}k", *options]), "tmpfs", str(self.disk)]
        subprocess.run(line, check=True)

    def try_out(self, command: str, fault: list | int, expected: tuple) -> dict:
        """What became of a command that met a fault, or a disk of so many KiB."""
        (self.work / "met").write_text("0")
        if isinstance(fault, int):
            self.mount(fault)
        status = self.start(command, None if isinstance(fault, int) else fault)
        log = self.log()
        folders = list_checkpoints(self.out)
        found = {
            "met": int((self.work / "met").read_text()),
            "status": status,
            "line": log[-1] if log else "",
            "traceback": [line for line in log if line.startswith("Traceback")],
            "checkpoints": [folder.name for folder in folders],
            "invalid": [problem for folder in folders for problem in verify_checkpoint(folder)],
        }
        if isinstance(fault, int):
            self.mount(ROOM_KIB, "remount")
        found["again"] = self.start(command)
        found["differences"] = [] if found["again"] else differences(self.outcome(), expected)
        found["log"] = log[-12:] + self.log()[-12:]
        if isinstance(fault, int):
            subprocess.run(["umount", str(self.disk)], check=True)
        else:
            shutil.rmtree(self.out, ignore_errors=True)
        return found

    def reference(self, command: str) -> tuple:
        """The outcome of an undisturbed run in this process, where what it imports on its way stays for the forks."""
        if status := self.run(command, None):
            raise SystemExit(f"ftkit {command} ends with {status} without a fault")
        outcome = self.outcome()
        shutil.rmtree(self.out)
        forget_garbage()
        return outcome

    def outcome(self) -> tuple:
        """What a run left, to compare it by."""
        paths = sorted(
            path for name in RESULTS for path in self.out.rglob(name) if not (self.out / "run.yaml").exists()
        )
        return result_of(self.out), {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def log(self) -> list[str]:
        """The lines that the last run printed."""
        return (self.work / "log").read_text(encoding="utf-8", errors="replace").strip().split("\n")


def differences(found: tuple, expected: tuple) -> list[str]:
    """What two runs did not leave alike."""
    names = sorted(path for path in {**found[1], **expected[1]} if found[1].get(path) != expected[1].get(path))
    return [*found[0].differences(expected[0]), *names]


def get_ready(work: Path) -> None:
    """Write the inputs."""
    import torch

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # threads that were started before a fork are missing after it
    make_inputs(work)
    write_jsonl(work / "judge.jsonl", ({"prompt": row["input"], "prediction": "x"} for row in ROWS["sft"][:4]))
    (work / "words.yaml").write_text(TASK)


def main(work: str, cases: str) -> None:
    """Try out all cases."""
    listed = json.loads(cases)
    get_ready(Path(work))
    with EndpointStandIn() as server:
        server.behave = lambda number, body: "70"
        trials, expected = Cases(Path(work), server.url), {}
        for command, *fault in listed:
            if command not in expected:
                expected[command] = trials.reference(command)
            fault = fault[0] if isinstance(fault[0], int) else fault
            append_jsonl(Path(work) / "outcomes.jsonl", [trials.try_out(command, fault, expected[command])])


if __name__ == "__main__":
    main(*sys.argv[1:])
