"""Layers of 1.58 bits: gradients straight through by hand, the function of transformers' own layers, packed and not."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.integrations import bitnet

from ftkit.config.errors import UserError
from ftkit.model.fast.bit_linear import BitLinear, Strength, bit_layers, eight_bit, round_once, ternary
from ftkit.model.loading import load_model
from ftkit.model.weights.ternary import make_ternary, own_layer, pack, unpack

SIZES = dict(
    vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, pad_token_id=0, bos_token_id=None, eos_token_id=None, max_position_embeddings=64,
)  # fmt: skip
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig), "mistral": (MistralForCausalLM, MistralConfig),
    "phi3": (Phi3ForCausalLM, Phi3Config), "qwen3": (Qwen3ForCausalLM, Qwen3Config),
}  # fmt: skip
IDS = torch.arange(1, 41).view(2, 20)


@pytest.fixture(autouse=True)
def uncompiled():
    """transformers compiles its layers at first use, which takes minutes here and changes no result."""
    with torch.compiler.set_stance("force_eager"):
        yield


def random_layer(bias: bool) -> nn.Linear:
    torch.manual_seed(3)
    layer = nn.Linear(24, 16, bias=bias)
    nn.init.normal_(layer.weight, std=0.2)
    return layer


def trained(layer) -> list[torch.Tensor]:
    """Output, gradient of the inputs, and of the parameters."""
    inputs = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(4)).requires_grad_()
    outputs = layer(inputs)
    (outputs * torch.linspace(-1, 2, 16)).sum().backward()
    return [outputs, inputs.grad, *(one.grad for one in layer.parameters())]


def test_rounding_and_gradients_are_those_worked_out_by_hand():
    # mean |w| = (1.2 + 0.1 + 0.4 + 0.3) / 4 = 0.5, so that w / 0.5 = 2.4, -0.2, -0.8, 0.6 and is rounded to 1, 0, -1, 1
    weight = nn.Parameter(torch.tensor([[1.2, -0.1], [-0.4, 0.3]]))
    layer = BitLinear(weight, nn.Parameter(torch.tensor([0.25, 0.0])), Strength())
    rounded = torch.tensor([[0.5, 0.0], [-0.5, 0.5]])
    torch.testing.assert_close(ternary(weight.detach()), rounded)
    # largest |x| = 2 is step 127; 0.3 is 19.05 steps, so 19: 0.29921
    inputs = torch.tensor([[2.0, 0.3]], requires_grad=True)
    seen = torch.tensor([[2.0, 19 * 2 / 127]])
    outputs = layer(inputs)
    torch.testing.assert_close(outputs, seen @ rounded.T + layer.bias)
    upstream = torch.tensor([[1.0, 10.0]])
    outputs.backward(upstream)
    torch.testing.assert_close(
        inputs.grad, upstream @ rounded
    )  # as if inputs were not rounded, through rounded weights
    torch.testing.assert_close(weight.grad, upstream.T @ seen)  # as if weights were not rounded
    torch.testing.assert_close(layer.bias.grad, upstream[0])


@pytest.mark.parametrize("bias", [False, True])
def test_outputs_and_gradients_are_to_the_bit_those_of_the_layer_that_transformers_trains(bias):
    plain = random_layer(bias)
    theirs = bitnet.AutoBitLinear(24, 16, bias=bias, online_quant=True)
    theirs.load_state_dict(plain.state_dict())
    ours = BitLinear(plain.weight, plain.bias, Strength())
    for wanted, given in zip(trained(theirs), trained(ours), strict=True):
        assert torch.equal(wanted, given)


@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_of_transformers_is_read_as_the_layer_that_was_packed(bias):
    plain = random_layer(bias)
    ours = BitLinear(plain.weight, plain.bias, Strength())
    scale = 1 / plain.weight.detach().abs().mean()
    packed = bitnet.BitLinear(24, 16, bias=bias, dtype=torch.float32)
    packed.weight = pack((plain.weight.detach() * scale).round().clamp(-1, 1))
    packed.weight_scale = scale.view(1)
    if bias:
        packed.bias = plain.bias.detach()
    inputs = torch.randn(7, 24, generator=torch.Generator().manual_seed(5))
    read = own_layer(packed, Strength(), is_packed=True)
    assert torch.equal(read(inputs), ours(inputs))
    torch.testing.assert_close(packed(inputs), ours(inputs), rtol=1e-5, atol=1e-5)


def test_packed_bytes_are_those_that_transformers_packs():
    values = torch.randint(-1, 2, (16, 5), generator=torch.Generator().manual_seed(6)).float()
    assert torch.equal(pack(values), bitnet.pack_weights(values.clone()))
    assert torch.equal(unpack(pack(values)), values.to(torch.int8))


def test_strength_goes_from_the_linear_layer_to_rounded_ones():
    plain, strength = random_layer(True), Strength(0.0, 0.0)
    layer, inputs = BitLinear(plain.weight, plain.bias, strength), torch.randn(7, 24)
    assert torch.equal(layer(inputs), plain(inputs))
    strength.training = 0.5
    halfway = (plain.weight + ternary(plain.weight)) / 2
    wanted = nn.functional.linear((inputs + eight_bit(inputs)) / 2, halfway, plain.bias)
    torch.testing.assert_close(layer(inputs), wanted)
    assert torch.equal(layer.eval()(inputs), plain(inputs))


@pytest.mark.parametrize("family", [*FAMILIES, "ftgpt"])
def test_a_model_made_ternary_is_read_by_transformers_and_by_ftkit_as_the_same_function(family, tiny_model, tmp_path):
    torch.manual_seed(0)
    if family == "ftgpt":
        model = tiny_model("llama")
    else:
        model_class, config_class = FAMILIES[family]
        model = model_class(config_class(**SIZES)).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3 if parameter.ndim > 1 else 1.0)
    before, head = model(IDS).logits, model.get_output_embeddings().weight.clone()
    strength, count = make_ternary(model)
    assert count == len(bit_layers(model)) and type(model.get_output_embeddings()) is nn.Linear
    assert torch.equal(model(IDS).logits, before)
    strength.evaluation = 1.0
    wanted = model(IDS).logits
    assert (wanted - before).abs().max() > 0.1
    assert torch.equal(model.get_output_embeddings().weight, head)
    model.save_pretrained(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert not bit_layers(theirs) and torch.equal(theirs(IDS).logits, wanted)
    ours = load_model(tmp_path)
    assert len(bit_layers(ours)) == count and torch.equal(ours(IDS).logits, wanted)
    assert all(parameter.requires_grad for parameter in ours.parameters())
    again = copy.deepcopy(ours)
    round_once(again)
    assert torch.equal(again(IDS).logits, wanted)


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(UserError, match="GPT2LMHeadModel has no linear layers to round; try --ftgpt"):
        make_ternary(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=61, n_positions=32)))
