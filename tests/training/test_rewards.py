"""Rewards by name: a person's own function, missing rewards, a reward model and a judge."""

import re
from types import SimpleNamespace

import pytest
import torch

from ftkit.config.errors import UserError
from ftkit.inference import judging
from ftkit.inference.completion import Reply
from ftkit.training import rewards as module
from ftkit.training.rewards import check_columns, load_reward, load_rewards, score, total, with_missing_filled

NAN = float("nan")
PROMPTS = [[{"role": "user", "content": "2 + 2?"}]] * 2
OWN = """
import math
def right(completions, answer, **others): return [float(a == b) for a, b in zip(completions, answer)]
def narrow(completions): return [None for _ in completions]
def short(completions, **others): return [1.0]
def single(completions, **others): return 1.0
def not_finite(completions, **others): return [1.0, math.nan]
def fails(completions, **others): return [completions[0]["content"]]
def words(completions, **others): return ["good", "bad"]
"""


def own(tmp_path, function: str):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return load_reward(f"{path}:{function}")


def test_several_rewards_are_scored_and_weighted(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    rewards = load_rewards(["exact_answer", f"{path}:right", f"{path}:narrow"], [1, 0.5, 7])
    found = score(rewards, PROMPTS, ["4", "5"], {"answer": ["4", "4"]})
    torch.testing.assert_close(
        found, torch.tensor([[1.0, 1.0, NAN], [0.0, 0.0, NAN]], dtype=torch.float64), equal_nan=True
    )
    assert total(found, torch.tensor([1, 0.5, 7], dtype=torch.float64)).tolist() == [1.5, 0.0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("short", "own.py:short: gave 1 rewards for 2 answers; give one for each"),
        ("single", "own.py:single: gave float; give a list"),
        ("not_finite", "own.py:not_finite: reward 2 is nan; give a finite number, or None"),
        ("fails", "own.py:fails: the function failed (string indices must be integers"),
        ("words", "own.py:words: reward 1 is 'good'"),
    ],
)
def test_a_mistake_in_a_persons_function_is_one_line_that_names_it(tmp_path, function, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        own(tmp_path, function)(PROMPTS, ["4", "5"], {})
    assert "\n" not in str(caught.value)


def test_a_missing_reward_moves_nothing():
    rewards = torch.tensor([[1.0, 2.0], [3.0, NAN], [NAN, NAN], [5.0, 4.0]], dtype=torch.float64)
    filled = with_missing_filled(rewards, 4)
    assert filled[1].tolist() == [3.0, 3.0]  # the mean of 2 and 4
    assert filled[2].isnan().all()  # an answer that nobody scored
    found = total(filled, torch.ones(2, dtype=torch.float64))
    assert found.nanmean() == pytest.approx(6.0)  # 3 + 3: the means of what is there
    whole = with_missing_filled(torch.tensor([[1.0, NAN], [2.0, NAN]]), 2)
    assert whole[:, 1].isnan().all()  # a group without that reward


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ([], None, "--rewards is missing"),
        (["json", "json"], None, "--rewards names json twice"),
        (["json"], [1, 2], "--reward_weights has 2 weights for 1 rewards"),
        (["json"], [0], "--reward_weights are all 0"),
        (["none.py:f"], None, "there is no file none.py"),
        (["reward_model"], None, "names no model; write reward_model:runs/reward"),
        (["judge:llama3.2"], None, "write judge:MODEL@URL"),
    ],
)
def test_names_and_weights_that_do_not_fit_are_refused(names, weights, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_rewards(names, weights)


def test_a_function_that_the_file_lacks_is_named_with_those_it_has(tmp_path):
    with pytest.raises(UserError, match='has no function "rigth"; did you mean "right"'):
        own(tmp_path, "rigth")


def test_a_column_that_no_row_has_is_refused_and_one_that_is_of_no_use_is_named():
    rows = [{"columns": {}, "source": "a.jsonl:1"}, {"columns": {"answer": "many"}, "source": "a.jsonl:2"}]
    with pytest.raises(UserError, match='a.jsonl:1: reward exact_answer needs the column "answer"'):
        check_columns(load_rewards(["exact_answer"]), rows[:1])
    check_columns(load_rewards(["exact_answer"]), rows)  # one of two: the other has no such reward
    with pytest.raises(UserError, match="a.jsonl:2: reward final_number: 'many' has no number"):
        check_columns(load_rewards(["final_number"]), rows)


def test_a_reward_model_scores_the_conversation_with_the_answer(monkeypatch):
    seen = []
    model = SimpleNamespace(scores=lambda conversations: seen.extend(conversations) or [0.5, -1.0])
    monkeypatch.setattr(module, "load_reward_model", lambda folder: model)
    reward = load_reward("reward_model:runs/reward", 2.0)
    assert reward(PROMPTS, ["4", "5"], {}) == [0.5, -1.0] and reward.weight == 2.0
    assert seen[1] == [*PROMPTS[1], {"role": "assistant", "content": "5"}]


def test_a_judges_reply_that_is_no_score_is_a_missing_reward(monkeypatch):
    replies = [Reply("80"), Reply("I would say 90")]
    asked = []
    monkeypatch.setattr(
        judging,
        "ask_all",
        lambda endpoint, conversations: asked.append((endpoint, conversations)) or enumerate(replies),
    )
    found = load_reward("judge:llama3.2@http://127.0.0.1:1/v1")(PROMPTS, ["4", "5"], {"answer": ["4", None]})
    assert found[0] == 0.8 and found[1] != found[1]
    endpoint, conversations = asked[0]
    assert (endpoint.url, endpoint.model) == ("http://127.0.0.1:1/v1", "llama3.2")
    assert "<reference>\n4\n</reference>" in conversations[0][0]["content"]
    assert "<reference>" not in conversations[1][0]["content"]
