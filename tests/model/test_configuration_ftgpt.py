"""FTGPTConfig: presets, derived sizes, what a saved folder holds, and the mistakes it refuses."""

import json

import pytest
from transformers import AutoConfig, GPT2Config

from ftkit.model import FTGPTConfig

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5}
LLAMA3_OF_4096 = {**LLAMA3, "original_max_position_embeddings": 4096}


def test_gpt2_preset_has_the_sizes_of_gpt2_small():
    reference, config = GPT2Config(), FTGPTConfig.gpt2()
    assert config.vocab_size == reference.vocab_size == 50257
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"):
        assert getattr(config, name) == getattr(reference, name), name
    assert (config.intermediate_size, config.head_dim, config.num_key_value_heads) == (3072, 64, 12)
    assert (config.norm_type, config.position_embedding_type, config.mlp_gated) == ("layernorm", "learned", False)
    assert (config.attention_bias, config.attention_output_bias, config.mlp_bias) == (True, True, True)
    assert config.attention_dropout == config.residual_dropout == config.embedding_dropout == 0.1
    assert config.hidden_act == reference.activation_function
    assert config.eos_token_id == reference.eos_token_id
    assert config.rope_parameters is None


def test_llama_preset_has_the_sizes_of_smollm2():
    config = FTGPTConfig.llama()
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (576, 1536, 30)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (9, 3, 64)
    assert (config.norm_type, config.position_embedding_type, config.mlp_gated) == ("rmsnorm", "rope", True)
    assert (config.attention_bias, config.attention_output_bias, config.mlp_bias) == (False, False, False)
    assert config.attention_dropout == config.residual_dropout == config.embedding_dropout == 0.0
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 100000.0}


def test_presets_do_not_share_state():
    FTGPTConfig.llama().rope_parameters["rope_theta"] = 7.0
    assert FTGPTConfig.llama().rope_parameters["rope_theta"] == 100000.0
    given = {"rope_type": "llama3", **LLAMA3}
    FTGPTConfig.llama(rope_parameters=given)
    assert "original_max_position_embeddings" not in given


def test_another_vocabulary_drops_the_presets_special_tokens():
    assert FTGPTConfig.gpt2(vocab_size=100).eos_token_id is None
    assert FTGPTConfig.gpt2(vocab_size=100, eos_token_id=7).eos_token_id == 7


def test_an_explicit_head_size_needs_no_divisible_hidden_size():
    config = FTGPTConfig.llama(hidden_size=50, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
    assert config.head_dim == 16


def test_legacy_rope_keywords_end_in_rope_parameters():
    config = FTGPTConfig(position_embedding_type="rope", rope_theta=5000.0)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 5000.0}


@pytest.mark.parametrize(
    "overrides",
    [{}, {"eos_token_id": [3, 4]}, {"rope_parameters": LLAMA3_OF_4096}, {"num_labels": 5, "head_dim": 32}],
)
def test_a_saved_config_is_read_back_equal(overrides, tmp_path):
    config = FTGPTConfig.llama(**overrides)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is FTGPTConfig
    ours, theirs = config.to_dict(), loaded.to_dict()
    del ours["_name_or_path"], theirs["_name_or_path"]
    assert ours == theirs


def test_a_saved_folder_holds_both_code_files_and_a_full_auto_map(tmp_path):
    FTGPTConfig.gpt2().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.py")) == ["configuration_ftgpt.py", "modeling_ftgpt.py"]
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_ftgpt.FTGPTConfig",
        "AutoModel": "modeling_ftgpt.FTGPTModel",
        "AutoModelForCausalLM": "modeling_ftgpt.FTGPTForCausalLM",
        "AutoModelForSequenceClassification": "modeling_ftgpt.FTGPTForSequenceClassification",
    }


def test_auto_map_of_another_repository_is_replaced_by_the_folders_own_files():
    config = FTGPTConfig(auto_map={"AutoModelForCausalLM": "someone/else--modeling.Other", "AutoTokenizer": "own.Own"})
    assert config.auto_map["AutoModelForCausalLM"] == "modeling_ftgpt.FTGPTForCausalLM"
    assert config.auto_map["AutoTokenizer"] == "own.Own"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 100, "num_attention_heads": 12}, "hidden_size 100 is not a multiple of"),
        ({"num_key_value_heads": 5}, "num_attention_heads 12 is not a multiple of num_key_value_heads 5"),
        ({"norm_type": "layer_norm"}, 'norm_type is "layer_norm"; did you mean "layernorm"?; allowed: '),
        ({"position_embedding_type": "alibi"}, 'position_embedding_type is "alibi"; allowed: learned, rope'),
        ({"hidden_act": "gelu_neww"}, 'hidden_act is "gelu_neww"; did you mean "gelu_new"'),
        ({"vocab_size": 0}, "vocab_size is 0; it must be a positive integer"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5; it must be a positive integer"),
        ({"hidden_size": None}, "hidden_size is None; it must be a positive integer"),
        ({"residual_dropout": 1.5}, "residual_dropout is 1.5; it must be at least 0 and below 1"),
        ({"pad_token_id": 50257}, "pad_token_id 50257 is outside the vocabulary of 50257"),
        ({"eos_token_id": [1, 60000]}, "eos_token_id 60000 is outside the vocabulary of 50257"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters was given but positions are learned"),
        ({"rope_theta": 1e4}, "rope_theta was given but positions are learned"),
    ],
)
def test_an_impossible_setting_is_refused(settings, message):
    with pytest.raises(ValueError) as error:
        FTGPTConfig(**settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rope", "message"),
    [
        ({"rope_type": "lama3"}, 'rope_type is "lama3"; did you mean "llama3"?; allowed: default, linear'),
        ({"rope_type": "llama3", "factor": 8.0}, "Missing required keys in `rope_parameters` for 'rope_type'='llama3'"),
        ({"rope_theta": 1e4, "partial_rotary_factor": 0.5}, "partial_rotary_factor is not supported"),
    ],
)
def test_impossible_rope_parameters_are_refused(rope, message):
    with pytest.raises(ValueError) as error:
        FTGPTConfig.llama(rope_parameters=rope)
    assert message in str(error.value)


def test_an_odd_head_cannot_be_rotated():
    with pytest.raises(ValueError, match="head_dim 3 is odd"):
        FTGPTConfig.llama(hidden_size=9, num_attention_heads=3)


def test_a_preset_refuses_names_it_does_not_know():
    with pytest.raises(ValueError, match='unknown field "num_hiden_layers"; did you mean "num_hidden_layers"'):
        FTGPTConfig.gpt2(num_hiden_layers=2)
