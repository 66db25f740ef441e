"""Identities of policy gradients, through TRL's trainers with ftkit's additions, on recorded answers.

Each holds for the sum that the algorithm means, whatever the code does to get there; expected gradients come from plain
forward passes of single sequences, or from the loss of a part of the batch.
"""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from ftkit.inference.sampling import Sample
from ftkit.runs.lifecycle import decide_run
from ftkit.runs.opening import begin
from ftkit.runs.recipe import found
from ftkit.runs.recipes import load_recipe

END_ID, GROUP = 0, 2
OWN = """
def reward(completions, gain, **columns): return [float(text.count("b")) * scale + shift for text, scale, shift in zip(
    completions, gain, columns["shift"])]
"""


class Trained:
    """A trainer that samples what it is given. rewards of an answer: its letters b, times gain, plus shift."""

    def __init__(self, folder, out, prompts, *flags, gain=1.0, shift=0.0):
        out.mkdir(parents=True)
        (out / "own.py").write_text(OWN)
        rows = [{"prompt": one, "gain": gain, "shift": shift} for one in prompts]
        (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = load_recipe("grpo")
        settings = recipe.parse([
            "--model_name_or_path", str(folder), "--dataset_name", str(out / "rows.jsonl"), "--template", "plain",
            "--rewards", f"{out / 'own.py'}:reward", "--output_dir", str(out / "run"), "--num_generations", str(GROUP),
            "--max_completion_length", "8", "--bf16", "false", "--disable_tqdm", "--max_steps", "1", "--start_anyway",
            "--per_device_train_batch_size", str(GROUP), "--gradient_accumulation_steps", str(len(prompts)), *flags,
        ])  # fmt: skip
        method = found(recipe.method)
        data = method.prepare(settings)
        run = decide_run("grpo", method, settings, data, begin("grpo", settings, data))
        self.trainer = method.build_trainer(run, method.load(run))
        self.rows = [row for row in data.train.rows for _ in range(GROUP)]

    def recorded(self, answers: list[list[int]]) -> "Trained":
        """Let it sample these, in the order of the rows."""
        texts = [Sample(ids, "", [0.0] * len(ids), ids[-1] == END_ID) for ids in answers]
        groups = [texts[start : start + GROUP] for start in range(0, len(texts), GROUP)]
        self.trainer.sample_ids = lambda prompts, num, seed: groups[: len(prompts)]
        return self

    def batch(self, answers: list[list[int]]) -> dict:
        """What is trained on."""
        self.trainer.model.train()
        batch = self.recorded(answers).trainer._generate_and_score_completions(self.rows)
        self.trainer.check.sampled_at = None  # recorded answers have no log-probabilities
        return batch

    def gradient(self, answers: list[list[int]]) -> torch.Tensor:
        """Of the whole loss, all parameters in one row."""
        trainer = self.trainer
        trainer.current_gradient_accumulation_steps = 1
        trainer.args.steps_per_generation = 1
        batch = self.batch(answers)
        trainer.model.zero_grad()
        trainer._compute_loss(trainer.model, batch).backward()
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


@pytest.fixture(scope="module")
def answers(tiny_folder) -> list[list[int]]:
    """Of two prompts two answers each, of unequal lengths, with unequal numbers of the letter b; the third is cut."""
    from transformers import AutoTokenizer

    b = AutoTokenizer.from_pretrained(tiny_folder)("b")["input_ids"][0]
    return [[5, b, END_ID], [9, 11, 13, 17, END_ID], [b, b, 21, 23, 24, 26, 27, 28], [25, b, END_ID]]


def reinforce(trained: Trained, answers, advantages, normaliser: float) -> torch.Tensor:
    """-sum A grad log pi / normaliser, by plain forward passes of single sequences."""
    model = trained.trainer.model
    model.zero_grad()
    for row, ids, advantage in zip(trained.rows, answers, advantages, strict=True):
        whole = torch.tensor([row["prompt_ids"] + ids])
        scores = torch.log_softmax(model(input_ids=whole, use_cache=False).logits[0, :-1].float(), dim=-1)
        taken = scores[len(row["prompt_ids"]) - 1 :].gather(1, torch.tensor(ids)[:, None])
        (-advantage * taken.sum() / normaliser).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


PROMPTS = ["a longer question", "q"]


def test_the_gradient_is_that_of_reinforce(tiny_folder, tmp_path, answers):
    trained = Trained(tiny_folder, tmp_path / "a", PROMPTS, "--scale_rewards", "none")
    found = trained.gradient(answers)
    expected = reinforce(trained, answers, [0.5, -0.5, 0.5, -0.5], sum(map(len, answers)))  # b: 1, 0 and 2, 1
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_a_constant_added_to_the_rewards_changes_nothing_and_a_factor_only_without_scaling(
    tiny_folder, tmp_path, answers
):
    def gradient(name, scale, **rewards):
        return Trained(tiny_folder, tmp_path / name, PROMPTS, "--scale_rewards", scale, **rewards).gradient(answers)

    plain, scaled = gradient("plain", "none"), gradient("scaled", "group")
    torch.testing.assert_close(gradient("shift", "none", shift=3.0), plain, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(gradient("gain", "none", gain=3.0), 3 * plain, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(gradient("both", "group", gain=3.0), scaled, atol=1e-5, rtol=1e-3)  # 1e-4 beside the std


@pytest.mark.parametrize("family", ["tiny", "gpt2"])
def test_padding_and_order_change_no_log_probability(tiny_folder, tmp_path, answers, family):
    folder = tiny_folder
    if family == "gpt2":  # learned positions, which left padding would shift
        from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        folder = tmp_path / "gpt2"
        config = GPT2Config(
            vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=0
        )
        GPT2LMHeadModel(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    trained = Trained(folder, tmp_path / "run", PROMPTS)
    batch = trained.batch(answers)
    trained.trainer.current_gradient_accumulation_steps = 1
    trained.trainer._compute_loss(trained.trainer.model, batch)
    together = trained.trainer.last_logps
    model = AutoModelForCausalLM.from_pretrained(folder).train(False)
    for place, (row, ids) in enumerate(zip(trained.rows, answers, strict=True)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["prompt_ids"] + ids])).logits[0, :-1]
        alone = torch.log_softmax(logits, -1)[len(row["prompt_ids"]) - 1 :].gather(1, torch.tensor(ids)[:, None])[:, 0]
        torch.testing.assert_close(together[place, : len(ids)], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("loss_type", "is_same"), [("dapo", True), ("dr_grpo", True), ("bnpo", False)])
def test_one_batch_is_as_good_as_several_added_up(tiny_folder, tmp_path, answers, loss_type, is_same):
    trained = Trained(tiny_folder, tmp_path / "a", PROMPTS, "--loss_type", loss_type, "--scale_rewards", "none")
    whole = trained.gradient(answers)
    trainer, batch = trained.trainer, trained.batch(answers)
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 4
    for place in range(4):
        part = {name: value if value.dim() == 0 else value[place : place + 1] for name, value in batch.items()}
        trainer._compute_loss(trainer.model, part).backward()
    parts = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    assert torch.allclose(whole, parts, atol=1e-6, rtol=1e-4) is is_same


@pytest.mark.parametrize("loss_type", ["dapo", "dr_grpo", "grpo", "bnpo", "cispo", "rloo"])
def test_a_group_of_equal_rewards_changes_nothing_not_even_the_denominator(tiny_folder, tmp_path, answers, loss_type):
    flags = ["--algorithm", "rloo", "--beta", "0"] if loss_type == "rloo" else ["--loss_type", loss_type]
    equal = [[30, 31, END_ID], [32, 33, 34, END_ID]]  # none holds a b
    more = Trained(tiny_folder, tmp_path / "more", [*PROMPTS, "x"], *flags)
    less = Trained(tiny_folder, tmp_path / "less", PROMPTS, *flags)
    expected = less.gradient(answers)
    torch.testing.assert_close(more.gradient([*answers, *equal]), expected, atol=1e-6, rtol=1e-4)
    assert more.gradient([*equal, *equal, *equal]).abs().max() == 0
    more.trainer.args.skip_equal_groups = False
    assert not torch.allclose(more.gradient([*answers, *equal]), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("loss_type", "factor"), [("dr_grpo", 2.0), ("grpo", 1.0)])
def test_an_answer_twice_as_long_counts_twice_for_dr_grpo_and_once_for_grpo(tiny_folder, tmp_path, loss_type, factor):
    trainer = Trained(tiny_folder, tmp_path / "a", ["q"], "--loss_type", loss_type).trainer
    trainer.current_gradient_accumulation_steps = 1

    def weight(length: int) -> float:
        mask = (torch.arange(8)[None] < length).int()
        logps = torch.zeros(1, 8, requires_grad=True)
        trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (logps, torch.zeros(1, 8), None)
        trainer.last_logps = logps
        inputs = {
            "prompt_ids": torch.ones(1, 1, dtype=torch.long), "prompt_mask": torch.ones(1, 1, dtype=torch.long),
            "completion_ids": torch.ones(1, 8, dtype=torch.long), "completion_mask": mask,
            "advantages": torch.ones(1), "num_items_in_batch": mask.sum(),
        }  # fmt: skip
        trainer._compute_loss(trainer.model, inputs).backward()
        return logps.grad.sum().item()

    assert weight(8) == pytest.approx(factor * weight(4))


def test_a_reference_that_is_the_policy_has_no_kl_and_no_gradient(tiny_folder, tmp_path):
    trained = Trained(tiny_folder, tmp_path / "a", ["q"], "--beta", "0.5")
    assert trained.gradient([[30, 31, END_ID], [32, 33, END_ID]]).abs().max() <= 1e-6
    assert abs(trained.trainer._metrics["train"]["kl"][-1]) <= 1e-7
    with torch.no_grad():
        trained.trainer.model.lm_head.weight[5] += 1.0
    assert trained.gradient([[30, 31, END_ID], [32, 33, END_ID]]).abs().max() > 1e-4  # it is a copy, and holds
