"""The losses of `ftkit distill`: identities, values by hand, TRL's own losses, and chunks against the whole."""

import math

import pytest
import torch
from trl.experimental.gkd import GKDTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from ftkit.config.versions import has_fused_head
from ftkit.model.fast.chunked_sum import chunked_sum
from ftkit.training.distill.divergence import Loss, Top, divergence, top_of, with_tail

BETAS = (0.0, 0.3, 0.5, 1.0)
STUDENT = [0.4, 0.3, 0.2, 0.05, 0.05]  # of five tokens
TEACHER = [0.1, 0.2, 0.3, 0.15, 0.25]


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def soft(beta: float, temperature: float = 1.0, num_tokens: int = 50) -> Loss:
    return Loss(beta, temperature, 0.0, num_tokens)


def by_hand(beta: float) -> float:
    """The divergence of STUDENT from TEACHER by its definition, token by token."""
    kl = lambda p, q: sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))  # noqa: E731
    if beta in (0, 1):
        return kl(TEACHER, STUDENT) if beta == 0 else kl(STUDENT, TEACHER)
    mixture = [beta * t + (1 - beta) * s for t, s in zip(TEACHER, STUDENT, strict=True)]
    return beta * kl(TEACHER, mixture) + (1 - beta) * kl(STUDENT, mixture)


@pytest.mark.parametrize("beta", BETAS)
def test_the_sum_over_five_tokens_is_the_one_by_hand(beta):
    found = divergence(torch.tensor([STUDENT]).log(), torch.tensor([TEACHER]).log(), beta)
    assert found.item() == pytest.approx(by_hand(beta), abs=1e-6)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("num", [None, 3, 50], ids=["whole", "top 3", "top of all"])
def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient(beta, num):
    student = logits(7, 50).requires_grad_()
    teacher = student.detach() if num is None else top_of(student.detach(), num, 2.0)
    loss = soft(beta, 2.0).sums(student, torch.zeros(7, dtype=torch.long), teacher)[0]
    loss.backward()
    assert abs(loss.item()) < 1e-5 and student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_it_is_the_loss_of_gkd_times_the_square_of_the_temperature(beta, temperature):
    student, teacher = logits(2, 9, 50), logits(2, 9, 50, seed=1)
    labels = torch.arange(18).view(2, 9).masked_fill(torch.arange(9) < 4, -100)
    expected = GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta, temperature)
    kept = labels != -100
    found = soft(beta, temperature).sums(student[kept], labels[kept], teacher[kept])
    assert found[0].item() / kept.sum().item() == pytest.approx(temperature**2 * expected.item(), rel=1e-5)
    assert found[1].item() / kept.sum().item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("beta", BETAS)
def test_through_two_heads_it_is_the_loss_of_trls_distillation_trainer(beta):
    hidden, wide = logits(1, 11, 8).requires_grad_(), logits(1, 11, 6, seed=2)
    head, teacher_head = torch.nn.Linear(8, 50, bias=False), torch.nn.Linear(6, 50, bias=False)
    mask = torch.ones(1, 11, dtype=torch.long)
    arguments = (hidden, wide, head.weight, teacher_head.weight, mask, beta)
    chunk = {} if has_fused_head() else {"chunk_size": 4}  # which TRL chooses itself since 1.16
    expected, _, _ = _chunked_divergence_loss(*arguments, temperature=1.5, **chunk)
    wanted = torch.autograd.grad(expected, [hidden, head.weight])

    def score(logits_nV, rows):
        return soft(beta, 1.5).sums(
            logits_nV, torch.zeros(len(logits_nV), dtype=torch.long), teacher_head(wide[0, rows])
        )

    total, sums = chunked_sum(hidden[0], head, score, chunk_size=4)
    loss = total / 11 / 1.5**2
    found = torch.autograd.grad(loss, [hidden, head.weight])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6) and sums[0].item() / 11 == pytest.approx(loss.item())
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
@pytest.mark.parametrize("kept", [False, True], ids=["asked", "kept"])
def test_chunks_have_the_value_and_the_gradients_of_the_whole(chunk_size, kept):
    hidden, head, teacher = logits(10, 8).requires_grad_(), torch.nn.Linear(8, 50), logits(10, 50, seed=3)
    targets, mixed = torch.arange(10), Loss(0.5, 2.0, 0.3, 50)
    top = top_of(teacher, 5, 2.0)

    def said(rows):
        return Top(*(part[rows] for part in top)) if kept else teacher[rows]

    whole = mixed.sums(head(hidden), targets, said(slice(None)))
    (whole[0] * 3).backward()
    wanted = [tensor.grad.clone() for tensor in (hidden, head.weight, head.bias)]
    for tensor in (hidden, head.weight, head.bias):
        tensor.grad = None
    total, sums = chunked_sum(
        hidden, head, lambda z, rows: mixed.sums(z, targets[rows], said(rows)), chunk_size=chunk_size
    )
    (total * 3).backward()
    assert torch.allclose(torch.cat([total[None], sums]), whole, rtol=1e-5)
    assert all(
        torch.allclose(tensor.grad, other, atol=1e-5)
        for tensor, other in zip((hidden, head.weight, head.bias), wanted, strict=True)
    )


def test_no_rows_are_a_zero_with_a_gradient():
    hidden, head = torch.zeros(0, 8, requires_grad=True), torch.nn.Linear(8, 50)
    total, sums = chunked_sum(hidden, head, lambda z, rows: soft(0.0).sums(z, z[:, 0].long(), z), chunk_size=4)
    total.backward()
    assert total.item() == 0 and sums.tolist() == [0, 0] and head.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("beta", BETAS)
def test_the_tail_is_one_outcome_never_more_than_the_whole_and_equal_to_it_with_every_token(beta):
    student, teacher, targets = logits(20, 50), logits(20, 50, seed=1), torch.zeros(20, dtype=torch.long)
    whole = soft(beta).sums(student, targets, teacher)[1].item()
    found = [soft(beta).sums(student, targets, top_of(teacher, num, 1.0))[1].item() for num in (1, 5, 49, 50)]
    assert found[0] < found[1] < whole + 1e-4 and found[2] == pytest.approx(whole, rel=1e-5)
    assert found[3] == pytest.approx(whole, rel=1e-5)


def test_what_is_kept_is_one_distribution():
    top = top_of(logits(6, 50), 4, 0.7)
    assert torch.allclose(top.log_probs.exp().sum(dim=-1), torch.ones(6), atol=1e-6)
    assert torch.allclose(with_tail(logits(6, 50) / 0.7, top.ids), top.log_probs)


def test_rows_of_a_head_beyond_the_vocabulary_count_nothing():
    student, teacher, targets = logits(5, 60), logits(5, 52, seed=1), torch.arange(5)
    padded = Loss(0.5, 1.0, 0.5, 50).sums(student, targets, teacher)
    trimmed = Loss(0.5, 1.0, 0.5, 50).sums(student[:, :50], targets, teacher[:, :50])
    assert torch.equal(padded, trimmed)


def test_labels_are_mixed_in_by_their_weight():
    student, teacher, targets = logits(5, 50), logits(5, 50, seed=1), torch.arange(5)
    loss, kl, hard = Loss(0.0, 3.0, 0.25, 50).sums(student, targets, teacher).tolist()
    assert loss == pytest.approx(0.75 * 9 * kl + 0.25 * hard, rel=1e-5)
    assert hard == pytest.approx(torch.nn.functional.cross_entropy(student, targets, reduction="sum").item(), rel=1e-5)
    assert Loss(0.0, 3.0, 1.0, 50).sums(student, targets, None)[0].item() == pytest.approx(hard, rel=1e-5)
