"""Adapters that plain PEFT has made act as they do in PEFT, or are refused with the reason; so are those made to harm."""

import pytest
import torch
from made_adapters import logits_of, make_adapter, routed_logits
from peft import (
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    VeraConfig,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.config.errors import UserError
from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.registry import Registry
from ftkit.inference.batching.request import Limits
from ftkit.model.adapters.files import WEIGHTS_FILE

PADDED = 320
CAUSAL = {"task_type": "CAUSAL_LM"}
VIRTUAL = {**CAUSAL, "num_virtual_tokens": 4}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def lora(**settings) -> LoraConfig:
    return LoraConfig(**{**CAUSAL, "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], **settings})


def ends(*names: str, **settings) -> LoraConfig:
    return lora(target_modules=["q_proj", *names], **settings)


ACTS = {
    "LoRA": lora(),
    "LoRA on all linear layers": lora(target_modules="all-linear"),
    "LoRA by a pattern": lora(target_modules=r".*\.(q|v)_proj"),
    "LoRA without some modules": lora(target_modules="all-linear", exclude_modules=["o_proj"]),
    "rsLoRA": lora(use_rslora=True),
    "DoRA": lora(use_dora=True),
    "DoRA on all linear layers, rsLoRA's scaling": lora(use_dora=True, use_rslora=True, target_modules="all-linear"),
    "ranks by module": lora(rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.down_proj": 8}),
    "alphas by module": lora(alpha_pattern={"down_proj": 32, r"layers\.0\.self_attn\.q_proj": 1}),
    "ranks and alphas by module, rsLoRA": lora(
        rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 5}, use_rslora=True
    ),
    "some layers": lora(layers_to_transform=[1], layers_pattern="layers"),
    "a bias of the update": lora(lora_bias=True),
    "biases of the base, which has none": lora(bias="all"),
    "orthogonal start": lora(init_lora_weights="orthogonal"),
    "single tokens, by a list": lora(trainable_token_indices=[5, 7]),
    "a linear layer as a whole": lora(modules_to_save=["o_proj"]),
}
ENDS = {
    "the embedding": ends("embed_tokens"),
    "the head": ends("lm_head"),
    "embedding and head": ends("embed_tokens", "lm_head"),
    "the head as a whole": lora(modules_to_save=["lm_head"]),
    "the embedding as a whole": lora(modules_to_save=["embed_tokens"]),
    "both ends as a whole": lora(modules_to_save=["embed_tokens", "lm_head"]),
    "single tokens": lora(trainable_token_indices={"embed_tokens": [5, 299]}),
}  # fmt: skip
PADS = {"LoRA": ACTS["LoRA"], "DoRA": ACTS["DoRA"], "single tokens": ENDS["single tokens"]}
REFUSED = {
    "IA3": (IA3Config(**CAUSAL, target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]), "is IA3, which can't share a base with others here; merge it"),
    "prompt tuning": (PromptTuningConfig(**VIRTUAL), "is PROMPT_TUNING, .*; ask it alone by ftkit chat"),
    "p-tuning": (PromptEncoderConfig(**VIRTUAL, encoder_hidden_size=16), "is P_TUNING, .*; ask it alone by ftkit chat"),
    "prefix tuning": (PrefixTuningConfig(**VIRTUAL), "is PREFIX_TUNING, .*; ask it alone by ftkit chat"),
    "LoHa": (LoHaConfig(**CAUSAL, r=4, target_modules=["q_proj"]), "is LOHA, .*; merge it"),
    "LoKr": (LoKrConfig(**CAUSAL, r=4, target_modules=["q_proj"]), "is LOKR, .*; merge it"),
    "VeRA": (VeraConfig(**CAUSAL, r=4, target_modules=["q_proj"]), "is VERA, .*; merge it"),
    "PiSSA": (lora(init_lora_weights="pissa"), "init_lora_weights pissa moves the base's weights"),
    "OLoRA": (lora(init_lora_weights="olora"), "init_lora_weights olora moves the base's weights"),
    "parameters": (lora(target_parameters=["q_proj.weight"], target_modules=[]), "target_parameters is not supported beside other adapters"),
    "layers used again": (lora(layer_replication=[[0, 2], [1, 2]]), "layer_replication"),
    "norms as a whole": (lora(modules_to_save=["norm"]), "replaces model.layers.0.input_layernorm, a LlamaRMSNorm; only layers can be"),
    "a padded embedding as a whole": (lora(modules_to_save=["embed_tokens", "lm_head"]), r"has shape \(320, 64\) and this base needs \(300, 64\)"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


def served(folder) -> tuple:
    """A base's folder, and a registry of it."""
    return folder, Registry.load_base(ModelSettings(str(folder), dtype="float32"), Limits())


@pytest.fixture(scope="module")
def tied(tiny_folder):
    return served(tiny_folder)


@pytest.fixture(scope="module")
def untied(tiny_folder, tmp_path_factory):
    """The same model with a head of its own."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, tie_word_embeddings=False)
    torch.manual_seed(4)
    torch.nn.init.normal_(model.lm_head.weight, std=0.2)
    folder = tmp_path_factory.mktemp("untied") / "base"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return served(folder)


def assert_acts(registry, folder, wanted: torch.Tensor) -> None:
    registry.load("x", str(folder), in_place=True)
    with registry.pinned("x") as version, registry.pinned("base") as alone:
        found, plain = routed_logits(registry, version), routed_logits(registry, alone)
        assert not version.is_base_verified
    assert (found - wanted).abs().max() <= 5e-5 * max(1, wanted.abs().max() / 10)
    assert (found - plain).abs().max() > 0.1


@pytest.mark.parametrize("config", [*ACTS.values(), *ENDS.values()], ids=[*ACTS, *ENDS])
def test_it_acts_as_in_peft(config, tied, tmp_path):
    assert_acts(tied[1], tmp_path / "a", logits_of(make_adapter(tied[0], tmp_path / "a", config)))


@pytest.mark.parametrize("config", ENDS.values(), ids=ENDS)
def test_on_a_head_of_its_own_it_acts_as_in_peft(config, untied, tmp_path):
    assert_acts(untied[1], tmp_path / "a", logits_of(make_adapter(untied[0], tmp_path / "a", config)))


@pytest.mark.parametrize("config", PADS.values(), ids=PADS)
def test_with_a_padded_vocabulary_it_acts_as_in_peft(config, tied, tmp_path):
    trained = make_adapter(tied[0], tmp_path / "a", config, rows=PADDED)
    assert_acts(tied[1], tmp_path / "a", logits_of(trained)[..., :300])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_tensors_of_half_precision_act_as_in_peft(dtype, tied, tmp_path):
    make_adapter(tied[0], tmp_path / "a", ACTS["LoRA on all linear layers"])
    path = tmp_path / "a" / WEIGHTS_FILE
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path)
    peer = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tied[0]), tmp_path / "a").eval()
    assert_acts(tied[1], tmp_path / "a", logits_of(peer))


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_share_a_base_is_refused_with_the_reason(config, message, tied, tmp_path):
    make_adapter(tied[0], tmp_path / "a", config, rows=PADDED if "320" in message else None)
    assert_refused(tied[1], tmp_path / "a", message)


def assert_refused(registry, folder, message: str) -> None:
    names, size = registry.names(), registry.num_bytes
    with pytest.raises(UserError, match=message) as caught:
        registry.load("refused", str(folder))
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert registry.names() == names and registry.num_bytes == size
