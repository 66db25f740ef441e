"""NaN and infinity are found in every precision and place; what is finite, however large, is not taken for them."""

import math

import pytest
import torch
from safetensors.torch import save_file

from ftkit.config.errors import UserError
from ftkit.model.finite import check_finite, check_loaded, is_finite, not_finite

DTYPES = {
    torch.float64: 1e308,
    torch.float32: 3.4e38,
    torch.bfloat16: 3.3e38,
    torch.float16: 65504.0,
    torch.float8_e5m2: 5e4,
}  # largest values, or near


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", [1, 7, 10_007])
def test_one_bad_value_is_found_wherever_it_is(dtype, bad, size):
    for place in {0, size // 2, size - 1}:
        values = torch.linspace(-1, 1, size).to(dtype)
        assert is_finite(values)
        values[place] = bad
        assert not is_finite(values)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_values_are_finite_also_where_their_sum_is_not(dtype):
    if dtype != torch.float64:
        assert is_finite(torch.full((100,), DTYPES[dtype]).to(dtype))
    assert is_finite(torch.empty(0, dtype=dtype)) and is_finite(torch.tensor(1.0).to(dtype))


def test_integers_and_weights_without_values_are_passed_over():
    tensors = {
        "packed": torch.zeros(4, dtype=torch.uint8), "meta": torch.full((4,), math.nan, device="meta"),
        "empty": torch.empty(0), "first": torch.tensor([1.0, math.nan]), "second": torch.tensor([[math.inf]]).half(),
    }  # fmt: skip
    assert not_finite(tensors.items()) == ["first", "second"]


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.good, self.bad = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        self.bad.weight.data[1, 1] = math.nan


def test_the_message_names_the_source_the_tensor_and_how_many_more():
    model = Two()
    with pytest.raises(UserError, match="^a: tensor bad.weight holds NaN or infinity as float32; the run that made it"):
        check_finite(model, "a")
    model.bad.bias.data[0] = math.inf
    with pytest.raises(UserError, match="^a: tensor bad.weight and 1 more hold NaN"):
        check_finite(model, "a")
    with pytest.raises(UserError, match="as float16; float16 holds nothing above 65,504: take float32 or bfloat16"):
        check_finite(model.half(), "a")


def test_of_a_quantised_model_the_files_are_looked_at(tmp_path):
    model = torch.nn.Linear(2, 2)
    save_file({"one": torch.ones(2), "two": torch.tensor([math.nan])}, tmp_path / "model.safetensors")
    check_loaded(model, [tmp_path / "model.safetensors"])
    model.hf_quantizer = object()
    with pytest.raises(UserError, match="model.safetensors: tensor two holds NaN or infinity"):
        check_loaded(model, [tmp_path / "model.safetensors"])


def test_of_sharded_weights_the_first_process_of_a_machine_looks(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_loaded(Two(), [tmp_path / "model.safetensors"])
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match="tensor bad.weight holds NaN"):
        check_loaded(Two(), [tmp_path / "model.safetensors"])
