"""Linear layers of few rows by all cores: what nn.Linear gives, on trained weights too, and nn.Linear itself elsewhere."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from ftkit.inference.generation import generate_ids
from ftkit.model.fast import few_rows
from ftkit.model.fast.few_rows import MOST_ROWS, by_all_cores
from ftkit.model.loading import load_model, load_tokenizer, local_model_folder


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def products(monkeypatch) -> list[int]:
    """The rows of each product that was shared out."""
    seen, product = [], few_rows.product
    monkeypatch.setattr(
        few_rows, "product", lambda x, weight, shares: seen.append(len(x)) or product(x, weight, shares)
    )
    return seen


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("outputs", [512, 513, 8191], ids=["even", "odd", "wide"])
@pytest.mark.parametrize("shares", [2, 3, 16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_shared_product_is_the_product(rows, outputs, shares, bias, products):
    torch.set_num_threads(shares)
    layer = nn.Linear(512, outputs, bias=bias)
    x = torch.randn(rows, 512)
    with torch.no_grad(), by_all_cores(layer):
        found = layer(x[:, None])
    assert products == [rows]
    assert found.is_contiguous()
    torch.testing.assert_close(found[:, 0], F.linear(x, layer.weight, layer.bias).detach(), rtol=1e-5, atol=1e-5)


def test_a_conv1d_of_gpt2_is_shared_too(products):
    layer = Conv1D(1537, 512)
    nn.init.normal_(layer.bias)
    x = torch.randn(3, 1, 512)
    with torch.no_grad(), by_all_cores(layer):
        found = layer(x)
    assert products == [3]
    torch.testing.assert_close(found, layer(x).detach(), rtol=1e-5, atol=1e-5)


def test_where_it_is_not_known_to_be_faster_the_layer_computes_as_ever(products, monkeypatch):
    layer, x = nn.Linear(512, 512), torch.randn(3, 512)
    plain = layer(x)
    with by_all_cores(layer):
        assert torch.equal(layer(x), plain)  # with gradients
        assert plain.requires_grad
        with torch.no_grad():
            many = torch.randn(MOST_ROWS + 1, 512)
            assert torch.equal(layer(many), F.linear(many, layer.weight, layer.bias))
            assert layer(torch.empty(0, 512)).shape == (0, 512)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert layer(x).dtype == torch.bfloat16
            torch.set_num_threads(1)
            assert torch.equal(layer(x), plain)
    with torch.no_grad():
        for other in (nn.Linear(64, 64), nn.Linear(512, 512).bfloat16(), type("Own", (nn.Linear,), {})(512, 512)):
            with by_all_cores(other):
                assert "forward" not in vars(other)
        monkeypatch.setenv("FTKIT_PLAIN_LAYERS", "1")
        with by_all_cores(layer):
            assert torch.equal(layer(x), plain)
    assert products == []


def test_the_layer_is_left_as_it_was_and_may_be_entered_twice():
    layer, x = nn.Linear(512, 512), torch.randn(3, 512)
    with torch.no_grad():
        with by_all_cores(layer):
            with by_all_cores(layer):
                inner = layer(x)
            assert torch.equal(layer(x), inner)
        assert "forward" not in vars(layer)
        with pytest.raises(KeyError), by_all_cores(layer):
            raise KeyError
    assert "forward" not in vars(layer)


def test_the_trained_base_writes_the_same_text(products, monkeypatch):
    folder = local_model_folder("base")
    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    prompts = [tokenizer(text)["input_ids"] for text in ("The birds of the", "A list of colours: red,", "Once")]
    asked = {"max_new_tokens": 24, "eos_token_ids": [tokenizer.eos_token_id]}
    found = generate_ids(model, tokenizer, prompts, **asked)
    assert products
    monkeypatch.setenv("FTKIT_PLAIN_LAYERS", "1")
    assert found == generate_ids(model, tokenizer, prompts, **asked)
