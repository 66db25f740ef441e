"""Tiny FTGPT models for the tests of this folder: two layers, a vocabulary of 97, weights large enough to matter."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2ForCausalLM

from ftkit.model import FTGPTConfig, FTGPTForCausalLM

VOCAB_SIZE = 97
SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": None,
    "max_position_embeddings": 64,
}


def make_config(preset, **overrides):
    """FTGPTConfig.gpt2 or .llama at test size; Llama groups its four query heads on two key/value heads."""
    grouped = {"num_key_value_heads": 2} if preset == "llama" else {}
    return getattr(FTGPTConfig, preset)(**{**SHAPE, **grouped, **overrides})


def make_model(preset, model_class=FTGPTForCausalLM, seed=0, **overrides):
    """A seeded model in eval mode, its weights (norms and biases too) spread out so that every part shows in logits."""
    torch.manual_seed(seed)
    model = model_class._from_config(make_config(preset, **overrides)).eval()
    return spread_weights(model)


def spread_weights(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.dim() == 1 else 0.2))
    return model


def make_ids(num_rows, num_tokens, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB_SIZE, (num_rows, num_tokens), generator=generator)


def make_llama_twins(reference_class=LlamaForCausalLM, model_class=FTGPTForCausalLM, seed=0, **settings):
    """transformers' Llama (or Qwen2, by reference_class) and FTGPT with the same weights, untied, no end token."""
    torch.manual_seed(seed)
    shared = {**SHAPE, "num_key_value_heads": 2, "intermediate_size": 48, "tie_word_embeddings": False, **settings}
    rope = {"rope_type": "default", "rope_theta": 1e4, **shared.pop("rope_parameters", {})}
    if reference_class is Qwen2ForCausalLM:
        own = {**shared, "attention_bias": True}
    else:
        own = {**shared, "attention_output_bias": shared.get("attention_bias", False)}
    reference_config = reference_class.config_class(
        rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=None, rope_parameters=dict(rope), **shared
    )
    reference = spread_weights(reference_class(reference_config).eval())
    model = model_class(FTGPTConfig.llama(norm_eps=1e-5, rope_parameters=rope, **own)).eval()
    model.load_state_dict(reference.state_dict())
    return reference, model


@pytest.fixture(params=["gpt2", "llama"])
def preset(request):
    return request.param


@pytest.fixture
def tiny_config():
    return make_config


@pytest.fixture
def tiny_model():
    return make_model


@pytest.fixture
def token_ids():
    return make_ids


@pytest.fixture
def llama_twins():
    return make_llama_twins


@pytest.fixture
def spread():
    return spread_weights


@pytest.fixture(scope="session")
def character_tokenizer():
    """One token a printable ASCII character and two special ones: as many as the tiny models know. Pads on the left."""
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<end>", *characters])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", unk_token="<end>", padding_side="left"
    )
