"""PPO's formulas against results worked out by hand, sums written as the papers write them, and a REINFORCE of its own."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from ftkit.model import FTGPTConfig, FTGPTForCausalLM
from ftkit.model.value_head import ValueHead, with_states
from ftkit.training.ppo import formulas

PROMPTS, ANSWERS, SCORES = ([5, 6, 7], [8], [9, 5]), ([3, 4, 1], [4, 4, 6, 2, 1], [2, 1]), (1.5, -0.5, 0.25)
MASK = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


def ragged(seed: int) -> torch.Tensor:
    """Random numbers in the shape of MASK, and rubbish outside it."""
    return torch.randn(MASK.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny(**settings) -> FTGPTForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = FTGPTConfig(**sizes, num_attention_heads=2, num_key_value_heads=2, initializer_range=0.3, **settings)
    return FTGPTForCausalLM(config).eval()


def batch(order=(0, 1, 2), extra: int = 0) -> dict:
    """The answers as PPO sees them, padded on the right. extra: columns of padding more."""
    rows = [torch.tensor(PROMPTS[number] + ANSWERS[number]) for number in order]
    ids = torch.nn.functional.pad(pad_sequence(rows, batch_first=True), (0, extra))
    places = torch.arange(ids.shape[1])
    lengths = torch.tensor([[len(PROMPTS[number]), len(PROMPTS[number] + ANSWERS[number])] for number in order])
    window = ids.shape[1] - int(lengths[:, 0].min())
    is_answer = (places >= lengths[:, :1]) & (places < lengths[:, 1:])
    return {
        "input_ids": ids, "attention_mask": (places < lengths[:, 1:]).long(), "tokens": ids[:, -window:],
        "mask": is_answer[:, -window:].long(), "scores": torch.tensor([SCORES[number] for number in order]),
    }  # fmt: skip


def ppo_gradient(model, given: dict, **settings) -> list[torch.Tensor]:
    """Of one PPO step from the policy itself, with lambda 1, gamma 1 and a value head at 0."""
    model.value = ValueHead.of(model, "shared")
    inputs = {name: given[name] for name in ("input_ids", "attention_mask")}
    logits, states = with_states(model, model, given["tokens"].shape[1], **inputs)
    log_probs = formulas.token_log_probs(logits, given["tokens"])
    values = model.value(states, **inputs)
    rewards = formulas.token_rewards(given["scores"], torch.zeros_like(log_probs), given["mask"], kl_coef=0.3)
    advantages, _ = formulas.advantages_and_returns(rewards, values.detach(), given["mask"], gamma=1.0, lam=1.0)
    cliprange = settings.get("cliprange", 1e9)
    loss, _ = formulas.policy_loss(log_probs, log_probs.detach(), advantages, given["mask"], cliprange)
    model.zero_grad()
    (loss / given["mask"].sum()).backward()
    return [one.grad.clone() for name, one in model.named_parameters() if not name.startswith("value.")]


def reinforce_gradient(model) -> list[torch.Tensor]:
    """-score * grad log pi(answer), one answer after the other, without padding; per token of them all."""
    model.zero_grad()
    for prompt, answer, score in zip(PROMPTS, ANSWERS, SCORES, strict=True):
        logits = model(torch.tensor([prompt + answer])).logits[0]
        for place, token in enumerate(answer, len(prompt) - 1):
            loss = torch.nn.functional.cross_entropy(logits[place], torch.tensor(token))
            (score * loss / sum(map(len, ANSWERS))).backward(retain_graph=True)
    return [one.grad.clone() for one in model.parameters() if one.grad is not None]


@pytest.mark.parametrize("cliprange", [1e9, 0.2], ids=["no clip", "clip, at the first step"])
def test_without_clip_and_value_it_is_reinforce(cliprange):
    wanted = reinforce_gradient(tiny())
    found = ppo_gradient(tiny(), batch(), cliprange=cliprange)
    assert max(one.abs().max() for one in wanted) > 0.01
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("position_embedding_type", ["rope", "learned"])
def test_padding_and_order_change_no_gradient(position_embedding_type):
    model = tiny(position_embedding_type=position_embedding_type)
    first, other = ppo_gradient(model, batch()), ppo_gradient(model, batch(order=(2, 0, 1), extra=4))
    for one, same in zip(first, other, strict=True):
        torch.testing.assert_close(one, same, rtol=1e-5, atol=1e-6)


def test_advantages_worked_out_by_hand():
    rewards, values, mask = (
        torch.tensor([[1.0, 2.0, 99.0]]),
        torch.tensor([[0.5, 0.25, 99.0]]),
        torch.tensor([[1, 1, 0]]),
    )
    advantages, returns = formulas.advantages_and_returns(rewards, values, mask, gamma=0.5, lam=0.5)
    # delta_1 = 2 - 0.25 = 1.75; delta_0 = 1 + 0.5 * 0.25 - 0.5 = 0.625; A_0 = 0.625 + 0.25 * 1.75 = 1.0625
    assert advantages.tolist() == [[1.0625, 1.75, 0.0]] and returns.tolist() == [[1.5625, 2.0, 0.0]]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.95), (1.0, 0.0), (0.7, 1.0)])
def test_advantages_are_the_sum_of_the_paper(gamma, lam):
    rewards, values = ragged(0), ragged(1)
    advantages, returns = formulas.advantages_and_returns(rewards, values, MASK, gamma, lam)
    for row in range(len(MASK)):
        places = MASK[row].nonzero()[:, 0].tolist()
        ends = [*(values[row, place] for place in places), torch.zeros(())]
        for start, place in enumerate(places):
            wanted = sum(
                (gamma * lam) ** (number - start)
                * (rewards[row, places[number]] + gamma * ends[number + 1] - ends[number])
                for number in range(start, len(places))
            )
            assert advantages[row, place].item() == pytest.approx(wanted.item(), abs=1e-12)
            assert returns[row, place].item() == pytest.approx((wanted + values[row, place]).item(), abs=1e-12)
    assert not advantages[MASK == 0].any() and not returns[MASK == 0].any()


def test_the_score_is_of_the_last_token_and_the_kl_of_each():
    rewards = formulas.token_rewards(torch.tensor([1.0, 2.0, 3.0]), torch.full(MASK.shape, 0.5), MASK, kl_coef=0.2)
    wanted = [[-0.1, -0.1, 0.9, 0, 0], [0, -0.1, -0.1, -0.1, 1.9], [2.9, 0, 0, 0, 0]]
    torch.testing.assert_close(rewards, torch.tensor(wanted))


def test_whitening_sees_no_padding():
    values = ragged(2)
    white = formulas.whitened(values, MASK)
    kept = white[MASK.bool()]
    assert kept.mean().item() == pytest.approx(0, abs=1e-12) and kept.var(correction=0).item() == pytest.approx(1)
    assert not white[MASK == 0].any()
    torch.testing.assert_close(formulas.whitened(values.masked_fill(MASK == 0, 1e6), MASK), white)


def test_whitening_over_two_processes_is_that_of_their_tokens_together():
    values, parts = ragged(3), (slice(0, 2), slice(2, 3))
    counts = [torch.stack([m.sum().double(), (v * m).sum()]) for v, m in ((values[p], MASK[p]) for p in parts)]
    mean = sum(counts)[1] / sum(counts)[0]
    squares = [((values[p] - mean).square() * MASK[p]).sum() for p in parts]
    for part in parts:
        answers = iter([sum(counts), sum(squares)])
        found = formulas.whitened(values[part], MASK[part], lambda one, answers=answers: next(answers))
        torch.testing.assert_close(found, formulas.whitened(values, MASK)[part])


@pytest.mark.parametrize(("ratio", "advantage", "loss", "clipped"), [
    (1.0, 2.0, -2.0, 0), (1.5, 2.0, -2.4, 1), (0.5, 2.0, -1.0, 0), (1.5, -2.0, 3.0, 0), (0.5, -2.0, 1.6, 1),
])  # fmt: skip
def test_the_clip_holds_back_what_has_gone_far_enough(ratio, advantage, loss, clipped):
    log_prob = torch.tensor([[ratio]]).log().requires_grad_()
    given = torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1)
    found, held_back = formulas.policy_loss(log_prob, *given, cliprange=0.2)
    found.backward()
    assert found.item() == pytest.approx(loss) and held_back.item() == clipped
    assert bool(log_prob.grad.any()) == (not clipped)


@pytest.mark.parametrize(("value", "loss"), [(1.1, 0.5 * 0.9**2), (1.9, 0.5 * 0.8**2), (0.0, 0.5 * 2.0**2)])
def test_a_value_that_has_gone_far_enough_gains_no_more(value, loss):
    one, old, wanted = torch.tensor([[value]], requires_grad=True), torch.ones(1, 1), torch.full((1, 1), 2.0)
    found = formulas.value_loss(one, old, wanted, torch.ones(1, 1), cliprange=0.2)
    found.backward()
    assert found.item() == pytest.approx(loss) and bool(one.grad.any()) == (value != 1.9)


def test_values_that_are_the_returns_explain_all_and_a_constant_nothing():
    returns, total = ragged(4), lambda sums: sums  # noqa: E731
    assert formulas.explained_variance(returns, returns, MASK, total) == 1
    assert formulas.explained_variance(torch.full_like(returns, 7.0), returns, MASK, total) == pytest.approx(0)


@pytest.mark.parametrize(
    ("kl", "factor"), [(6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (5.4, 0.99), (0.0, 0.98), (-1, 0.98)]
)
def test_the_kl_weight_follows_its_target_by_at_most_two_percent(kl, factor):
    assert formulas.adapted_kl_coef(0.2, kl, target=6.0) == pytest.approx(0.2 * factor)


def test_entropy_and_log_probs_are_of_the_distribution_that_was_sampled():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    tokens = logits.argmin(dim=-1)
    wanted = torch.distributions.Categorical(logits=logits / 0.7)
    torch.testing.assert_close(formulas.token_log_probs(logits, tokens, 0.7), wanted.log_prob(tokens))
    torch.testing.assert_close(formulas.entropy(logits, 0.7), wanted.entropy())
