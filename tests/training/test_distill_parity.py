"""Losses and logged values of `ftkit distill --answers student` equal those of TRL's trainer on the same recorded answers.

TRL's is given the prompts as strings, its own tokenization, both models and their heads, and no ftkit code.
"""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from recorded_answers import HEADING, LONGEST, PROMPTS, recorded
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import DistillationConfig, DistillationTrainer

from ftkit.model.loading import load_tokenizer, local_model_folder
from ftkit.runs.recipes import load_recipe
from ftkit.training.distill.on_policy import FTOnPolicyTrainer

STEPS, SEED = 2, 7
CASES = {"reverse KL": {"beta": 1.0}, "JSD, softened": {"beta": 0.5, "temperature": 1.5}, "forward KL": {"beta": 0.0}}
SHARED = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "adam_epsilon": 1e-4,
    "learning_rate": 1e-4,
}
LOGGED = ("loss", "grad_norm", "entropy", "num_tokens", "completions/mean_length", "completions/clipped_ratio")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """The folder of a teacher, by its student's name: the same model, each weight a little off."""
    made = {}

    def of(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            model = AutoModelForCausalLM.from_pretrained(local_model_folder(name), dtype="float32")
            noise = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(torch.randn(weight.shape, generator=noise) * 0.1 * weight.std(correction=0))
            model.save_pretrained(folder)
            tokenizer = load_tokenizer(local_model_folder(name))
            tokenizer.chat_template = None  # so that it may be asked by any
            tokenizer.save_pretrained(folder)
            made[name] = folder
        return made[name]

    return of


def trl_log(case: str, folder: str, teacher: Path, out: Path, monkeypatch) -> list[dict]:
    """What TRL's trainer logs."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    set_seed(SEED)
    model, said = (AutoModelForCausalLM.from_pretrained(path, dtype="float32") for path in (folder, teacher))
    answers = recorded(model.config.vocab_size, tokenizer.eos_token_id)
    monkeypatch.setattr(DistillationTrainer, "_generate_single_turn", answers)
    trainer = DistillationTrainer(
        model=model,
        teacher_model=said,
        args=DistillationConfig(
            output_dir=str(out), max_completion_length=LONGEST, max_steps=STEPS, logging_steps=1, use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, seed=SEED, save_strategy="no", report_to="none", **SHARED,
            **CASES[case],
        ),
        train_dataset=Dataset.from_list([{"prompt": HEADING.format(prompt)} for prompt in PROMPTS]),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


def our_log(case: str, model: str, teacher: Path, out: Path, monkeypatch) -> list[dict]:
    """What the command logs."""
    out.mkdir()
    rows = [{"prompt": prompt, "completion": "one"} for prompt in PROMPTS]
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = local_model_folder(model)
    vocabulary = AutoModelForCausalLM.from_pretrained(folder).config.vocab_size
    answers = recorded(vocabulary, AutoTokenizer.from_pretrained(folder).eos_token_id)
    monkeypatch.setattr(FTOnPolicyTrainer, "_generate_single_turn", answers)
    flags = [word for key, value in (SHARED | CASES[case]).items() for word in (f"--{key}", str(value))]
    recipe = load_recipe("distill")
    trainer = recipe.train(recipe.parse([
        "--model_name_or_path", model, "--teacher", str(teacher), "--answers", "student", "--dataset_name",
        str(out / "rows.jsonl"), "--output_dir", str(out / "run"), "--template", "alpaca", "--max_completion_length",
        str(LONGEST), "--max_steps", str(STEPS), "--seed", str(SEED), "--logging_steps", "1", "--disable_tqdm",
        "--save_strategy", "no", "--bf16", "false", "--dtype", "float32", "--teacher_dtype", "float32", *flags,
    ]))  # fmt: skip
    return [record for record in trainer.state.log_history if "loss" in record]


@pytest.mark.parametrize(
    "case", [name if name == "JSD, softened" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
@pytest.mark.parametrize("model", ["base", pytest.param("smollm2", marks=(pytest.mark.slow, pytest.mark.smollm2))])
def test_a_run_logs_what_trl_logs_of_the_same_answers(case, model, teachers, tmp_path, monkeypatch):
    teacher = teachers(model)
    ours = our_log(case, model, teacher, tmp_path / "ours", monkeypatch)
    theirs = trl_log(case, local_model_folder(model), teacher, tmp_path / "theirs", monkeypatch)
    assert len(ours) == len(theirs) == STEPS and ours[0]["loss"] > 1e-3 and ours[-1]["loss"] != ours[0]["loss"]
    for key in LOGGED:
        assert [one[key] for one in ours] == pytest.approx([one[key] for one in theirs], rel=1e-5, abs=1e-5), key
