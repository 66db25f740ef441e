"""A run of sampled answers that is killed goes on, bit for bit; what can't be trained on is refused or warned of."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ftkit.config.errors import UserError
from ftkit.runs.recipes import load_recipe
from ftkit.training.sampled import SampledMixin

# Sampled at each update; and two updates on the same answers, of two batches each.
WAYS = {
    "fresh": ("--max_steps", "3"),
    "reused": ("--max_steps", "4", "--num_iterations", "2", "--save_total_limit", "9",
               "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"),
}  # fmt: skip
MORE = ("--learning_rate", "1e-2", "--save_steps", "1", "--save_strategy", "steps", "--test_size", "4")


class Killed(Exception):
    """In the place of a signal that nobody can catch."""


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_killed_while_it_samples_goes_on_bit_for_bit(way, files, tmp_path, monkeypatch):
    whole = files.run("grpo", tmp_path / "whole", *MORE, *WAYS[way])
    sample, calls = SampledMixin._generate_single_turn, []

    def killed(self, *args, **kwargs):
        calls.append(1)
        found = sample(self, *args, **kwargs)  # in the middle: the random numbers are drawn already
        if len(calls) == 2:
            raise Killed
        return found

    monkeypatch.setattr(SampledMixin, "_generate_single_turn", killed)
    with pytest.raises(Killed):
        files.run("grpo", tmp_path / "killed", *MORE, *WAYS[way])
    monkeypatch.setattr(SampledMixin, "_generate_single_turn", sample)
    if way == "reused":  # the newest checkpoint is the one after the first update of a sampling
        shutil.rmtree(max((tmp_path / "killed").glob("checkpoint-*"), key=lambda path: int(path.name[11:])))
        assert list((tmp_path / "killed").glob("checkpoint-1/sampled_0.safetensors"))
    files.run("grpo", tmp_path / "killed", *MORE, *WAYS[way])
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(one[name].equal(other[name]) for name in one)
    logs = [
        [
            {key: value for key, value in json.loads(line).items() if "second" not in key and "memory" not in key}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1] and any("eval_reward" in line for line in logs[0])
    logged = [one for one in whole.state.log_history if "sampling/sampling_logp_difference/max" in one]
    assert logged and max(one["sampling/sampling_logp_difference/max"] for one in logged) <= 1e-4
    results = json.loads((tmp_path / "whole/results.json").read_text())
    assert results["tasks"]["rewards"]["main_metric"] == "reward"
    assert "pass@1" in (tmp_path / "whole/report.html").read_text()


def test_answers_of_other_weights_stop_the_run_with_the_cause(files, tmp_path, monkeypatch):
    sample = SampledMixin.sample_ids

    def stale(self, *args, **kwargs):
        weight = self.model.model.layers[0].mlp.down_proj.weight
        with torch.no_grad():
            weight.add_(0.5)
            found = sample(self, *args, **kwargs)
            weight.sub_(0.5)
        return found

    monkeypatch.setattr(SampledMixin, "sample_ids", stale)
    with pytest.raises(UserError, match=r"at update 1 sampled tokens have other log-probabilities .* \(a stale step\)"):
        files.run("grpo", tmp_path / "out", "--max_steps", "1", "--save_strategy", "no")


def test_answers_sampled_without_the_adapter_and_dropout_are_named(files, tmp_path, monkeypatch):
    sample = SampledMixin.sample_ids

    def without(self, *args, **kwargs):
        with self.model.disable_adapter():
            return sample(self, *args, **kwargs)

    peft = ("--use_peft", "--max_steps", "2", "--save_strategy", "no", "--learning_rate", "1")
    with pytest.raises(UserError, match="dropout is on in training; pass --disable_dropout"):
        files.run("grpo", tmp_path / "a", *peft, "--lora_dropout", "0.5", "--disable_dropout", "false")
    monkeypatch.setattr(SampledMixin, "sample_ids", without)
    with pytest.raises(UserError, match="answers were sampled without the adapter"):
        files.run("grpo", tmp_path / "b", *peft)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--rewards", "exact_answer"), "RL cannot start here: every answer has the reward 0; SFT first"),
        (("--rewards", "length:-99"), "every answer has the reward 1, so the task is too easy"),
        (("--max_completion_length", "1"), r"% of the answers reach --max_completion_length without an end"),
        (("--max_completion_length", "600"), "it is longer than the model's context of 512"),
        (("--rewards", "final_number"), "grpo.jsonl:1: reward final_number: 'BAL' has no number"),
        (("--num_generations", "3"), "4 answers are sampled at once .* no multiple of --num_generations 3"),
        (("--per_device_train_batch_size", "64"), "17 prompts do not fill a batch of 32"),
        (("--use_peft", "--lora_target_modules", "lm_head"), "lm_head"),
    ],
)
def test_what_can_teach_nothing_or_does_not_fit_stops_before_the_first_step(
    flags, message, files, tmp_path, monkeypatch
):
    given = [word for word in files.flags("grpo", tmp_path / "out") if word != "--start_anyway"]
    if "every answer" in message:  # the random model seldom ends one
        sample = SampledMixin.sample_ids
        ended = lambda *args: [[dataclasses.replace(a, is_ended=True) for a in group] for group in sample(*args)]  # noqa: E731
        monkeypatch.setattr(SampledMixin, "sample_ids", ended)
    recipe = load_recipe("grpo")
    with pytest.raises(UserError, match=message):
        recipe.train(recipe.parse([*given, "--max_steps", "1", *flags]))
    assert not list((tmp_path / "out").glob("checkpoint-*"))
