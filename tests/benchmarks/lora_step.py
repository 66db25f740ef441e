"""C5: LoRA r=8 on all linear layers of a 124M shape, 1 x 512 tokens: step time against a full fine-tune, peak memory.

    python tests/benchmarks/run.py --only C5

Steps run without a trainer, each with its library's loss head. Memory is that of the trainers: three updates, each
trainer in a fresh process, above the imports.
"""

import sys
import tempfile

import measuring
import train_step
from measuring import Options
from train_step import Shape

SHAPE = Shape(vocab_size=50257, batch=1, tokens=512, hidden_size=768, num_layers=12, num_heads=12)
QUICK = Shape(vocab_size=512, batch=1, tokens=64, hidden_size=48, num_layers=2, num_heads=2, context=64)
KEPT = 0.5  # share of the labels that is trained, as in a row with a prompt
RANK = 8
STEPS = {  # name: (ours, LoRA)
    "ftkit, LoRA": (True, True),
    "ftkit, full": (True, False),
    "PEFT and TRL's head, LoRA": (False, True),
    "PEFT and TRL's head, full": (False, False),
}
TUNED = {"bf16": False, "gradient_checkpointing": False}
TRAINERS = {  # name: (ours, LoRA, settings)
    "ftkit, LoRA, fp32": (True, True, TUNED),
    "ftkit, full, fp32": (True, False, TUNED),
    "TRL and PEFT, LoRA, fp32, no checkpointing": (False, True, TUNED),
    "TRL and PEFT, LoRA, defaults (bf16, checkpointing)": (False, True, {}),
    "TRL, full, fp32, no checkpointing": (False, False, TUNED),
}


def lora_config():
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")


def batch(shape: Shape):
    """(input_ids, labels), (1, T) each, the same at every call."""
    import torch

    generator = torch.Generator().manual_seed(measuring.SEED)
    ids_BT = torch.randint(2, shape.vocab_size, (shape.batch, shape.tokens), generator=generator)
    labels_BT = ids_BT.clone()
    labels_BT[:, : round(shape.tokens * (1 - KEPT))] = -100
    return ids_BT, labels_BT


def make_step(name: str, shape: Shape):
    """A function without arguments that makes one update and returns the loss before it."""
    import torch
    from peft import get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    from ftkit.model.fast.loss_head import use_compact_loss_head

    ours, lora = STEPS[name]
    model = train_step.ftgpt(shape, same_weights=False) if ours else train_step.gpt2(shape)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))  # what SFTTrainer asks for
    if lora:
        model = get_peft_model(model, lora_config())
    if ours:
        use_compact_loss_head(model)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=train_step.LEARNING_RATE, fused=True)
    ids_BT, labels_BT = batch(shape)

    def step():
        loss = model(input_ids=ids_BT, labels=labels_BT, fused_lm_head=True, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def report(key: str, options: Options) -> str:
    """The section's body: step times, then peaks."""
    shape = QUICK if options.quick else SHAPE
    times = measuring.alternate({name: make_step(name, shape) for name in STEPS}, options.rounds)
    fastest = times["ftkit, LoRA"]
    rows = [
        [
            name,
            measuring.spread(seconds, 1e3),
            "" if seconds is fastest else measuring.paired_ratio(seconds, fastest),
        ]
        for name, seconds in times.items()
    ]
    steps = measuring.table(["step", "ms, median (range)", "ftkit, LoRA is faster by (95 %)"], rows)
    peaks = {name: measuring.in_child(__file__, name, int(options.quick)) for name in TRAINERS}
    smallest = peaks["ftkit, LoRA, fp32"]
    trainers = measuring.table(
        ["trainer, three updates", "peak MiB", "ftkit, LoRA over it"],
        [[name, f"{peak:.0f}", f"{smallest / peak:.2f}"] for name, peak in peaks.items()],
    )
    intro = (
        f"GPT-2 shape of {shape.num_layers} layers x {shape.hidden_size}, vocabulary {shape.vocab_size:,}, {shape.batch} "
        f"x {shape.tokens} tokens, {KEPT:.0%} of the labels trained, LoRA r={RANK} on all linear layers, fp32, fused "
        f"AdamW; {options.rounds} alternating rounds. ftkit trains FTGPT, the others GPT2LMHeadModel."
    )
    return "\n\n".join([intro, steps, trainers])


def train(name: str, shape: Shape) -> None:
    """Three updates in the trainer of that name."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    from ftkit.config.settings.sft import SFTArguments
    from ftkit.training.methods.sft import FTSFTTrainer

    ours, lora, settings = TRAINERS[name]
    ids_BT, labels_BT = batch(shape)
    rows = [{"input_ids": ids_BT[0].tolist(), "labels": labels_BT[0].tolist()}] * 3
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<eos>": 0, "<pad>": 1}, "<eos>")),
        eos_token="<eos>", pad_token="<pad>",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = (SFTArguments if ours else SFTConfig)(
            output_dir=folder, max_steps=3, per_device_train_batch_size=1, report_to="none", save_strategy="no",
            learning_rate=train_step.LEARNING_RATE, packing=False, use_cpu=True, max_length=shape.tokens, disable_tqdm=True, logging_steps=1, **settings,
        )  # fmt: skip
        model = train_step.ftgpt(shape, same_weights=False) if ours else train_step.gpt2(shape)
        trainer = (FTSFTTrainer if ours else SFTTrainer)(
            model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            peft_config=lora_config() if lora else None,
        )  # fmt: skip
        trainer.train()


def print_peak(name: str, quick: str) -> None:
    """Child process: MiB above the imports of building the model and training it."""
    from transformers import GPT2LMHeadModel  # noqa: F401

    train(name, QUICK)  # imports what is imported late
    print(measuring.peak_of(lambda: train(name, QUICK if quick == "1" else SHAPE)))


if __name__ == "__main__":
    print_peak(*sys.argv[2:])
