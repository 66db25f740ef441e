"""Two processes train the same as one with the same global batch, write the run folder once, and resume."""

import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ftkit.evaluation.results import read_results
from ftkit.model.loading import load_model
from ftkit.training.sharded import join_shards

pytestmark = pytest.mark.processes
ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
LORA = ["--use_peft", "--lora_r", "4", "--lora_dropout", "0"]
PACKED = ["--packing", "true", "--max_length", "256"]
METHODS = {
    "full": ["--packing", "false"],
    "full packed": PACKED,
    "lora": [*LORA, "--packing", "false"],
    "lora packed": [*LORA, *PACKED],
    "dpo lora": LORA,
    "reward lora": LORA,
    "dpo precomputed": [*LORA, "--precompute_ref_log_probs"],
    # whose loss has no KL term, which pairs the rows of one process
    "kto lora": [*LORA, "--loss_type", "apo_zero_unpaired"],
}
COMMANDS = {"dpo lora": "dpo", "dpo precomputed": "dpo", "kto lora": "kto"}  # of the methods that are not sft's
COMPARED = ("loss", "grad_norm", "tokens", "rewards/margins", "logps/chosen", "logps/rejected", "accuracy", "margin")
COMPARED += tuple(f"eval_{name}" for name in COMPARED)


@pytest.fixture(scope="module")
def rows(tmp_path_factory, word_rows):
    """Answers of very different lengths, so that the two processes train on unequal numbers of tokens."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{**row, "output": row["output"] * (1 + 7 * (i % 4 == 3))} for i, row in enumerate(word_rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, word_rows):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    pairs = [
        {**row, "chosen": row["output"], "rejected": row["input"] * (1 + i % 3)} for i, row in enumerate(word_rows)
    ]
    path.write_text("".join(json.dumps({key: row[key] for key in row if key != "output"}) + "\n" for row in pairs))
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory, word_rows):
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    lines = [json.dumps({"text": " ".join(row.values()) * (1 + i % 4)}) + "\n" for i, row in enumerate(word_rows)]
    path.write_text("".join(lines))
    return path


def flags(folder, rows, out, per_device, method, *extra):
    """Four updates of two accumulated global batches of four rows.

    A large epsilon keeps Adam from blowing up the rounding of gradients that are zero but for it.
    """
    return [
        "--model_name_or_path", str(folder), "--dataset_name", str(rows), "--output_dir", str(out),
        "--per_device_train_batch_size", str(per_device), *"""--template alpaca --gradient_accumulation_steps 2
        --max_steps 4 --logging_steps 1 --save_strategy no --learning_rate 1e-3 --adam_epsilon 1e-4 --bf16 false
        --dtype float32 --use_cpu --disable_tqdm --test_size 8 --num_samples 1 --sample_max_new_tokens 4""".split(),
        *METHODS[method], *extra,
    ]  # fmt: skip


def reward_flags(folder, pairs, out, per_device):
    """As `flags`; a reward model writes no samples."""
    found = flags(folder, pairs, out, per_device, "reward lora")
    place = found.index("--sample_max_new_tokens")
    return found[:place] + found[place + 2 :]


def pretrain_flags(folder, texts, out, per_device, *extra):
    """Four updates of two accumulated global batches of four blocks, less than a pass."""
    return [
        "--model_name_or_path", str(folder), "--dataset_name", str(texts), "--output_dir", str(out),
        # of several processes the last batch is filled with blocks that count twice, unless a batch is one block
        "--per_device_eval_batch_size", "1",
        "--per_device_train_batch_size", str(per_device), *"""--block_size 32 --gradient_accumulation_steps 2 --max_steps 4
        --logging_steps 1 --save_strategy no --learning_rate 1e-3 --adam_epsilon 1e-4 --bf16 false --use_cpu
        --disable_tqdm --test_size 8 --num_samples 1 --sample_max_new_tokens 4""".split(), *extra,
    ]  # fmt: skip


def ppo_flags(folder, rows, out, *extra):
    """Four updates on one rollout of 16 answers, weighted against a KL target."""
    return [
        "--model_name_or_path", str(folder), "--dataset_name", str(rows), "--output_dir", str(out),
        *"""--template plain --rewards length:-1 --start_anyway --receipt_prompts 4 --max_completion_length 6
        --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --num_mini_batches 2 --num_ppo_epochs 2
        --max_steps 4 --logging_steps 1 --save_strategy no --learning_rate 1e-3 --bf16 false --dtype float32 --use_cpu
        --kl_target 0.1 --value_trunk separate --disable_tqdm --test_size 8 --num_samples 0""".split(), *extra,
    ]  # fmt: skip


def grpo_flags(folder, rows, out, *extra):
    """Four updates, each on groups of four answers that both processes share, two updates to each sampling."""
    return [
        "--model_name_or_path", str(folder), "--dataset_name", str(rows), "--output_dir", str(out),
        *"""--template plain --rewards length:-1 --start_anyway --receipt_prompts 4 --max_completion_length 6
        --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --num_generations 4 --num_iterations 2 --beta 0.1
        --max_steps 4 --logging_steps 1 --save_strategy no --learning_rate 1e-3 --bf16 false --dtype float32 --use_cpu
        --disable_tqdm --test_size 8 --num_samples 0""".split(), *extra,
    ]  # fmt: skip


def launch(command: list[str], timeout: int = 300) -> str:
    """Run a launcher with one thread a process; return what it printed."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the launcher's children too
        raise
    assert process.returncode == 0, printed[-6000:]
    return printed


def in_two_processes(jobs: list[dict], folder: Path, *fsdp_config: str) -> str:
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    return launch([*TORCHRUN, str(ROOT / "tests/multi_process_runs.py"), str(path), *fsdp_config])


def in_two_nodes(jobs: list[dict], folder: Path) -> None:
    """Two torchrun agents of two processes each, as on two machines, that meet on this one."""
    path = folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "2"]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "two-nodes"]
    command += ["--local_addr", "127.0.0.1", str(ROOT / "tests/multi_process_runs.py"), str(path)]
    with ThreadPoolExecutor(2) as agents:
        list(agents.map(launch, [command, command]))


def in_one_process(argv: list[str], command: str = "sft") -> None:
    importlib.import_module(f"ftkit.{command}").main(argv)


def log_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in COMPARED if key in line} for line in lines]


def weights_of(folder: Path) -> dict:
    files = sorted(folder.glob("*.safetensors"))
    return {name: tensor for path in files for name, tensor in load_file(path).items()}


def assert_same_run(folder: Path, reference: Path, tolerance: float = 1e-5) -> None:
    log, expected = log_of(folder), log_of(reference)
    assert len(log) == len(expected) >= 4
    for line, other in zip(log, expected, strict=True):
        assert line == pytest.approx(other, rel=tolerance, abs=1e-6)
    weights, expected = weights_of(folder), weights_of(reference)
    assert weights.keys() - expected.keys() <= {"lm_head.weight"}  # FSDP2 writes a tied head beside the embedding
    whole = torch.cat([weight.flatten() for weight in expected.values()])
    moved = torch.cat([weights[name].flatten() for name in expected]) - whole
    assert moved.norm() <= tolerance * whole.norm()
    counts, expected = (json.loads((path / "receipt.json").read_text())["moved"] for path in (folder, reference))
    assert counts == expected  # also where each process holds a part of a tensor
    assert all(count["moved"] == (group != "frozen") * count["tensors"] for group, count in counts["groups"].items())


@pytest.fixture(scope="module")
def two_process_runs(tmp_path_factory, tiny_folder, rows, pairs, texts):
    """Folder of runs in two processes: SFT with checkpoints, that one resumed half-way, packed; DPO, KTO; text."""
    folder = tmp_path_factory.mktemp("two")
    save = ["--save_strategy", "steps", "--save_steps", "2"]
    resumed = ["--resume_from_checkpoint"]
    resume = flags(tiny_folder, rows, folder / "resumed", 2, "full", *save, *resumed)
    jobs = [
        {"command": "sft", "argv": flags(tiny_folder, rows, folder / "full", 2, "full", *save)},
        {"copy": [str(folder / "full/checkpoint-2"), str(folder / "resumed/checkpoint-2")]},
        {"command": "sft", "argv": resume},
        {"command": "sft", "argv": flags(tiny_folder, rows, folder / "lora packed", 2, "lora packed")},
        *(
            {"command": command, "argv": flags(tiny_folder, pairs, folder / method, 2, method)}
            for method, command in COMMANDS.items()
        ),
        {"command": "kto", "argv": flags(tiny_folder, pairs, folder / "kto", 2, "dpo lora")},
        {"command": "reward", "argv": reward_flags(tiny_folder, pairs, folder / "reward lora", 2)},
        {"command": "ppo", "argv": ppo_flags(tiny_folder, rows, folder / "ppo", *save)},
        {"copy": [str(folder / "ppo/checkpoint-2"), str(folder / "ppo resumed/checkpoint-2")]},
        {"command": "ppo", "argv": ppo_flags(tiny_folder, rows, folder / "ppo resumed", *save, *resumed)},
        {"command": "grpo", "argv": grpo_flags(tiny_folder, rows, folder / "grpo", *save)},
        {"copy": [str(folder / "grpo/checkpoint-2"), str(folder / "grpo resumed/checkpoint-2")]},
        {"command": "grpo", "argv": grpo_flags(tiny_folder, rows, folder / "grpo resumed", *save, *resumed)},
        {"command": "pretrain", "argv": pretrain_flags(tiny_folder, texts, folder / "text", 2, *save)},
        {"copy": [str(folder / "text/checkpoint-2"), str(folder / "text resumed/checkpoint-2")]},
        {
            "command": "pretrain",
            "argv": pretrain_flags(tiny_folder, texts, folder / "text resumed", 2, *save, "--resume_from_checkpoint"),
        },
    ]
    (folder / "printed.txt").write_text(in_two_processes(jobs, folder))
    return folder


def assert_same_scores(folder: Path, reference: Path) -> None:
    """Held-out rows, of which each process has scored its share."""
    for name in ("before/results.json", "results.json"):
        (task,), (expected,) = (read_results(path / name).tasks.values() for path in (folder, reference))
        assert task.num_items == expected.num_items > 1
        values, wanted = ({name: one.value for name, one in some.scores.items()} for some in (task, expected))
        assert values == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["full", "lora packed", *COMMANDS])
def test_two_processes_train_as_one(method, two_process_runs, tiny_folder, rows, pairs, tmp_path):
    command, data = COMMANDS.get(method, "sft"), pairs if method in COMMANDS else rows
    in_one_process(flags(tiny_folder, data, tmp_path / "one", 4, method), command)
    assert_same_run(two_process_runs / method, tmp_path / "one")
    assert_same_scores(two_process_runs / method, tmp_path / "one")


def test_two_processes_train_a_reward_model_as_one(two_process_runs, tiny_folder, pairs, tmp_path):
    in_one_process(reward_flags(tiny_folder, pairs, tmp_path / "one", 4), "reward")
    assert_same_run(two_process_runs / "reward lora", tmp_path / "one", 1e-4)  # a margin is a small difference
    assert_same_scores(two_process_runs / "reward lora", tmp_path / "one")
    assert (two_process_runs / "printed.txt").read_text().count("a fresh process reads") == 1


def test_two_processes_pretrain_as_one(two_process_runs, tiny_folder, texts, tmp_path):
    in_one_process(pretrain_flags(tiny_folder, texts, tmp_path / "one", 4), "pretrain")
    assert_same_run(two_process_runs / "text", tmp_path / "one")
    assert_same_scores(two_process_runs / "text", tmp_path / "one")


def test_the_run_folder_is_written_once(two_process_runs):
    printed = (two_process_runs / "printed.txt").read_text()
    assert "tokens of 2 processes together; " in printed and "tokens of 2 processes together, " in printed
    assert printed.count("hardware ") == 14 and printed.count("done: ") == 14  # one plan and one end a run
    folder = two_process_runs / "lora packed"
    assert len(log_of(folder)) == 6  # four updates, an evaluation before and one after
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 2
    assert not [
        path.name
        for path in folder.iterdir()
        if path.name.startswith(".") and path.name != ".ftkit" or path.suffix == ".tmp"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [("full", "resumed"), ("text", "text resumed"), ("ppo", "ppo resumed"), ("grpo", "grpo resumed")],
)
def test_a_run_resumes_in_two_processes(two_process_runs, first, second):
    whole, resumed = weights_of(two_process_runs / first), weights_of(two_process_runs / second)
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    losses = [[line["loss"] for line in log_of(two_process_runs / name) if "loss" in line] for name in (first, second)]
    assert losses[1] == losses[0][2:]
    assert_same_scores(two_process_runs / second, two_process_runs / first)  # also of what it began from


def test_two_nodes_of_two_processes_train_as_one_process(tiny_folder, rows, tmp_path):
    methods = ("full", "lora")
    in_two_nodes(
        [{"command": "sft", "argv": flags(tiny_folder, rows, tmp_path / one, 1, one)} for one in methods], tmp_path
    )
    for method in methods:
        in_one_process(flags(tiny_folder, rows, tmp_path / f"{method} alone", 4, method))
        assert_same_run(tmp_path / method, tmp_path / f"{method} alone")
        assert_same_scores(tmp_path / method, tmp_path / f"{method} alone")


def recorded_flags(folder, rows, out, loss_type, per_device):
    """Two updates, each on four prompts with two recorded answers, in as many batches."""
    given = grpo_flags(folder, rows, out, "--loss_type", loss_type, "--num_iterations", "1", "--num_generations", "2")
    return [*given, "--per_device_train_batch_size", str(per_device), "--max_steps", "2", "--adam_epsilon", "1e-4"]


def distill_flags(folder, teacher, rows, out, per_device):
    """Two updates on what a teacher says of the rows."""
    return [
        "--model", str(folder), "--teacher", str(teacher), "--dataset_name", str(rows), "--output_dir", str(out),
        "--per_device_train_batch_size", str(per_device), *"""--template plain --gradient_accumulation_steps 2
        --max_steps 4 --logging_steps 1 --save_strategy no --learning_rate 1e-3 --adam_epsilon 1e-4 --bf16 false
        --dtype float32 --use_cpu --disable_tqdm --test_size 8 --num_samples 0""".split(),
    ]  # fmt: skip


def test_two_processes_learn_from_answers_and_a_teacher_as_one(tiny_folder, tiny_teacher, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    types = ("dapo", "dr_grpo")
    jobs = [
        {"command": "grpo", "argv": recorded_flags(tiny_folder, rows, tmp_path / one, one, 2), "recorded": True}
        for one in types
    ]
    jobs.append({"command": "distill", "argv": distill_flags(tiny_folder, tiny_teacher, rows, tmp_path / "two", 2)})
    in_two_processes(jobs, tmp_path)
    with runpy.run_path(str(ROOT / "tests/multi_process_runs.py"))["recorded_answers"]():
        for one in types:
            in_one_process(recorded_flags(tiny_folder, rows, tmp_path / f"alone {one}", one, 4), "grpo")
    in_one_process(distill_flags(tiny_folder, tiny_teacher, rows, tmp_path / "alone", 4), "distill")
    for name, alone in [*((one, f"alone {one}") for one in types), ("two", "alone")]:
        losses = [[line["loss"] for line in log_of(tmp_path / one) if "loss" in line] for one in (name, alone)]
        assert len(losses[1]) >= 2 and losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-6), name
        weights, expected = weights_of(tmp_path / name), weights_of(tmp_path / alone)
        start = weights_of(tiny_folder)
        moved, apart = (
            torch.cat([(weights[key] - other[key]).flatten() for key in expected]).norm() for other in (start, expected)
        )
        assert apart <= 1e-3 * moved, name


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full packed", "lora"])
def test_torchrun_and_accelerate_launch_train_as_one_process(method, tiny_folder, rows, tmp_path):
    in_one_process(flags(tiny_folder, rows, tmp_path / "one", 4, method))
    launch([*TORCHRUN, "-m", "ftkit.sft", *flags(tiny_folder, rows, tmp_path / "torchrun", 2, method)])
    assert_same_run(tmp_path / "torchrun", tmp_path / "one")
    accelerate = shutil.which("accelerate", path=str(Path(sys.executable).parent))
    config = ["--config_file", "examples/accelerate/ddp.yaml", "--main_process_port", "0"]
    launch(
        [
            accelerate,
            "launch",
            *config,
            "ftkit/sft.py",
            *flags(tiny_folder, rows, tmp_path / "accelerate", 2, method),
        ]
    )
    assert_same_run(tmp_path / "accelerate", tmp_path / "one")


@pytest.mark.slow
def test_one_process_in_place_of_two_is_refused_in_one_line(tiny_folder, rows, tmp_path):
    accelerate = shutil.which("accelerate", path=str(Path(sys.executable).parent))
    done = subprocess.run(
        [accelerate, "launch", "--cpu", "--num_processes", "2", "ftkit/sft.py", *flags(tiny_folder, rows, tmp_path / "out", 2, "full")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0 and "several processes were asked for and accelerate started one" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_fsdp2_trains_as_one_process_and_resumes(tiny_folder, rows, texts, tmp_path):
    save = ["--save_strategy", "steps", "--save_steps", "2"]
    jobs = []
    for method in ("full", "lora"):
        jobs.append({"command": "sft", "argv": flags(tiny_folder, rows, tmp_path / method, 2, method, *save)})
        resumed = tmp_path / f"{method} resumed"
        jobs.append({"copy": [str(tmp_path / method / "checkpoint-2"), str(resumed / "checkpoint-2")]})
        resume = flags(tiny_folder, rows, resumed, 2, method, *save, "--resume_from_checkpoint")
        jobs.append({"command": "sft", "argv": resume})
    jobs.append({"command": "pretrain", "argv": pretrain_flags(tiny_folder, texts, tmp_path / "text", 2, *save)})
    printed = in_two_processes(jobs, tmp_path, "examples/accelerate/fsdp2.yaml")
    assert "TRL's own loss head" not in printed
    for method in ("full", "lora"):
        in_one_process(flags(tiny_folder, rows, tmp_path / f"{method} alone", 4, method, *save))
        assert_same_run(tmp_path / method, tmp_path / f"{method} alone")
        whole, resumed = (weights_of(tmp_path / name) for name in (method, f"{method} resumed"))
        assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    for name in ("full", "text"):
        assert len(list((tmp_path / name / "checkpoint-2/shards").glob("*.safetensors"))) == 2  # one of each process
    copy = Path(shutil.copytree(tmp_path / "full/checkpoint-2", tmp_path / "joined"))
    join_shards(copy, copy)
    joined, alone = weights_of(copy), weights_of(tmp_path / "full alone/checkpoint-2")
    assert joined.keys() == alone.keys()
    assert all(torch.allclose(joined[name], weight, rtol=1e-5, atol=1e-6) for name, weight in alone.items())
    assert type(load_model(copy)).__name__ == "LlamaForCausalLM"
    in_one_process(pretrain_flags(tiny_folder, texts, tmp_path / "text alone", 4), "pretrain")
    assert_same_run(tmp_path / "text", tmp_path / "text alone")
