"""C6: peak memory of QLoRA nf4 against LoRA through `ftkit sft`, and what merging a QLoRA adapter changes.

python tests/benchmarks/run.py --only C6
"""

import json
import os
import tempfile
from pathlib import Path

import measuring
from measuring import Options

RUNS = {
    "LoRA, fp32 base": ["--dtype", "float32", "--bf16", "False"],
    "LoRA, bf16 base": ["--dtype", "bfloat16", "--bf16", "True"],
    "QLoRA nf4, fp32 products": ["--load_in_4bit", "--dtype", "float32", "--bf16", "False"],
    "QLoRA nf4, bf16 products": ["--load_in_4bit", "--dtype", "bfloat16", "--bf16", "True"],
}
REFERENCE, MERGED_RUN = "LoRA, fp32 base", "QLoRA nf4, fp32 products"
BLOCK = 512


def report(key: str, options: Options) -> str:
    """The section's body: memory of each run in a fresh process, then the merge."""
    import sft_commands

    from ftkit.model.loading import find_bundled_smollm2, local_model_folder

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    model = local_model_folder(str(find_bundled_smollm2()))
    block = 128 if options.quick else BLOCK
    with tempfile.TemporaryDirectory() as temporary:
        runs = {}
        for name, flags in RUNS.items():
            shape = ["--packing", "True", "--max_length", str(block), "--per_device_train_batch_size", "1"]
            given = ["--model_name_or_path", model, "--dataset_name", "instructions", "--template", "alpaca"]
            runs[name] = sft_commands.run_command("ftkit.sft", [*given, *shape, *flags], Path(temporary), 4)
        merge = merge_error(MERGED_RUN, str(runs[MERGED_RUN].output_dir), model, Path(temporary) / "merged")
    base = runs[REFERENCE]
    rows = [
        [
            name,
            f"{run.loading_mib:.0f}",
            f"{run.training_mib:.0f}",
            f"{run.training_mib / base.training_mib:.2f}",
            f"{run.peak_mib / base.peak_mib:.2f}",
            f"{run.speed:.0f}",
        ]
        for name, run in runs.items()
    ]
    intro = (
        f"SmolLM2-135M-Instruct, `ftkit sft`, r=8 on all linear layers, packed blocks of 1 x {block}, 4 updates; peaks "
        f"in MiB above the imports, and over those of {REFERENCE}. Tokens/s are of one short run each."
    )
    table = measuring.table(["run", "loading", "training", "training, ratio", "peak of both, ratio", "tokens/s"], rows)
    return f"{intro}\n\n{table}\n\n{merge}"


def merge_error(name: str, adapter: str, base: str, merged: Path) -> str:
    """How far the merged float32 model is from the 4-bit model with the adapter on it, on rows it was not trained on."""
    import torch

    from ftkit.model.adapters.loading import put_adapter
    from ftkit.model.adapters.merging import load_base, merge_adapter, trained_quantization
    from ftkit.model.loading import load_model, load_tokenizer

    tokenizer = load_tokenizer(adapter)
    four_bit = load_base(base, adapter, trained_quantization(adapter))
    trained = put_adapter(four_bit, adapter, tokenizer, base_folder=base).eval()
    merge_adapter(adapter, merged, base=base)
    result = load_model(merged)
    differences, divergences, agreements, plain = [], [], [], []
    for text in held_out_texts(tokenizer):
        ids_BT = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            one, other = trained(input_ids=ids_BT).logits.float(), result(input_ids=ids_BT).logits.float()
            with trained.disable_adapter():
                plain.append((trained(input_ids=ids_BT).logits.float() - one).abs().max().item())
        differences.append((one - other).abs().max().item())
        log_one, log_other = one.double().log_softmax(-1), other.double().log_softmax(-1)
        divergences.append((log_one.exp() * (log_one - log_other)).sum(-1).mean().item())
        agreements.append((one.argmax(-1) == other.argmax(-1)).float().mean().item())
    count = len(differences)
    return (
        f"Merge of the {name} adapter (dequantise, merge, float32) against the 4-bit model with the adapter, on "
        f"{count} held-out rows: largest logit difference {max(differences):.1e} (the adapter itself moves logits by up "
        f"to {max(plain):.1e}), mean KL {sum(divergences) / count:.1e} nats, top-1 agreement "
        f"{sum(agreements) / count:.2%}."
    )


def held_out_texts(tokenizer, number: int = 20) -> list[str]:
    """Rows of the bundled test split, as the tokenizer's template renders them."""
    from ftkit.config.assets import asset_path

    lines = (asset_path("datasets", "instructions") / "test.jsonl").read_text(encoding="utf-8").splitlines()
    texts = []
    for row in map(json.loads, lines[:number]):
        asked = f"{row['instruction']}\n\n{row['input']}".strip()
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
        texts.append(tokenizer.apply_chat_template(messages, tokenize=False))
    return texts
