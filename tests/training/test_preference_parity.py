"""Losses and logged values of `ftkit dpo` and `ftkit kto` equal those of TRL's trainers by themselves.

TRL's are given the prompts as strings, their own tokenization, collator, reference and loss head, and no ftkit code.
"""

import json
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from ftkit.data.tokens.labelled_answers import interleaved
from ftkit.model.loading import local_model_folder
from ftkit.runs.recipes import load_recipe

STEPS, SEED, BATCH = 3, 7, {"dpo": 4, "kto": 3}
RATE, EPSILON = (
    1e-5,
    1e-4,
)  # a large epsilon keeps Adam from blowing up the rounding of gradients that are zero but for it
HEADING = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{}\n\n### Response:\n"
)
LOGGED = ("loss", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected", "rewards/margins")
PAIRED = (*LOGGED, "rewards/accuracies")
CASES = {  # command, the flags that ask for it, TRL's settings, and what is compared
    "dpo": ("dpo", {}, {}, (*PAIRED, "mean_token_accuracy")),
    "mixture, ipo": ("dpo", {"loss_type": ["ipo", "sft"], "loss_weights": [0.7, 0.3]}, None, PAIRED),
    "orpo": ("dpo", {"loss_type": ["orpo"]}, {}, (*PAIRED, "nll_loss", "log_odds_ratio", "log_odds_chosen")),
    "cpo": ("dpo", {"loss_type": ["cpo"], "label_smoothing": 0.1}, {"label_smoothing": 0.1}, (*PAIRED, "nll_loss")),
    "simpo": (
        "dpo", {"loss_type": ["simpo"], "cpo_alpha": 0.3},
        {"beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.3, "loss_type": "simpo"}, (*PAIRED, "nll_loss"),
    ),
    "kto": ("kto", {}, {"undesirable_weight": 2.0}, (*LOGGED, "kl")),
    "apo_zero_unpaired": (
        "kto", {"loss_type": "apo_zero_unpaired", "desirable_weight": 3.0}, {"undesirable_weight": 6.0}, LOGGED
    ),
}  # fmt: skip


def rows_of(command: str) -> list[dict]:
    """Questions with answers of unequal lengths; of labels, two in three say wanted."""
    words = ["cat", "garden", "river", "a blue bottle", "stone", "cloud", "two candles", "table", "window"]
    if command == "dpo":
        return [{"prompt": f"Write {one}.", "chosen": one.upper(), "rejected": f"It is {one}"} for one in words[:8]]
    return [
        {
            "prompt": f"Write {one}.",
            "completion": one.upper() if number % 3 else f"It is {one}",
            "label": number % 3 > 0,
        }
        for number, one in enumerate(words)
    ]


def trl_log(name: str, folder: str, out: Path) -> list[dict]:
    """What TRL's trainer logs of the same rows and settings, in the order in which ftkit mixes labels."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    command, asked, settings, _ = CASES[name]
    rows = rows_of(command) if command == "dpo" else interleaved(rows_of(command), SEED)
    rows = [{**row, "prompt": HEADING.format(row["prompt"])} for row in rows]
    trainers = {"orpo": (ORPOTrainer, ORPOConfig), "cpo": (CPOTrainer, CPOConfig), "simpo": (CPOTrainer, CPOConfig)}
    usual = (DPOTrainer, DPOConfig) if command == "dpo" else (KTOTrainer, KTOConfig)
    trainer_class, config_class = trainers.get(name, usual)
    settings = (asked | (settings or {})) if trainer_class is usual[0] else settings
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name in trainers:
        tokenizer.bos_token = None  # which these put before a prompt, also where its template has none
    set_seed(SEED)
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
        args=config_class(
            output_dir=str(out), max_length=256, max_steps=STEPS, per_device_train_batch_size=BATCH[command], learning_rate=RATE,
            adam_epsilon=EPSILON, logging_steps=1, use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, seed=SEED,
            save_strategy="no", report_to="none", **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


def our_log(name: str, model: str, out: Path) -> list[dict]:
    """What the command logs."""
    command, asked, _, _ = CASES[name]
    out.mkdir()
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(command)))
    flags = [
        word
        for key, value in asked.items()
        for word in (f"--{key}", *map(str, value if isinstance(value, list) else [value]))
    ]
    recipe = load_recipe(command)
    trainer = recipe.train(recipe.parse([
        "--model_name_or_path", model, "--dataset_name", str(out / "rows.jsonl"), "--output_dir", str(out / "run"),
        "--template", "alpaca", "--max_length", "256", "--max_steps", str(STEPS), "--learning_rate", str(RATE), "--adam_epsilon", str(EPSILON),
        "--seed", str(SEED), "--per_device_train_batch_size", str(BATCH[command]), "--logging_steps", "1", "--disable_tqdm",
        "--save_strategy", "no", "--bf16", "false", "--dtype", "float32", *flags,
    ]))  # fmt: skip
    return [record for record in trainer.state.log_history if "loss" in record]


@pytest.mark.parametrize(
    "name", [name if name in ("dpo", "orpo", "kto") else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
@pytest.mark.parametrize("model", ["base", pytest.param("smollm2", marks=(pytest.mark.slow, pytest.mark.smollm2))])
def test_a_run_logs_what_trl_logs_of_the_same_rows(name, model, tmp_path):
    ours = our_log(name, model, tmp_path / "ours")
    theirs = trl_log(name, local_model_folder(model), tmp_path / "theirs")
    assert len(ours) == len(theirs) == STEPS and ours[-1]["loss"] != ours[0]["loss"]
    for key in CASES[name][3]:
        assert [one[key] for one in ours] == pytest.approx([one[key] for one in theirs], rel=1e-5, abs=2e-5), key
