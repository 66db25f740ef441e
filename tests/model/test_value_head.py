"""A value head reads the states that the LM head reads, of any causal model, with a trunk of its own or the policy's."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from ftkit.model import FTGPTConfig, FTGPTForCausalLM
from ftkit.model.value_head import FILE, PREFIX, ValueHead, copy_sharing_frozen, with_states

SIZES = {"vocab_size": 12, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MODELS = {
    "ftgpt": lambda: FTGPTForCausalLM(FTGPTConfig(**SIZES, intermediate_size=32)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=32)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=12, n_embd=16, n_layer=1, n_head=2)),
}
INPUTS = {
    "input_ids": torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
}


def made(name: str, *, lora: bool = False):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    return get_peft_model(model, LoraConfig(target_modules="all-linear")).eval() if lora else model


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_states_are_those_that_the_lm_head_reads(name, lora):
    model = made(name, lora=lora)
    logits, states = with_states(model, model, 2, **INPUTS)
    torch.testing.assert_close(logits, model(**INPUTS).logits[:, 1:3])
    torch.testing.assert_close(model.get_output_embeddings()(states), logits)
    assert not model.get_output_embeddings()._forward_pre_hooks


@pytest.mark.parametrize("trunk", ["shared", "separate"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_values_start_at_0_and_learn_where_they_should(name, lora, trunk):
    model = made(name, lora=lora)
    model.value = ValueHead.of(model, trunk)
    values = model.value(with_states(model, model, 3, **INPUTS)[1], **INPUTS)
    assert values.shape == (2, 3) and not values.any()
    torch.nn.init.ones_(model.value.score.weight)
    states = with_states(model, model, 3, **INPUTS)[1]
    model.value(states, **INPUTS).square().sum().backward()
    moved = {name.startswith(PREFIX): one.grad is not None and one.grad.any() for name, one in model.named_parameters()
             if one.requires_grad and not name.endswith(("score.weight", "score.bias"))}  # fmt: skip
    policy = [one.grad for name, one in model.named_parameters() if not name.startswith(PREFIX) and one.requires_grad]
    assert any(one is not None and one.any() for one in policy) == (trunk == "shared")
    assert (True in moved) == (trunk == "separate")


def test_a_separate_trunk_gives_the_states_of_the_policy_at_first():
    model = made("ftgpt")
    model.value = ValueHead.of(model, "separate")
    torch.nn.init.normal_(model.value.score.weight)
    states = with_states(model, model, 3, **INPUTS)[1]
    torch.testing.assert_close(model.value(states, **INPUTS), model.value.score(states)[..., 0])


def test_a_copy_shares_what_is_frozen_and_owns_what_is_trained():
    model = made("llama", lora=True)
    other = copy_sharing_frozen(model)
    for (name, one), copied in zip(model.named_parameters(), other.parameters(), strict=True):
        assert (one is copied) == (not one.requires_grad), name
        assert torch.equal(one, copied)


@pytest.mark.parametrize("trunk", ["shared", "separate"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_what_is_saved_is_what_is_loaded(lora, trunk, tmp_path):
    first, other = (made("ftgpt", lora=lora) for _ in range(2))
    for model in (first, other):
        model.value = ValueHead.of(model, trunk)
    with torch.no_grad():
        for one in first.value.parameters():
            if one.requires_grad:
                one.normal_()
    first.value.save(tmp_path)
    other.value.load(tmp_path)
    assert (tmp_path / FILE).is_file()
    for (name, one), loaded in zip(first.value.named_parameters(), other.value.parameters(), strict=True):
        assert torch.equal(one, loaded), name


def test_quantised_weights_are_shared(tiny_folder):
    pytest.importorskip("bitsandbytes")
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_4bit=True)
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, quantization_config=config, dtype=torch.float32)
    model = get_peft_model(prepare_model_for_kbit_training(model), LoraConfig(target_modules="all-linear"))
    model.value = ValueHead.of(model, "separate")
    states = with_states(model, model, 3, **INPUTS)[1]
    torch.nn.init.ones_(model.value.score.weight)
    torch.testing.assert_close(model.value(states, **INPUTS), model.value.score(states.float())[..., 0])
    own = model.value.trunk.layers[0].mlp.up_proj.base_layer.weight
    assert own is model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
