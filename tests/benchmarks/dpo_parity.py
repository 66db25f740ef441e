"""Ten steps of `ftkit dpo` from an SFT adapter of SmolLM2-135M beside TRL's DPOTrainer by itself: the same losses.

    python tests/benchmarks/dpo_parity.py --rows instruction-data-with-preference.json

float32, no dropout, batches of 2. The script with TRL knows nothing of ftkit: prompts are strings, the adapter is loaded
with PEFT. Prints both traces and writes them to RESULTS.md; exit 1 where a loss differs by more than 1e-5, relative.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import measuring

STEPS, BATCH, NUM_PAIRS, SEED = 10, 2, 64, 7
KEYS = ("loss", "rewards/margins", "logps/chosen", "logps/rejected")
HEADING = (
    "Below is an instruction that describes a task{paired}. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}{field}\n\n### Response:\n"
)


def write_rows(rows_file: Path, folder: Path) -> list[dict]:
    """The first pairs whose answers differ; written as Alpaca rows with their preferred answer, and as pairs."""
    rows = [row for row in json.loads(rows_file.read_text(encoding="utf-8")) if row["chosen"] != row["rejected"]]
    rows = rows[:NUM_PAIRS]
    for name in ("sft", "dpo"):
        lines = [json.dumps(row if name == "dpo" else {**without_pair(row), "output": row["chosen"]}) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


def without_pair(row: dict) -> dict:
    return {key: value for key, value in row.items() if key not in ("chosen", "rejected")}


def ours(model: str, folder: Path) -> list[dict]:
    """The log of ten steps of the command, after a short `ftkit sft` that makes the adapter in FOLDER/adapter."""
    from ftkit.dpo import main as dpo
    from ftkit.sft import main as sft

    common = ["--bf16", "false", "--dtype", "float32", "--logging_steps", "1", "--disable_tqdm", "--num_samples", "0"]
    sft([
        "--model_name_or_path", model, "--dataset_name", str(folder / "sft.jsonl"), "--template", "alpaca",
        "--use_peft", "--lora_r", "8", "--max_steps", "4", "--output_dir", str(folder / "adapter"), *common,
    ])  # fmt: skip
    dpo([
        "--adapter", str(folder / "adapter"), "--dataset_name", str(folder / "dpo.jsonl"), "--max_steps", str(STEPS),
        "--per_device_train_batch_size", str(BATCH), "--learning_rate", "1e-4", "--seed", str(SEED),
        "--save_strategy", "no", "--template", "alpaca", "--output_dir", str(folder / "dpo"), *common,
    ])  # fmt: skip
    records = [json.loads(line) for line in (folder / "dpo" / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if "loss" in record]


def trl_alone(model: str, folder: Path, rows: list[dict]) -> list[dict]:
    """The log of TRL's trainer, from the same adapter."""
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    pairs = []
    for row in rows:
        paired = ", paired with an input that provides further context" if row["input"] else ""
        field = f"\n\n### Input:\n{row['input']}" if row["input"] else ""
        prompt = HEADING.format(paired=paired, instruction=row["instruction"], field=field)
        pairs.append({"prompt": prompt, "chosen": row["chosen"], "rejected": row["rejected"]})
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=False)
    set_seed(SEED)
    trainer = DPOTrainer(
        model=PeftModel.from_pretrained(base, str(folder / "adapter"), is_trainable=True),
        args=DPOConfig(
            output_dir=str(folder / "trl"), max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=1e-4,
            logging_steps=1, use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
            save_strategy="no", report_to="none", seed=SEED,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="Alpaca rows with chosen and rejected, a .json list")
    args = parser.parse_args()
    from ftkit.model.loading import find_bundled_smollm2, local_model_folder

    model = local_model_folder(str(find_bundled_smollm2()))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = write_rows(args.rows, folder)
        found, wanted = ours(model, folder), trl_alone(model, folder, rows)
    assert len(found) == len(wanted) == STEPS
    differences = {key: [abs(a[key] - b[key]) for a, b in zip(found, wanted, strict=True)] for key in KEYS}
    worst = max(d / abs(b["loss"]) for d, b in zip(differences["loss"], wanted, strict=True))
    lines = [
        [i + 1, *(f"{record['loss']:.7f}" for record in pair)] for i, pair in enumerate(zip(found, wanted, strict=True))
    ]
    other = ", ".join(f"{key} {max(differences[key]):.1e}" for key in KEYS[1:])
    text = (
        f"    python tests/benchmarks/dpo_parity.py --rows {args.rows.name}\n\nSmolLM2-135M-Instruct, an SFT adapter, "
        f"then {STEPS} steps of DPO in float32 without dropout, {BATCH} pairs a step, seed {SEED}. Largest difference: "
        f"loss {worst:.1e} (relative); {other} (absolute).\n\n{measuring.table(['step', 'ftkit dpo', 'TRL'], lines)}"
    )
    print(text)
    measuring.write_section("DPO", "DPO beside TRL's trainer by itself", text)
    sys.exit(worst > 1e-5)


if __name__ == "__main__":
    main()
