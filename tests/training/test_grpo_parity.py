"""Losses and logged values of `ftkit grpo` equal those of TRL's trainers by themselves, on the same recorded answers.

TRL's are given the prompts as strings, their own tokenization, rewards, reference and loss head, and no ftkit code.
"""

import json
from pathlib import Path

import pytest
from datasets import Dataset
from recorded_answers import HEADING, LONGEST, PROMPTS, recorded
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from ftkit.model.loading import local_model_folder
from ftkit.runs.recipes import load_recipe
from ftkit.training.methods.grpo import FTGRPOTrainer, FTRLOOTrainer

STEPS, SEED = {"base": 3, "smollm2": 2}, 7
SHARED = ("loss", "reward", "reward_std", "entropy", "grad_norm", "completions/mean_length", "completions/clipped_ratio",
          "rewards/{own}/mean", "frac_reward_zero_std")  # fmt: skip
SIZES = {
    name: {"per_device_train_batch_size": 4, "gradient_accumulation_steps": batches, "num_generations": 4}
    for name, batches in (("base", 2), ("smollm2", 1))
}
CASES = {  # settings of both, and what is compared beside SHARED
    "dapo": ({"loss_type": "dapo"}, ()),
    "dr_grpo, beta": ({"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.1}, ("kl",)),
    "gspo, off-policy": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "num_iterations": 2}, ("clip_ratio/high_mean",)
    ),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 5.0}, ("cispo_clip_ratio",)),
    "grpo, batch": ({"loss_type": "grpo", "scale_rewards": "batch"}, ()),
    "bnpo": ({"loss_type": "bnpo", "scale_rewards": "batch"}, ()),
    "rloo": ({"algorithm": "rloo", "beta": 0.05}, ("kl", "clip_ratio/high_mean")),
}  # fmt: skip
OWN = "def count(completions, **columns):\n    return [float(text.count('e')) + 0.1 * len(text) for text in completions]\n"


def own_reward(text: str) -> float:
    return float(text.count("e")) + 0.1 * len(text)


def trl_log(name: str, folder: str, out: Path, monkeypatch, steps: int, sizes: dict) -> list[dict]:
    """What TRL's trainer logs."""
    settings = {key: value for key, value in CASES[name][0].items() if key != "algorithm"}
    trainer_class, config_class = (RLOOTrainer, RLOOConfig) if name == "rloo" else (GRPOTrainer, GRPOConfig)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def count(prompts, completions, **columns):
        return [own_reward(text.strip()) for text in completions]

    set_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    monkeypatch.setattr(
        trainer_class, "_generate_single_turn", recorded(model.config.vocab_size, tokenizer.eos_token_id)
    )
    trainer = trainer_class(
        model=model,
        reward_funcs=count,
        args=config_class(
            output_dir=str(out), max_completion_length=LONGEST, max_steps=steps, learning_rate=1e-4, logging_steps=1,
            use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True, seed=SEED, save_strategy="no",
            report_to="none", model_init_kwargs={"dtype": "float32"}, **sizes, **settings,
        ),
        train_dataset=Dataset.from_list([{"prompt": HEADING.format(prompt)} for prompt in PROMPTS]),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


def our_log(name: str, model: str, out: Path, monkeypatch, steps: int, sizes: dict) -> list[dict]:
    """What the command logs, with its own additions off."""
    out.mkdir()
    (out / "rows.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    (out / "own.py").write_text(OWN)
    tokenizer = AutoTokenizer.from_pretrained(local_model_folder(model))
    vocabulary = AutoModelForCausalLM.from_pretrained(local_model_folder(model)).config.vocab_size
    cls = FTRLOOTrainer if name == "rloo" else FTGRPOTrainer
    monkeypatch.setattr(cls, "_generate_single_turn", recorded(vocabulary, tokenizer.eos_token_id))
    flags = [word for key, value in (sizes | CASES[name][0]).items() for word in (f"--{key}", str(value))]
    recipe = load_recipe("grpo")
    trainer = recipe.train(recipe.parse([
        "--model_name_or_path", model, "--dataset_name", str(out / "rows.jsonl"), "--output_dir", str(out / "run"),
        "--template", "alpaca", "--rewards", f"{out / 'own.py'}:count", "--max_completion_length", str(LONGEST),
        "--max_steps", str(steps), "--learning_rate", "1e-4", "--seed", str(SEED), "--logging_steps", "1",
        "--disable_tqdm", "--save_strategy", "no", "--bf16", "false", "--dtype", "float32", "--start_anyway",
        "--skip_equal_groups", "false", "--receipt_prompts", "1", *flags,
    ]))  # fmt: skip
    return [record for record in trainer.state.log_history if "loss" in record]


@pytest.mark.parametrize(
    "name",
    [name if name in ("dr_grpo, beta", "rloo") else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
@pytest.mark.parametrize("model", ["base", pytest.param("smollm2", marks=(pytest.mark.slow, pytest.mark.smollm2))])
def test_a_run_logs_what_trl_logs_of_the_same_answers(name, model, tmp_path, monkeypatch):
    steps, sizes = STEPS[model], SIZES[model]
    ours = our_log(name, model, tmp_path / "ours", monkeypatch, steps, sizes)
    theirs = trl_log(name, local_model_folder(model), tmp_path / "theirs", monkeypatch, steps, sizes)
    assert len(ours) == len(theirs) == steps and ours[-1]["loss"] != ours[0]["loss"]
    for key in (*SHARED, *CASES[name][1]):
        mine = [one.get(key.format(own=f"{tmp_path / 'ours/own.py'}:count"), 0.0) for one in ours]  # none where reused
        assert mine == pytest.approx([one.get(key.format(own="count"), 0.0) for one in theirs], rel=1e-5, abs=1e-5), key
        assert any(mine) or key not in SHARED[:5]
