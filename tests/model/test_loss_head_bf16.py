"""The compact loss head in bfloat16: gradients as near to float32 as those of full logits, of confident tokens too.

1 - p of a confident token is smaller than the rounding of p in bfloat16, so p and the one-hot must not be rounded apart.
"""

import pytest
import torch
import torch.nn.functional as F

from ftkit.data.reading.documents import load_documents
from ftkit.model.fast import chunked_log_probs as chunked
from ftkit.model.fast.chunked_log_probs import HeadSettings, LinearHead, chunked_log_probs
from ftkit.model.loading import load_model, load_tokenizer

# N rows, D hidden, V vocabulary

N, D, V = 256, 64, 1500
NOISE = 1.05  # both round the same logits, which is most of the error; the rest is luck
DEFAULT = HeadSettings(chunk_size=100)
WEIGHTS = torch.linspace(0.5, 1.5, N)
LOSSES = {
    "mean": lambda log_probs, entropy: -log_probs.mean(),
    "weighted": lambda log_probs, entropy: -(WEIGHTS * log_probs).mean(),
    "entropy": lambda log_probs, entropy: -log_probs.mean() - 0.1 * entropy.mean(),
}


def product_of_a_gpu(total, gradient, factor, *, overwrite=False):
    """A GPU multiplies two bfloat16 factors and sums in float32."""
    total.addmm_(gradient.to(factor.dtype).float(), factor.float(), beta=float(not overwrite))


@pytest.fixture(autouse=True, params=["cpu", "gpu"])
def device(request, monkeypatch):
    monkeypatch.setattr(chunked, "VOCABULARY_TILE", 512)
    if request.param == "gpu":
        monkeypatch.setattr(chunked, "add_product", product_of_a_gpu)


def confident(p: float, settings: HeadSettings):
    """(hidden (N, D), weight (V, D), bias (V), targets (N)) in bfloat16, with p(target) nearly `p` in every row."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(V, D, generator=generator).bfloat16()
    bias = torch.randn(V, generator=generator).bfloat16()
    targets = torch.randint(0, V, (N,), generator=generator)
    noise = 0.15 * torch.randn(N, D, generator=generator)
    low, high = torch.zeros(N, 1), torch.full((N, 1), 0.7)
    for _ in range(30):
        hidden = noise + (low + high) / 2 * weight[targets].float()
        p_now = (
            settings.transform(F.linear(hidden, weight.float(), bias.float())).softmax(-1).gather(1, targets[:, None])
        )
        low, high = torch.where(p_now < p, (low + high) / 2, low), torch.where(p_now < p, high, (low + high) / 2)
    return hidden.bfloat16(), weight, bias, targets


def full_logits(hidden, head: LinearHead, targets, settings: HeadSettings):
    weight = head.weight
    if head.token_ids is not None:
        weight = weight.index_copy(0, head.token_ids, head.token_rows.to(weight.dtype))
    log_p = settings.transform(F.linear(hidden, weight, head.bias).float()).log_softmax(-1)
    return log_p.gather(1, targets[:, None]).squeeze(1), -(log_p.exp() * log_p).sum(-1)


def compact(hidden, head: LinearHead, targets, settings: HeadSettings):
    return chunked_log_probs(hidden, head, targets, settings)[:2]


def gradients(score, inputs, settings: HeadSettings, trains: str, loss, dtype) -> list[torch.Tensor]:
    hidden, weight, bias, targets = inputs
    hidden, weight, bias = (x if x is None else x.to(dtype, copy=True) for x in (hidden, weight, bias))
    token_ids = targets[:99].unique() if trains == "token rows" else None
    rows = None if token_ids is None else weight[token_ids].clone()
    trained = {"frozen": (hidden,), "head": (hidden, weight, bias), "token rows": (hidden, rows)}[trains]
    trained = [each for each in trained if each is not None]
    for each in trained:
        each.requires_grad_()
    loss(*score(hidden, LinearHead(weight, bias, token_ids, rows), targets, settings)).backward()
    return [each.grad.float() for each in trained]


def error(value, exact) -> float:
    return ((value - exact).norm() / exact.norm()).item()


def assert_as_near(*inputs, trains: str, settings=DEFAULT, loss="mean", how="weights") -> None:
    """Compare with full logits in bfloat16, by the distance of each from float32."""
    exact = gradients(full_logits, inputs, settings, trains, LOSSES[loss], torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        dtype = torch.float32 if how == "autocast" else torch.bfloat16
        plain, ours = (gradients(s, inputs, settings, trains, LOSSES[loss], dtype) for s in (full_logits, compact))
    for ours_each, plain_each, exact_each in zip(ours, plain, exact, strict=True):
        ours_error, plain_error = error(ours_each, exact_each), error(plain_each, exact_each)
        assert ours_error <= NOISE * plain_error


@pytest.mark.parametrize("p", [0.95, 0.9994, *(pytest.param(p, marks=pytest.mark.slow) for p in (0.4, 0.997))])
@pytest.mark.parametrize("trains", ["frozen", "head", "token rows"])
@pytest.mark.parametrize(
    ("loss", "softcap", "how"),
    [
        ("mean", None, "autocast"),
        ("mean", None, "weights"),
        ("weighted", None, "weights"),
        ("entropy", None, "autocast"),
        ("entropy", 30.0, "weights"),
    ],
)
def test_gradients_are_as_near_to_float32_as_those_of_full_logits(loss, softcap, how, trains, p):
    settings = HeadSettings(("log_probs", "entropy"), softcap=softcap, chunk_size=100)
    assert_as_near(*confident(p, settings), trains=trains, settings=settings, loss=loss, how=how)


@pytest.mark.parametrize("trains", ["frozen", "head"])
@pytest.mark.parametrize("least_p", [0.0, 0.9])
def test_gradients_of_the_bundled_base_on_its_own_text(least_p, trains):
    """Of all tokens, and of those of which the base is at least so sure."""
    model, tokenizer = load_model("base", dtype="float32"), load_tokenizer("base")
    texts = [row["text"][:500] for row in load_documents("corpus").train[:40]]
    ids = torch.tensor([x[:64] for x in tokenizer(texts)["input_ids"] if len(x) >= 64])
    weight, targets = model.get_output_embeddings().weight.detach(), ids[:, 1:].flatten()
    with torch.no_grad():
        hidden = model.model(ids).last_hidden_state[:, :-1].flatten(0, 1)
        p = (hidden @ weight.t()).softmax(-1).gather(1, targets[:, None]).squeeze(1)
    kept = (p >= least_p).nonzero().squeeze(1)[:N]
    assert len(kept) > N // 4
    assert_as_near(hidden[kept].bfloat16(), weight, None, targets[kept], trains=trains)
