"""TRL's trainers train the same with the compact head as with TRL's own: every logged value and every weight."""

import copy

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.trainer import utils as trl_utils

if not hasattr(trl_utils, "add_fused_lm_head"):
    pytest.skip("TRL before 1.16 has no head to take over", allow_module_level=True)

from ftkit.model.fast import chunked_log_probs as chunked  # noqa: E402
from ftkit.model.fast.loss_head import use_compact_loss_heads  # noqa: E402

WORDS = ["bal", "com", "dun", "fep", "gir", "hos", "jat", "kuv"]
LORA = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
NOT_COMPARED = ("time", "runtime", "per_second", "flos")


def dpo_rows():
    return [
        {"prompt": f"Say {word}: ", "chosen": word.upper() * (1 + i % 3), "rejected": word}
        for i, word in enumerate(WORDS)
    ]


def kto_rows():
    return [{"prompt": f"Say {word}: ", "completion": word.upper(), "label": i % 3 > 0} for i, word in enumerate(WORDS)]


def grpo_rows():
    return [{"prompt": f"Say {word}: "} for word in WORDS]


def length_reward(completions, **_):
    return [float(len(completion) % 7) for completion in completions]


TRAINERS = {
    "dpo": (DPOTrainer, DPOConfig, dpo_rows, {}),
    "kto": (KTOTrainer, KTOConfig, kto_rows, {}),
    "grpo": (
        GRPOTrainer, GRPOConfig, grpo_rows,
        {"num_generations": 2, "max_completion_length": 6, "temperature": 0.7, "beta": 0.04},
    ),
}  # fmt: skip
CASES = {
    "dpo": ("dpo", False, {}),
    "dpo lora": ("dpo", True, {}),
    "dpo wpo": ("dpo", True, {"use_weighting": True}),
    "dpo ipo, length-desensitised": ("dpo", False, {"loss_type": ["ipo"], "ld_alpha": 0.5}),
    "dpo in bf16": ("dpo", False, {"bf16": True}),
    "dpo, reference computed beforehand": ("dpo", False, {"precompute_ref_log_probs": True}),
    "kto": ("kto", False, {}),
    "kto lora": ("kto", True, {}),
    "grpo": ("grpo", False, {}),
    "grpo, entropy bonus, head in float32": ("grpo", False, {"entropy_coef": 0.1, "cast_lm_head_to_fp32": True}),
    "grpo lora": ("grpo", True, {}),
}


def build(folder, output_dir, name, lora, arguments):
    """A TRL trainer over a tiny model, evaluated before and after two updates of two accumulated microbatches."""
    trainer_class, config_class, rows, settings = TRAINERS[name]
    dataset = Dataset.from_list(rows())
    config = config_class(
        output_dir=str(output_dir), max_steps=2, per_device_train_batch_size=2, per_device_eval_batch_size=4,
        gradient_accumulation_steps=2, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
        learning_rate=1e-3, disable_tqdm=True, seed=1, eval_strategy="no" if name == "grpo" else "steps", eval_steps=1,
        **{"bf16": False, "gradient_checkpointing": False, **settings, **arguments},
    )  # fmt: skip
    extra = {"reward_funcs": length_reward} if name == "grpo" else {}
    if name != "grpo":
        extra["eval_dataset"] = dataset.select(range(4))
    if name in ("dpo", "kto") and not lora:
        extra["ref_model"] = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    peft_config = copy.deepcopy(LORA) if lora else None
    return trainer_class(
        model=model, args=config, train_dataset=dataset, processing_class=tokenizer, peft_config=peft_config, **extra
    )


def train(trainer):
    trainer.train()
    logged = [
        {key: value for key, value in entry.items() if not any(word in key for word in NOT_COMPARED)}
        for entry in trainer.state.log_history
    ]
    return logged, dict(trainer.model.named_parameters())


@pytest.mark.parametrize("case", CASES)
def test_trains_as_with_trls_head(case, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(chunked, "VOCABULARY_TILE", 128)
    scored, original = [], chunked.LinearHead.logits
    monkeypatch.setattr(
        chunked.LinearHead, "logits", lambda *args: (scored.append(torch.is_grad_enabled()), original(*args))[1]
    )
    name, lora, arguments = CASES[case]
    expected, reference = train(build(tiny_folder, tmp_path, name, lora, arguments))
    assert not scored
    trainer = build(tiny_folder, tmp_path, name, lora, arguments)
    assert use_compact_loss_heads(trainer) == "compact"
    logged, ours = train(trainer)
    assert scored
    assert len(logged) == len(expected) > 1
    tolerance = 2e-2 if arguments.get("bf16") else 1e-5
    for theirs, own in zip(expected, logged, strict=True):
        assert own == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    for key, parameter in ours.items():
        error = (parameter - reference[key]).norm() / reference[key].norm().clamp(min=1e-12)
        assert error <= tolerance, key


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("lora", [False, True])
def test_no_pass_of_dpo_reaches_trls_head(lora, bf16, tiny_folder, tmp_path, monkeypatch):
    trainer = build(tiny_folder, tmp_path, "dpo", lora, {"bf16": bf16})
    use_compact_loss_heads(trainer)
    monkeypatch.setattr(trl_utils, "_ChunkedLogProbFunction", None)  # a call would raise
    dtypes, original = set(), chunked.LinearHead.logits
    monkeypatch.setattr(chunked.LinearHead, "logits", lambda *args: (dtypes.add(args[1].dtype), original(*args))[1])
    logged, _ = train(trainer)
    assert sum("eval_loss" in entry for entry in logged) == 2
    assert dtypes == {torch.bfloat16 if bf16 else torch.float32}  # autocast reaches the reference's head too


def test_what_trl_does_not_ask_for_is_none(tiny_folder, tmp_path):
    trainer = build(tiny_folder, tmp_path, "dpo", False, {})
    use_compact_loss_heads(trainer)
    ids = torch.tensor([[5, 6, 7]])
    policy = trainer.model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert {key for key, value in policy.items() if value is not None} == {
        "loss", "log_probs", "entropy", "mean_logits", "is_top1", "label_mask",
    }  # fmt: skip
    reference = trainer.ref_model(input_ids=ids, labels=ids, fused_lm_head=True)
    assert {key for key, value in reference.items() if value is not None} == {"loss", "log_probs", "label_mask"}


def test_reward_modelling_has_no_head_to_take_over(tiny_folder, tmp_path):
    config = RewardConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    rows = Dataset.from_list([{"chosen": row["chosen"], "rejected": row["rejected"]} for row in dpo_rows()])
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    trainer = RewardTrainer(model=str(tiny_folder), args=config, train_dataset=rows, processing_class=tokenizer)
    with pytest.raises(ValueError, match="has no fused_lm_head"):
        use_compact_loss_heads(trainer)
