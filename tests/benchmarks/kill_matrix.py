"""Kills runs at file-system events and steps, gives the same command again, and compares losses and weights bit for bit.

    python tests/benchmarks/kill_matrix.py --work kills

Points are spread evenly over all moments of each configuration's run (`ftkit.runs.killing`), some of them killed a
second time while they go on. Each is added to WORK/points.jsonl and to RESULTS.md as soon as it is known, and a matrix
that was itself stopped goes on where it was. `--sample 20 --seed 7` tries that many points, chosen at random.

With a C compiler the moments are system calls (kill_at_call.c): also those of safetensors, tokenizers and torch, and a
write is killed half-way. Without one, or with `--python_events`, they are the events that Python announces.
"""

import argparse
import ctypes
import dataclasses
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import measuring

from ftkit.config.jsonl import append_jsonl, read_jsonl, write_jsonl
from ftkit.inference import fresh_scores
from ftkit.runs.killing import Expected, Moments, Point, Trial, forget_garbage, fork, get_ready, step_callback

WORDS = [f"{first}{second}" for first in ("ba", "co", "du", "fe") for second in "lmnprt"]
ROWS = {
    "sft": [{"instruction": "Write in upper case.", "input": word, "output": word.upper()} for word in WORDS],
    "dpo": [{"prompt": word, "chosen": word.upper(), "rejected": word} for word in WORDS],
    "reward": [{"prompt": word, "chosen": word.upper(), "rejected": word} for word in WORDS],
    "classify": [{"text": f"{word} {word}", "label": ("ham", "spam")[i % 2]} for i, word in enumerate(WORDS)],
    "pretrain": [{"text": f"{word} {word.upper()} " * 12} for word in WORDS],
    "kto": [{"prompt": word, "completion": word.upper(), "label": i % 2 == 0} for i, word in enumerate(WORDS)],
    "grpo": [{"prompt": word} for word in WORDS],
    "ppo": [{"prompt": word} for word in WORDS],
}
ROWS["distill"] = ROWS["sft"]
EVERYWHERE = """--use_cpu --bf16 false --disable_tqdm --learning_rate 1e-2 --logging_steps 1 --test_size 4
    --num_samples 1""".split()
STEPS = """--max_steps 8 --save_strategy steps --save_steps 3 --eval_strategy steps --eval_steps 4
    --sample_max_new_tokens 4""".split()
ALPACA, LORA = ["--template", "alpaca"], "--use_peft --lora_r 4 --lora_dropout 0.1".split()
REWARDED = "--rewards length:-1 --max_completion_length 6 --receipt_prompts 2 --start_anyway".split()
BATCH = ["--per_device_train_batch_size", "2"]
SFT = [*STEPS, *ALPACA, *BATCH]
CONFIGURATIONS = {  # name: (command, flags)
    "sft LoRA": ("sft", [*SFT, *LORA, "--packing", "false"]),
    "sft all weights": ("sft", [*SFT, *"--packing false --gradient_accumulation_steps 2 --save_total_limit 1".split()]),
    "sft QLoRA": ("sft", [*SFT, *LORA, "--packing", "false", "--load_in_4bit"]),
    "sft packed": ("sft", [*SFT, "--packing", "true", "--max_length", "256"]),
    "sft streaming": ("sft", [*SFT, *LORA, "--packing", "false", "--dataset_streaming"]),
    "dpo": ("dpo", [*STEPS, *ALPACA, *LORA, *BATCH]),
    "reward": ("reward", [*STEPS[:-2], *ALPACA, *LORA, *BATCH]),
    "kto": ("kto", [*STEPS, *ALPACA, *LORA, *BATCH]),
    "grpo": (
        "grpo",
        [*STEPS, *ALPACA, *REWARDED, *"--num_generations 2 --num_iterations 2 --gradient_accumulation_steps 1".split()],
    ),
    "ppo": ("ppo", [*STEPS, *ALPACA, *REWARDED, *"--num_mini_batches 2 --num_ppo_epochs 2".split(), *BATCH]),
    "distill": ("distill", [*STEPS, *ALPACA, *LORA, *BATCH]),
    "distill own answers": (
        "distill", [*STEPS, *ALPACA, *BATCH, *"--answers student --max_completion_length 6".split()],
    ),
    "pretrain": ("pretrain", [*STEPS, *"--block_size 32 --dropout 0.1 --per_device_train_batch_size 4".split()]),
    "classify": ("classify", "--early_stopping_patience 2 --num_train_epochs 3 --per_device_train_batch_size 8".split()),
    "sft two processes": ("sft", [*SFT, *LORA, "--packing", "false"]),
}  # fmt: skip
NEW_MODEL = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2".split()
POINTS, SECOND_KILLS = 48, 10  # of each configuration, and how many of them are killed twice
SAMPLED_CONFIGURATIONS = 5  # of --sample: each costs a warm-up and a run without a kill
TITLE = "runs that are killed and go on"
SECONDS_TO_END = 5  # that the other process has when one was killed


class CallMoments(Moments):
    """Moments of kill_at_call.c, which this process was started with."""

    def start(self) -> None:
        from transformers import trainer

        trainer.DEFAULT_CALLBACKS.append(step_callback(self))
        library = ctypes.CDLL(None)
        library.kill_at_call_arm(os.fsencode(self.folder), ctypes.c_long(self.kill_at), self.record)

    def reach(self, name: str) -> None:
        ctypes.CDLL(None).kill_at_call_reach(name.encode())


def sees_calls() -> bool:
    """Whether this process was started with kill_at_call.c."""
    return hasattr(ctypes.CDLL(None), "kill_at_call_arm")


def start_again(work: Path) -> None:
    """Compile kill_at_call.c and start this command again with it; nothing without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return
    library = work / "kill_at_call.so"
    source = Path(__file__).with_name("kill_at_call.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": str(library)})


class TwoProcesses(Trial):
    """A Trial of two processes, as torchrun starts them. Moments of the second are numbered after those of the first."""

    num_of_first = 0  # moments of the first process

    def start(self, kill_at: int) -> int:
        in_second = kill_at > self.num_of_first > 0
        kills = (0, kill_at - self.num_of_first) if in_second else (kill_at, 0)
        port = free_port()
        processes = [
            fork(lambda rank=rank: self.run_rank(rank, kills[rank], port), self.work / f"log{rank}") for rank in (0, 1)
        ]
        status = end_both(processes)
        for name in ("moments", "log"):
            parts = [(self.work / f"{name}{rank}").read_text(errors="replace") for rank in (0, 1)]
            whole = parts[in_second] if status == -signal.SIGKILL and name == "moments" else "".join(parts)
            (self.work / name).write_text(whole)
        return status

    def reference(self) -> Expected:
        expected = super().reference()
        self.num_of_first = (self.work / "moments0").read_text().count("\n")
        return expected

    def run_rank(self, rank: int, kill_at: int, port: int) -> int:
        """Be one of the two processes."""
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)  # of the run in the process that this one was forked from
        world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        os.environ.update({name: str(value) for name, value in (world | {"RANK": rank, "LOCAL_RANK": rank}).items()})
        return self.run(kill_at, self.work / f"moments{rank}")


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def end_both(processes: list[int]) -> int:
    """Wait for two processes; when one fails, end the other as torchrun does. The status of the first that failed."""
    ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    (other,) = set(processes) - {ended}
    if code == 0:
        return os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
    os.kill(other, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_END
    while os.waitpid(other, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)
            break
        time.sleep(0.02)
    return code


def make_inputs(work: Path) -> None:
    """Write the rows of all trainers, a tiny model and a teacher."""
    if (work / "model/tokenizer_config.json").is_file():
        return
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    for name, rows in ROWS.items():
        write_jsonl(work / f"{name}.jsonl", rows)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    letters, special = pre_tokenizers.ByteLevel.alphabet(), ["<eos>", "<pad>"]
    backend.train_from_iterator(
        WORDS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=letters)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>")
    torch.manual_seed(measuring.SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=0, pad_token_id=1,
        bos_token_id=None, initializer_range=0.2,
    )  # fmt: skip
    for name in ("teacher", "model"):
        LlamaForCausalLM(config).save_pretrained(work / name)
        tokenizer.save_pretrained(work / name)


def trial_of(name: str, work: Path) -> Trial:
    """The Trial of a configuration."""
    command, flags = CONFIGURATIONS[name]
    model = ["--model_name_or_path", str(work / "model")]
    if command == "pretrain":
        model = ["--tokenizer", str(work / "model"), *NEW_MODEL]
    if command == "distill":
        model += ["--teacher", str(work / "teacher")]
    kind = TwoProcesses if name.endswith("two processes") else Trial
    folder = work / name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    trial = kind(command, (*model, "--dataset_name", str(work / f"{command}.jsonl"), *EVERYWHERE, *flags), folder)
    trial.watcher = CallMoments if sees_calls() else Moments
    return trial


def warm_up(trial: Trial) -> None:
    """Run the command in this process, where what it imports on its way stays for the forks."""
    from ftkit.config.parser import run
    from ftkit.runs.recipes import load_recipe

    shutil.rmtree(trial.folder, ignore_errors=True)
    if status := run(load_recipe(trial.command).main, trial.argv):
        raise SystemExit(f"ftkit {' '.join([trial.command, *trial.argv])} ends with {status} without a kill")
    forget_garbage()


def kills_of(name: str, num_moments: int, num_points: int) -> list[list[int]]:
    """Numbers of the moments of each point: evenly over the run, some with a second kill among what is left to do."""
    every = max(1, round(POINTS / SECOND_KILLS))
    generator, kills = random.Random(name), []
    for point in range(num_points):
        number = 1 + point * num_moments // num_points
        second = [generator.randint(1, 1 + num_moments - number)] if point % every == every // 2 else []
        kills.append([number, *second])
    return kills


def try_points(name: str, trial: Trial, chosen, known: list[dict], done) -> None:
    """Try the points of a configuration that are not known yet; done(record) takes each."""
    warm_up(trial)
    expected = trial.reference()
    for numbers in chosen(name, len(expected.moments)):
        if any(record["configuration"] == name and record["numbers"] == numbers for record in known):
            continue
        point = trial.kill(expected, numbers)
        done({"configuration": name, "moments": len(expected.moments), **dataclasses.asdict(point)})
        print(line_of(name, point), file=sys.stderr, flush=True)


def line_of(name: str, point: Point) -> str:
    """A point for a person, with what went wrong."""
    found = "as if never killed" if point.is_right else f"WRONG: {point.invalid or point.differences or point.status}"
    return f"{name}, killed at {' and at '.join(point.at)}: {found} ({point.seconds:.1f} s)\n{point.log}".rstrip()


def section(records: list[dict]) -> str:
    """What RESULTS.md says of the points so far."""
    header = ["configuration", "moments", "points", "killed twice", "invalid visible checkpoints",
              "the same command went on", "same losses and weights", "s per point"]  # fmt: skip
    rows = []
    for name in [*CONFIGURATIONS, "all"]:
        of_it = [record for record in records if name in (record["configuration"], "all")]
        if not of_it:
            continue
        went_on = [record for record in of_it if record["status"] == 0]
        moments = {record["configuration"]: record["moments"] for record in of_it}
        rows.append([
            name, sum(moments.values()), len(of_it), sum(len(record["at"]) > 1 for record in of_it),
            sum(bool(record["invalid"]) for record in of_it), len(went_on),
            sum(not record["differences"] for record in went_on),
            measuring.spread([record["seconds"] for record in of_it], digits=1),
        ])  # fmt: skip
    minutes = sum(record["seconds"] for record in records) / 60
    return (
        "    python tests/benchmarks/kill_matrix.py --work kills\n\n"
        "A point is a kill -9 at a moment of the run (a system call that opens for writing, writes half of its bytes,\n"
        "syncs, renames, makes or removes something below OUT; the gradients of a step are there; a step has ended),\n"
        "every visible checkpoint verified, the same command given again, and its metrics.jsonl, samples.jsonl, weights\n"
        f"and names of files compared with those of a run that nobody killed. Tiny models, one thread, {minutes:.0f} minutes in all.\n\n"
        + measuring.table(header, rows)
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs and points.jsonl; goes on there")
    parser.add_argument("--points", type=int, default=POINTS, help="points of each configuration")
    parser.add_argument("--only", help=f"configurations, separated by commas: {', '.join(CONFIGURATIONS)}")
    parser.add_argument("--sample", type=int, help="only this many points of all, at random; RESULTS.md stays as it is")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes, one core each")
    parser.add_argument("--python_events", action="store_true", help="kill at what Python announces alone")
    parser.add_argument("--seed", type=int, default=measuring.SEED, help="of --sample")
    parser.add_argument("--output", type=Path, default=measuring.RESULTS, help="the file whose section is replaced")
    args = parser.parse_args()
    if unknown := set(args.only.split(",") if args.only else ()) - CONFIGURATIONS.keys():
        parser.error(f"no such configuration: {', '.join(unknown)}; known are {', '.join(CONFIGURATIONS)}")
    return args


def main() -> int:
    args = parse()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if not (args.python_events or sees_calls()):
        start_again(work)
    names = args.only.split(",") if args.only else list(CONFIGURATIONS)
    os.environ["FTKIT_CACHE"] = str(work / "cache")  # of what a teacher says
    fresh_scores.scores_in_fresh_process = fresh_scores.scores_here  # a new process spends ten seconds on its imports
    get_ready({CONFIGURATIONS[name][0] for name in names}, use_cpu=True)
    make_inputs(work)
    path = work / "points.jsonl"

    def done(record: dict) -> None:
        with (work / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            append_jsonl(path, [record])
            if not args.sample:
                measuring.write_section("kills", TITLE, section(read_jsonl(path)), args.output)

    def chosen(name: str, num_moments: int) -> list[list[int]]:
        return kills_of(name, num_moments, args.points)

    if args.sample:
        names, chosen = sample(args.sample, args.seed, names)

    def try_all(names: list[str]) -> None:
        for name in names:
            try_points(name, trial_of(name, work), chosen, read_jsonl(path), done)

    failed = in_parallel(try_all, [names[first :: args.jobs] for first in range(args.jobs)])
    records = read_jsonl(path)
    wrong = [record for record in records if record["invalid"] or record["status"] or record["differences"]]
    print(f"{len(records)} points, {len(wrong)} of them wrong", file=sys.stderr)
    return bool(wrong or failed)


def in_parallel(work, parts: list[list[str]]) -> int:
    """Do each part of the work in a fork of this process; how many of them failed."""
    processes = []
    for part in filter(None, parts):
        process = os.fork()
        if process == 0:
            status = 1
            try:
                work(part)
                status = 0
            except BaseException:  # this process is a copy, and must not go on as the other does
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        processes.append(process)
    return sum(os.waitpid(process, 0)[1] != 0 for process in processes)


def sample(size: int, seed: int, names: list[str]):
    """Some configurations, and a function that chooses their points at random: `size` in all, some with two kills."""
    names = random.Random(seed).sample(names, min(len(names), SAMPLED_CONFIGURATIONS))
    shares = {name: size // len(names) + (i < size % len(names)) for i, name in enumerate(names)}

    def chosen(name: str, num_moments: int) -> list[list[int]]:
        generator = random.Random(f"{seed} {name}")
        firsts = [generator.randint(1, num_moments) for _ in range(shares[name])]
        seconds = [generator.randint(1, 1 + num_moments - first) for first in firsts]
        return [
            [first, second][: 2 if i % 4 == 0 else 1]
            for i, (first, second) in enumerate(zip(firsts, seconds, strict=True))
        ]

    return names, chosen


if __name__ == "__main__":
    sys.exit(main())
