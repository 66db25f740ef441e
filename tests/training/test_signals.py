"""A signal at any moment of any trainer saves what there is to save; the resumed run is the uninterrupted one.

Run as a script, it is the harness: it imports the trainers once and forks a process for each run.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import ftkit

# Runs of 6 updates, 3 an epoch, saved after updates 4 and 6; held-out rows are scored and answered at 0, 3 and 6. A
# signal comes in an update, in the scoring or answering or saving after it, before the first update, or when the last
# checkpoint is whole.
TABLE = [  # trainer, moment, signal, exit code, newest checkpoint when the process ends
    ("sft", "before", "SIGTERM", 143, None),
    ("sft", "before", "SIGINT", 130, None),
    ("sft", "before", "SIGUSR1", 0, 6),
    ("sft", "before", "SIGINT twice", 130, None),
    ("sft", "scoring 0", "SIGTERM", 143, None),
    ("sft", "scoring 0", "SIGINT", 130, None),
    ("sft", "scoring 0", "SIGUSR1", 0, 6),
    ("sft", "scoring 0", "SIGINT twice", 130, None),
    ("sft", "update 2", "SIGTERM", 143, 2),
    ("sft", "update 2", "SIGINT", 130, 2),
    ("sft", "update 2", "SIGUSR1", 0, 6),
    ("sft", "update 2", "SIGINT twice", 130, None),
    ("sft", "update 3", "SIGTERM", 143, 3),
    ("sft", "update 3", "SIGINT", 130, 3),
    ("sft", "update 3", "SIGUSR1", 0, 6),
    ("sft", "update 3", "SIGINT twice", 130, None),
    ("sft", "scoring 3", "SIGTERM", 143, 3),
    ("sft", "scoring 3", "SIGINT", 130, 3),
    ("sft", "scoring 3", "SIGUSR1", 0, 6),
    ("sft", "scoring 3", "SIGINT twice", 130, None),
    ("sft", "answering 3", "SIGTERM", 143, 3),
    ("sft", "answering 3", "SIGINT", 130, 3),
    ("sft", "answering 3", "SIGUSR1", 0, 6),
    ("sft", "answering 3", "SIGINT twice", 130, None),
    ("sft", "saving 4", "SIGTERM", 143, 4),
    ("sft", "saving 4", "SIGINT", 130, 4),
    ("sft", "saving 4", "SIGUSR1", 0, 6),
    ("sft", "saving 4", "SIGINT twice", 130, None),
    ("sft", "update 5", "SIGTERM", 143, 5),
    ("sft", "update 5", "SIGINT", 130, 5),
    ("sft", "update 5", "SIGUSR1", 0, 6),
    ("sft", "update 5", "SIGINT twice", 130, 4),
    ("sft", "update 6", "SIGTERM", 143, 6),
    ("sft", "update 6", "SIGINT", 130, 6),
    ("sft", "update 6", "SIGUSR1", 0, 6),
    ("sft", "update 6", "SIGINT twice", 130, 4),
    ("sft", "after", "SIGTERM", 143, 6),
    ("sft", "after", "SIGINT", 130, 6),
    ("sft", "after", "SIGUSR1", 0, 6),
    ("sft", "after", "SIGINT twice", 130, 6),
    ("full", "update 3", "SIGTERM", 143, 3),
    ("full", "update 3", "SIGINT", 130, 3),
    ("full", "update 3", "SIGUSR1", 0, 6),
    ("full", "answering 3", "SIGTERM", 143, 3),
    ("full", "answering 3", "SIGINT", 130, 3),
    ("full", "answering 3", "SIGUSR1", 0, 6),
    ("full", "saving 4", "SIGTERM", 143, 4),
    ("full", "saving 4", "SIGINT", 130, 4),
    ("full", "saving 4", "SIGUSR1", 0, 6),
    ("full", "update 5", "SIGTERM", 143, 5),
    ("full", "update 5", "SIGINT", 130, 5),
    ("full", "update 5", "SIGUSR1", 0, 6),
    ("dpo", "before", "SIGTERM", 143, None),
    ("dpo", "before", "SIGINT", 130, None),
    ("dpo", "before", "SIGINT twice", 130, None),
    ("dpo", "update 2", "SIGTERM", 143, 2),
    ("dpo", "update 2", "SIGINT", 130, 2),
    ("dpo", "update 2", "SIGINT twice", 130, None),
    ("dpo", "update 3", "SIGTERM", 143, 3),
    ("dpo", "update 3", "SIGINT", 130, 3),
    ("dpo", "update 3", "SIGINT twice", 130, None),
    ("dpo", "scoring 3", "SIGTERM", 143, 3),
    ("dpo", "scoring 3", "SIGINT", 130, 3),
    ("dpo", "scoring 3", "SIGINT twice", 130, None),
    ("dpo", "saving 4", "SIGTERM", 143, 4),
    ("dpo", "saving 4", "SIGINT", 130, 4),
    ("dpo", "saving 4", "SIGINT twice", 130, None),
    ("classify", "update 2", "SIGTERM", 143, 2),
    ("classify", "update 2", "SIGUSR1", 0, 6),
    ("classify", "update 2", "SIGINT twice", 130, None),
    ("classify", "scoring 3", "SIGTERM", 143, 3),
    ("classify", "scoring 3", "SIGUSR1", 0, 6),
    ("classify", "scoring 3", "SIGINT twice", 130, None),
    ("classify", "saving 4", "SIGTERM", 143, 4),
    ("classify", "saving 4", "SIGUSR1", 0, 6),
    ("classify", "saving 4", "SIGINT twice", 130, None),
    ("classify", "update 6", "SIGTERM", 143, 6),
    ("classify", "update 6", "SIGUSR1", 0, 6),
    ("classify", "update 6", "SIGINT twice", 130, 4),
    ("pretrain", "update 1", "SIGTERM", 143, 1),
    ("pretrain", "update 1", "SIGINT", 130, 1),
    ("pretrain", "update 1", "SIGUSR1", 0, 6),
    ("pretrain", "update 3", "SIGTERM", 143, 3),
    ("pretrain", "update 3", "SIGINT", 130, 3),
    ("pretrain", "update 3", "SIGUSR1", 0, 6),
    ("pretrain", "scoring 3", "SIGTERM", 143, 3),
    ("pretrain", "scoring 3", "SIGINT", 130, 3),
    ("pretrain", "scoring 3", "SIGUSR1", 0, 6),
    ("pretrain", "answering 3", "SIGTERM", 143, 3),
    ("pretrain", "answering 3", "SIGINT", 130, 3),
    ("pretrain", "answering 3", "SIGUSR1", 0, 6),
    ("pretrain", "saving 4", "SIGTERM", 143, 4),
    ("pretrain", "saving 4", "SIGINT", 130, 4),
    ("pretrain", "saving 4", "SIGUSR1", 0, 6),
    ("pretrain", "after", "SIGTERM", 143, 6),
    ("pretrain", "after", "SIGINT", 130, 6),
    ("pretrain", "after", "SIGUSR1", 0, 6),
    ("kto", "update 2", "SIGTERM", 143, 2),
    ("kto", "saving 4", "SIGINT", 130, 4),
    ("grpo", "update 2", "SIGTERM", 143, 2),
    ("grpo", "update 3", "SIGUSR1", 0, 6),
    ("grpo", "saving 4", "SIGINT", 130, 4),
    ("ppo", "update 2", "SIGTERM", 143, 2),
    ("ppo", "update 3", "SIGUSR1", 0, 6),
    ("ppo", "saving 4", "SIGINT", 130, 4),
    ("reward", "update 2", "SIGTERM", 143, 2),
    ("reward", "scoring 3", "SIGUSR1", 0, 6),
    ("reward", "saving 4", "SIGINT", 130, 4),
    ("distill", "update 2", "SIGTERM", 143, 2),
    ("distill", "scoring 3", "SIGUSR1", 0, 6),
    ("distill", "saving 4", "SIGINT", 130, 4),
    ("own answers", "update 2", "SIGTERM", 143, 2),
    ("own answers", "update 3", "SIGUSR1", 0, 6),
    ("own answers", "saving 4", "SIGINT", 130, 4),
]
SAMPLE = (9, 14, 16, 27)  # of the table, by every run of the tests
COMMON = "--bf16 false --disable_tqdm --logging_steps 2 --save_strategy steps --save_steps 4 --seed 3"
SAMPLES = "--num_samples 1 --per_device_train_batch_size 4 --learning_rate 1e-2"
REWARDED = (
    "--template alpaca --rewards length:-1 --max_completion_length 6 --receipt_prompts 2 --start_anyway --max_steps 6 "
    "--eval_strategy steps --eval_steps 3 --test_size 2"
)
FLAGS = {
    "sft": "--template alpaca --use_peft --lora_r 2 --lora_dropout 0.2 --num_train_epochs 2 --test_size 2",
    "full": "--template alpaca --packing false --num_train_epochs 2 --test_size 2",
    "dpo": "--template alpaca --use_peft --lora_r 2 --lora_dropout 0.2 --num_train_epochs 2 --test_size 2",
    "classify": "--use_peft --lora_r 2 --lora_dropout 0.2 --num_train_epochs 2 --test_size 4",
    "pretrain": "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --dropout 0.2 --block_size 32 "
    "--max_steps 6 --eval_strategy steps --eval_steps 3 --test_size 2",
    "kto": "--template alpaca --use_peft --lora_r 2 --lora_dropout 0.2 --num_train_epochs 2 --test_size 2",
    "grpo": f"{REWARDED} --num_generations 2 --num_iterations 2 --gradient_accumulation_steps 1",
    "ppo": f"{REWARDED} --num_mini_batches 2 --num_ppo_epochs 2",
    "reward": "--template alpaca --use_peft --lora_r 2 --lora_dropout 0.2 --num_train_epochs 2 --test_size 2",
    "distill": "--template alpaca --use_peft --lora_r 2 --lora_dropout 0.2 --num_train_epochs 2 --test_size 2",
    "own answers": "--template alpaca --answers student --max_completion_length 6 --num_train_epochs 2 --test_size 2",
}
COMMANDS = {"full": "sft", "own answers": "distill"}  # of the trainers that are called otherwise


def name_of(point) -> str:
    """How a point of the table is called."""
    return " ".join(map(str, point[:3])).replace(" ", "-")


def run_harness(folder: Path, model: Path, points: list) -> dict[str, list[str]]:
    """What is wrong with each point, by its name."""
    (folder / "points.json").write_text(json.dumps(points))
    environment = {**os.environ, "PYTHONPATH": str(Path(ftkit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    environment["FTKIT_CACHE"] = str(folder / "cache")  # of what a teacher says
    command = [sys.executable, __file__, str(folder), str(model)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads((folder / "results.json").read_text())


@pytest.mark.processes
def test_a_sample_of_signals_saves_and_goes_on(tmp_path, tiny_folder):
    points = [TABLE[number] for number in SAMPLE]
    assert run_harness(tmp_path, tiny_folder, points) == {name_of(point): [] for point in points}


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_folder) -> dict[str, list[str]]:
    """Of the whole table."""
    return run_harness(tmp_path_factory.mktemp("signals"), tiny_folder, TABLE)


@pytest.mark.slow
@pytest.mark.parametrize("point", TABLE, ids=name_of)
def test_every_signal_saves_and_goes_on(point, results):
    assert results[name_of(point)] == []


class Harness:
    """Runs trainers in forked processes, each into a folder of its own."""

    def __init__(self, folder: Path, model: Path):
        self.folder, self.model = folder, model
        words = [first + second for first in ("ba", "co", "du", "fe") for second in "lmnp"]
        fewer = words[:14]
        rows = {
            "sft": [{"instruction": "Write in upper case.", "input": word, "output": word.upper()} for word in fewer],
            "dpo": [{"prompt": word, "chosen": word.upper(), "rejected": word} for word in fewer],
            "classify": [{"text": word, "label": ("ham", "spam")[at % 2]} for at, word in enumerate(words)],
            "pretrain": [{"text": f"{word} {word.upper()} " * 12} for word in words],
            "kto": [
                {"prompt": word, "completion": word.upper(), "label": at % 2 == 0} for at, word in enumerate(fewer)
            ],
            "grpo": [{"prompt": word} for word in words],
            "ppo": [{"prompt": word} for word in words],
        }
        rows |= {"reward": rows["dpo"], "distill": rows["sft"]}
        for name, some in rows.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
        make_teacher(model, folder / "teacher")

    def argv(self, trainer: str, out: Path) -> list[str]:
        """The command line."""
        rows = self.folder / f"{COMMANDS.get(trainer, trainer)}.jsonl"
        name = "--tokenizer" if trainer == "pretrain" else "--model_name_or_path"
        flags = [name, str(self.model), "--dataset_name", str(rows), "--output_dir", str(out)]
        if trainer not in ("classify", "reward"):
            flags += ["--sample_max_new_tokens", "3"]
        if COMMANDS.get(trainer, trainer) == "distill":
            flags += ["--teacher", str(self.folder / "teacher")]
        return [*flags, *FLAGS[trainer].split(), *COMMON.split(), *SAMPLES.split()]

    def run(self, trainer: str, out: Path, strike=None) -> tuple[int, str]:
        """A run's exit code and what it printed."""
        log = out.with_suffix(".log")
        process = os.fork()
        if process == 0:
            code = 99
            try:
                with log.open("w") as file:
                    for number in (1, 2):
                        os.dup2(file.fileno(), number)
                if strike:
                    arm(*strike)
                from ftkit.config.parser import run

                main = importlib.import_module(f"ftkit.{COMMANDS.get(trainer, trainer)}").main
                code = run(main, self.argv(trainer, out))
            except SystemExit as error:
                code = error.code
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
        status = os.waitpid(process, 0)[1]
        return os.waitstatus_to_exitcode(status), log.read_text()

    def problems(self, point, whole: dict) -> list[str]:
        """What is not as it should be when a point is run and the same command goes on."""
        from ftkit.training.checkpoints import list_checkpoints, verify_checkpoint

        trainer, moment, name, code, newest = point
        out = self.folder / name_of(point)
        found, text = self.run(trainer, out, (moment, name))
        checkpoints = list_checkpoints(out)
        problems = [f"{path.name}: {problem}" for path in checkpoints for problem in verify_checkpoint(path)]
        steps = [int(path.name.rpartition("-")[2]) for path in checkpoints]
        if found != code:
            problems.append(f"exit code {found}")
        if max(steps, default=None) != newest:
            problems.append(f"checkpoints {steps}")
        if name == "SIGUSR1" and moment.startswith("update") and int(moment.split()[1]) not in steps:
            problems.append(f"not saved, {steps}")
        if "Traceback" in text:
            problems.append("a traceback")
        if code and name != "SIGINT twice" and said(moment, newest) not in text:
            problems.append("the last line")
        if code and not problems:
            found, text = self.run(trainer, out)
            if found:
                problems.append(f"exit code {found} of the same command")
        if not problems:
            again = outcome(out)
            problems = [part for part in whole if again[part] != whole[part]]
            text = "\n".join(f"{part} {whole[part]}\n{again[part]}" for part in problems)
        shutil.rmtree(out, ignore_errors=True)
        return problems and [*problems, text]


def make_teacher(model: Path, folder: Path) -> None:
    """Write a model with other weights and the same tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)


def said(moment: str, newest: int | None) -> str:
    """What a run that was ended says last."""
    if newest is None:
        return "stopped before the first update; the same command starts again"
    return f"stopped at update {newest} of 6; checkpoint-{newest} is whole; the same command goes on"


def arm(moment: str, name: str) -> None:
    """Have this process send itself a signal at a moment, once."""
    from transformers import Trainer, TrainerCallback

    from ftkit.runs import lifecycle
    from ftkit.training import run_trainer
    from ftkit.training.callbacks import SampleCallback
    from ftkit.training.saving import SavingCallback

    kind, _, step = moment.partition(" ")
    owner, method = {
        "update": (run_trainer.RunMixin, "training_step"),
        "scoring": (SavingCallback, "on_prediction_step"),
        "answering": (SampleCallback, "on_evaluate"),
        "saving": (Trainer, "_save_optimizer_and_scheduler"),
        "before": (Trainer, "get_train_dataloader"),
        "after": (lifecycle, "close_run"),
    }[kind]
    original, struck = getattr(owner, method), []

    def striking(self, *args, **kwargs):
        if step:
            state = args[1] if isinstance(self, TrainerCallback) else self.state
            now = state.global_step + (kind == "update")
        if not struck and (not step or now == int(step)):
            struck.append(True)
            for _ in range(2 if name == "SIGINT twice" else 1):
                os.kill(os.getpid(), getattr(signal, name.split()[0]))
        return original(self, *args, **kwargs)

    setattr(owner, method, striking)


def outcome(out: Path) -> dict:
    """What two equal runs share: weights, the records of training and evaluation, samples."""
    import hashlib

    weights = next(path for path in sorted(out.glob("*.safetensors")))
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().split("\n") if line]
    for record in metrics:
        for key in [key for key in record if "second" in key or "memory" in key or key == "step_time"]:
            del record[key]
    return {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "metrics": metrics,
        "samples": (out / "samples.jsonl").read_text(),
    }


def main(folder: Path, model: Path) -> None:
    """Run the points in FOLDER/points.json, and write what is wrong with them."""
    import torch

    from ftkit.inference import fresh_scores

    fresh_scores.scores_in_fresh_process = fresh_scores.scores_here  # a new process spends ten seconds on its imports
    for name in ("sft", "dpo", "classify", "pretrain", "kto", "grpo", "ppo", "reward", "distill"):
        importlib.import_module(f"ftkit.training.methods.{name}")
        importlib.import_module(f"ftkit.config.settings.{name}")
    importlib.import_module("ftkit.runs.lifecycle")
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background it may be ignored
    points = json.loads((folder / "points.json").read_text())
    harness, whole, results = Harness(folder, model), {}, {}
    for trainer in dict.fromkeys(point[0] for point in points):  # in this process: what is imported late, too, is warm
        out = folder / f"whole-{trainer}"
        importlib.import_module(f"ftkit.{COMMANDS.get(trainer, trainer)}").main(harness.argv(trainer, out))
        whole[trainer] = outcome(out)
    for point in points:
        results[name_of(point)] = harness.problems(point, whole[point[0]])
        print(name_of(point), results[name_of(point)], file=sys.stderr, flush=True)
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
