"""G2, G3 and G8, on one GPU: `ftkit sft` against `trl sft` on a 1B and an 8B shape, and QLoRA against LoRA.

    python tests/benchmarks/run.py --only G2,G3,G8

The large models have random weights, SmolLM2's tokenizer and Llama's shapes; time and memory do not depend on values.
"""

import importlib.util
import json
import random
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import measuring
import qlora
import sft_commands
from measuring import Options

LLAMA_1B = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "tie_word_embeddings": False,
}  # fmt: skip
QUICK = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
LORA_FLAGS = ["--use_peft", "--lora_r", "8", "--lora_target_modules", "all-linear"]
TUNED = ["--gradient_checkpointing", "False", "--packing", "True", "--packing_strategy", "bfd"]
LIGER = ["--use_liger_kernel", "True"]
ANY_CUT = ["--max_truncated_share", "1"]  # random words make some rows longer than a block
LONG_ROW_WORDS, SHORT_ROW_WORDS = 400, 45  # median words of an answer; Alpaca's are short


@dataclass(frozen=True)
class Contest:
    """Shape, rows and flags of one comparison. commands: name -> (module, flags)."""

    shape: dict
    median_words: int
    updates: int
    commands: dict


def blocks(length: int, batch: int) -> list[str]:
    return ["--max_length", str(length), "--per_device_train_batch_size", str(batch)]


CONTESTS = {
    "G2": Contest(
        LLAMA_1B, SHORT_ROW_WORDS, 30,
        {
            "ftkit sft": ("ftkit.sft", ["--packing", "True", *ANY_CUT, *blocks(2048, 4)]),
            "trl sft": ("trl.scripts.sft", ["--per_device_train_batch_size", "64", "--max_length", "2048"]),
            "trl sft, tuned": ("trl.scripts.sft", [*TUNED, *blocks(2048, 4)]),
            "trl sft, tuned, Liger": ("trl.scripts.sft", [*TUNED, *LIGER, *blocks(2048, 4)]),
        },
    ),
    "G3": Contest(
        LLAMA_8B, LONG_ROW_WORDS, 12,
        {
            "ftkit sft, LoRA": ("ftkit.sft", [*LORA_FLAGS, "--packing", "True", *ANY_CUT, *blocks(2048, 1)]),
            "ftkit sft, QLoRA": (
                "ftkit.sft", [*LORA_FLAGS, "--load_in_4bit", "--packing", "True", *ANY_CUT, *blocks(2048, 1)],
            ),
            "trl sft, LoRA, tuned, Liger": (
                "trl.scripts.sft", [*LORA_FLAGS, "--dtype", "bfloat16", *TUNED, *LIGER, *blocks(2048, 1)],
            ),
            "trl sft, LoRA": ("trl.scripts.sft", [*LORA_FLAGS, "--dtype", "bfloat16", "--packing", "True", *blocks(2048, 1)]),
            "trl sft, QLoRA": (
                "trl.scripts.sft",
                [*LORA_FLAGS, "--dtype", "bfloat16", "--load_in_4bit", "--packing", "True", *blocks(2048, 1)],
            ),
        },
    ),
}  # fmt: skip


def random_model(shape: dict, folder: Path) -> str:
    """A bf16 Llama of the shape with random weights and SmolLM2's tokenizer, as a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from ftkit.model.loading import find_bundled_smollm2, load_tokenizer, local_model_folder

    tokenizer = load_tokenizer(local_model_folder(str(find_bundled_smollm2())))
    torch.manual_seed(measuring.SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=4096, bos_token_id=1, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, **shape,
    )  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def random_rows(path: Path, median_words: int, number: int = 6000) -> None:
    """Alpaca rows of everyday words whose answers have a skewed distribution of lengths."""
    from ftkit.config.assets import asset_path

    lines = (asset_path("datasets", "instructions") / "train.jsonl").read_text(encoding="utf-8").splitlines()
    words = sorted({word for line in lines for word in json.loads(line)["output"].split()})
    draw = random.Random(measuring.SEED)
    rows = []
    for _ in range(number):
        count = min(6 * median_words, max(1, round(draw.lognormvariate(0, 0.8) * median_words)))
        asked = " ".join(draw.choices(words, k=12))
        rows.append({"instruction": asked, "input": "", "output": " ".join(draw.choices(words, k=count))})
    path.write_text(json.dumps(rows), encoding="utf-8")


def report(key: str, options: Options) -> str:
    """The section's body."""
    return report_qlora(options) if key == "G8" else report_contest(CONTESTS[key], options)


def report_contest(contest: Contest, options: Options) -> str:
    shape = QUICK if options.quick else contest.shape
    updates = 3 if options.quick else contest.updates
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = random_model(shape, folder / "model")
        random_rows(folder / "rows.json", contest.median_words, 900 if options.quick else 6000)
        alpaca, completions = sft_commands.write_rows(
            folder / "rows.json", model, folder, 800 if options.quick else 5900
        )
        commands = runnable(contest)
        runs = {name: [] for name in commands}
        num_warm = int(options.sft_rounds > 1)  # where a GPU is lent for minutes, each command runs once
        for _ in range(options.sft_rounds + num_warm):
            for name, (module, flags) in commands.items():
                ours = module == "ftkit.sft"
                given = ["--model_name_or_path", model, "--dataset_name", alpaca if ours else completions, *flags]
                given += ["--template", "alpaca", "--before_after", "false"] if ours else []
                runs[name].append(sft_commands.run_command(module, given, folder, updates, sft_commands.SCHEDULE))
    names = list(commands)
    runs = {name: several[num_warm:] for name, several in runs.items()}
    speeds = {name: [run.speed for run in runs[name]] for name in names}
    rows = [
        [
            name,
            measuring.spread(speeds[name]),
            "" if name == names[0] else measuring.paired_ratio(speeds[names[0]], speeds[name]),
            measuring.spread([run.tokens_per_update for run in runs[name]]),
            f"{max(run.training_mib for run in runs[name]) / 1024:.2f}",
        ]
        for name in names
    ]
    header = [
        "command",
        "useful tokens/s, median (range)",
        f"{names[0]} is faster by (95 %)",
        "tokens an update",
        "peak GiB",
    ]
    sizes = ", ".join(f"{name} {value}" for name, value in shape.items())
    intro = (
        f"Random Llama weights ({sizes}); {updates} updates a run, {options.sft_rounds} alternating rounds of whole "
        "processes."
    )
    return f"{intro}\n\n{measuring.table(header, rows)}"


def runnable(contest: Contest) -> dict:
    """The commands that run here: those of Liger where it is installed, beside a GPU; TRL's with --use_cpu without one."""
    import torch

    on_gpu = torch.cuda.is_available()
    has_liger = on_gpu and importlib.util.find_spec("liger_kernel") is not None
    chosen = {name: one for name, one in contest.commands.items() if has_liger or "Liger" not in name}
    if on_gpu:
        return chosen
    return {
        name: (module, flags if module == "ftkit.sft" else [*flags, "--use_cpu"])
        for name, (module, flags) in chosen.items()
    }


def report_qlora(options: Options) -> str:
    """SmolLM2: the loss curves of LoRA bf16 and QLoRA nf4, and the merge of the latter."""
    from ftkit.model.loading import find_bundled_smollm2, local_model_folder

    updates = 3 if options.quick else 60
    model = local_model_folder(str(find_bundled_smollm2()))
    flags = {"LoRA bf16": [], "QLoRA nf4": ["--load_in_4bit"]}
    given = ["--model_name_or_path", model, "--dataset_name", "instructions", "--template", "alpaca"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs = {
            name: sft_commands.run_command(
                "ftkit.sft", [*given, *extra, "--dtype", "bfloat16", "--bf16", "True"], folder, updates
            )
            for name, extra in flags.items()
        }
        merge = qlora.merge_error("QLoRA nf4", str(runs["QLoRA nf4"].output_dir), model, folder / "merged")
    rows = []
    for name, run in runs.items():
        losses = [step["loss"] for step in run.steps]
        tenth = max(1, len(losses) // 10)
        means = [statistics.fmean(part) for part in (losses[:tenth], losses[-tenth:])]
        rows.append([name, *(f"{mean:.3f}" for mean in means), f"{run.training_mib / 1024:.2f}", f"{run.speed:.0f}"])
    header = ["run", "loss, first tenth", "loss, last tenth", "peak GiB", "tokens/s"]
    return f"SmolLM2-135M-Instruct, {updates} updates each.\n\n{measuring.table(header, rows)}\n\n{merge}"
