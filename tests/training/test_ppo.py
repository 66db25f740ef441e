"""PPO learns a reward and only that, on a tiny model; its parts act as their papers say."""

import ast
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

import ftkit
from ftkit.config.errors import UserError
from ftkit.config.settings.ppo import PPOArguments
from ftkit.inference.sampling import sample
from ftkit.model import FTGPTConfig, FTGPTForCausalLM
from ftkit.model.value_head import ValueHead, copy_sharing_frozen
from ftkit.training.ppo.rollout import prompt_places
from ftkit.training.ppo.trainer import PPOTrainer

END_ID = 0


def tiny() -> FTGPTForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    return FTGPTForCausalLM(FTGPTConfig(**sizes, num_attention_heads=2, num_key_value_heads=2, pad_token_id=1))


@pytest.fixture(scope="module")
def make(tiny_folder, tmp_path_factory):
    """Makes a trainer of a fresh tiny model from settings."""

    def made(score, **settings) -> PPOTrainer:
        given = {
            "output_dir": str(tmp_path_factory.mktemp("ppo")), "per_device_train_batch_size": 16, "num_mini_batches": 2,
            "num_ppo_epochs": 2, "max_completion_length": 8, "max_steps": 40, "rewards": ["json"], "learning_rate": 3e-3, "report_to": "none",
            "lr_scheduler_type": "constant", "logging_steps": 4, "save_strategy": "no", "disable_tqdm": True,
        } | settings  # fmt: skip
        decided = {"bf16": False, "use_cpu": True, "activation_checkpointing": False, "fused_lora": False}
        model = tiny()
        reference = copy_sharing_frozen(model).requires_grad_(False)
        args = PPOArguments(**given).configured(decided)
        model.value = ValueHead.of(model, args.value_trunk)
        prompts = Dataset.from_list([{"prompt_ids": [number % 250 + 2, 7]} for number in range(64)])
        return PPOTrainer(
            model=model, args=args, train_dataset=prompts, processing_class=AutoTokenizer.from_pretrained(tiny_folder),
            reference=reference, score=score, end_ids=[END_ID],
        )  # fmt: skip

    return made


def small_tokens(prompts, samples) -> list[float]:
    """The share of an answer's tokens that are below 100."""
    return [sum(token < 100 for token in one.ids) / len(one.ids) for one in samples]


def curve(trainer, name: str) -> list[float]:
    return [record[name] for record in trainer.state.log_history if name in record]


def test_it_learns_what_is_rewarded_and_a_random_reward_teaches_nothing(make):
    def shares(trainer) -> torch.Tensor:
        """Of the answers to every prompt, drawn with one seed."""
        prompts = [row["prompt_ids"] for row in trainer.train_dataset] * 4
        groups = sample(
            trainer.model, trainer.processing_class, prompts, num_samples=1, max_new_tokens=8, end_ids=[END_ID],
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        return torch.tensor(small_tokens(prompts, [group[0] for group in groups]))

    random = torch.Generator().manual_seed(0)
    learner = make(small_tokens)
    control = make(lambda prompts, samples: torch.rand(len(samples), generator=random).tolist())
    before = shares(learner)
    for trainer in (learner, control):
        trainer.train()
    gained, drifted = (shares(trainer) - before for trainer in (learner, control))
    error = (gained.var() / len(gained)).sqrt()
    assert gained.mean() > 0.1 + 4 * error and drifted.mean().abs() < 0.04 + 2 * error
    assert curve(learner, "reward")[-1] > curve(learner, "reward")[0] + 0.1
    assert curve(learner, "kl")[0] == 0 < curve(learner, "kl")[-1]


def digest(trainer) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in trainer.model.named_parameters()}


def test_a_run_goes_on_bit_for_bit_in_the_middle_of_a_rollout(make, tmp_path):
    settings = {
        "save_strategy": "steps",
        "save_steps": 5,
        "max_steps": 10,
        "kl_target": 0.01,
        "output_dir": str(tmp_path),
    }
    whole = make(small_tokens, **settings, value_trunk="separate")
    whole.train()
    shutil.rmtree(tmp_path / "checkpoint-10")
    scored = []
    later = make(lambda *given: scored.append(1) or small_tokens(*given), **settings, value_trunk="separate")
    later.train(resume_from_checkpoint=True)
    assert len(scored) == 1  # the rollout that updates 5 to 7 learn from was kept, the one of 8 and 9 is new
    assert later.kl_coef == whole.kl_coef != 0.05
    for name, one in digest(whole).items():
        assert torch.equal(one, digest(later)[name]), name
    assert curve(later, "reward") == curve(whole, "reward")


class Killed(Exception):
    """In the place of a signal that nobody can catch."""


def test_a_run_that_is_killed_while_it_samples_goes_on_bit_for_bit(make, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8, "kl_target": 0.01}
    whole = make(small_tokens, **settings)
    whole.train()
    killed, calls = make(small_tokens, **settings, output_dir=str(tmp_path)), []
    sample_ids = killed.sample_ids

    def sample_and_die(*args):
        calls.append(sample_ids(*args))  # in the middle: the random numbers are drawn already
        if len(calls) == 2:
            raise Killed
        return calls[-1]

    killed.sample_ids = sample_and_die
    with pytest.raises(Killed):
        killed.train()
    later = make(small_tokens, **settings, output_dir=str(tmp_path))
    later.train(resume_from_checkpoint=True)
    assert later.kl_coef == whole.kl_coef
    for name, one in digest(whole).items():
        assert torch.equal(one, digest(later)[name]), name
    assert curve(later, "reward") == curve(whole, "reward")


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_a_split_of_the_batch_changes_nothing(make, trunk):
    runs = [
        make(small_tokens, max_steps=2, per_device_train_batch_size=size, gradient_accumulation_steps=16 // size,
             value_trunk=trunk, max_grad_norm=0.0, optim="sgd", learning_rate=0.1)
        for size in (16, 2)
    ]  # fmt: skip
    start = digest(runs[0])
    for trainer in runs:
        trainer.train()
    one, other = map(digest, runs)
    for name in start:
        torch.testing.assert_close(one[name] - start[name], other[name] - start[name], rtol=1e-3, atol=1e-7)


def test_the_trainer_scores_tokens_as_the_sampler_did(make):
    trainer = make(small_tokens)
    kept = []
    trainer.score = lambda prompts, samples: kept.extend(samples) or small_tokens(prompts, samples)
    rollout = trainer.new_rollout(0)
    for row, one in enumerate(kept):
        found = rollout["log_probs"][row][rollout["mask"][row].bool()]
        torch.testing.assert_close(found, torch.tensor(one.log_probs), rtol=0, atol=1e-4)


def test_the_first_update_starts_from_the_policy_that_was_sampled(make):
    trainer = make(small_tokens, max_steps=1, logging_steps=1)
    assert any(isinstance(one, torch.nn.Dropout) for one in trainer.model.modules())
    trainer.train()
    assert curve(trainer, "clip_ratio") == [0.0]


def test_reference_and_policy_are_one_at_the_start(make):
    trainer = make(small_tokens)
    trainer.new_rollout(0)
    assert trainer.measures["kl"] == 0


def test_the_value_head_has_its_own_rate_and_all_weights_one_place(make):
    trainer = make(small_tokens, value_learning_rate=0.5)
    groups = trainer.create_optimizer().param_groups
    rates = {id(one): group["lr"] for group in groups for one in group["params"]}
    for name, one in trainer.model.named_parameters():
        assert rates[id(one)] == (0.5 if name.startswith("value.") else 3e-3)
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))


def test_a_cut_answer_pays_and_one_without_a_score_teaches_nothing(make):
    trainer = make(small_tokens, missing_eos_penalty=2.0, whiten_advantages=False, lam=1.0)
    rollout = trainer.new_rollout(0)
    mask = rollout["mask"].clone()
    rollout |= {"kl": torch.zeros_like(mask), "entropy": torch.zeros_like(mask)}
    count = len(mask)
    trainer.weigh(rollout, [0.5, float("nan")] + [1.0] * (count - 2), [False, False] + [True] * (count - 2))
    for row, wanted in enumerate([0.5, 0.0] + [-1.0] * (count - 2)):
        torch.testing.assert_close(rollout["advantages"][row], wanted * mask[row])
    assert not rollout["mask"][1].any() and torch.equal(rollout["mask"][0], mask[0])


def test_no_reward_at_all_is_refused(make):
    with pytest.raises(UserError, match="no answer of a rollout has a reward"):
        make(lambda prompts, samples: [float("nan")] * len(samples)).train()


def test_each_prompt_has_its_turn_in_a_pass_and_the_next_pass_is_mixed_anew():
    turns = [prompt_places(rollout, num_prompts=11, size=4, seed=3) for rollout in range(4)]
    assert all(len(turn) == 4 for turn in turns)
    assert len({*turns[0], *turns[1]}) == len({*turns[2], *turns[3]}) == 8 and turns[0] != turns[2]
    assert prompt_places(3, num_prompts=11, size=4, seed=None) == [4, 5, 6, 7]


def test_the_whole_of_it_is_short_enough_to_be_read():
    package = Path(ftkit.__file__).parent
    files = [*package.glob("training/ppo/*.py"), package / "training/methods/ppo.py", package / "model/value_head.py"]
    code = 0
    for file in files:
        text = file.read_text()
        docstrings = [
            node.body[0] for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        ]  # fmt: skip
        skipped = {line for one in docstrings for line in range(one.lineno, one.end_lineno + 1)}
        lines = [line.strip() for number, line in enumerate(text.split("\n"), 1) if number not in skipped]
        code += sum(bool(line) and not line.startswith("#") for line in lines)
    assert len(files) == 7 and code < 400
