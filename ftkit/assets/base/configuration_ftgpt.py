"""FTGPTConfig: every choice of the FTGPT decoder as a field, checked when it is built.

The defaults are GPT-2's; `FTGPTConfig.gpt2()` and `FTGPTConfig.llama()` are the two presets. A saved config takes the
model's two code files along, so that its folder loads with `trust_remote_code=True` where ftkit is not installed.
"""

import difflib
import shutil
from dataclasses import fields
from pathlib import Path

from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

NORM_TYPES = ("layernorm", "rmsnorm")
POSITION_EMBEDDING_TYPES = ("learned", "rope")
ROPE_TYPES = ("default", *ROPE_INIT_FUNCTIONS)
CODE_FILES = ("configuration_ftgpt.py", "modeling_ftgpt.py")
AUTO_MAP = {
    "AutoConfig": "configuration_ftgpt.FTGPTConfig",
    "AutoModel": "modeling_ftgpt.FTGPTModel",
    "AutoModelForCausalLM": "modeling_ftgpt.FTGPTForCausalLM",
    "AutoModelForSequenceClassification": "modeling_ftgpt.FTGPTForSequenceClassification",
}
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
DROPOUTS = ("attention_dropout", "residual_dropout", "embedding_dropout")
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Keywords that PreTrainedConfig takes without declaring them as fields.
BASE_KEYWORDS = {"num_labels", "attn_implementation", "output_attentions", "name_or_path", "rope_theta", "rope_scaling"}

# GPT-2 small, https://huggingface.co/openai-community/gpt2/blob/main/config.json
GPT2_PRESET = {"bos_token_id": 50256, "eos_token_id": 50256}
# SmolLM2-135M, https://huggingface.co/HuggingFaceTB/SmolLM2-135M/blob/main/config.json
LLAMA_PRESET = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "norm_type": "rmsnorm",
    "norm_eps": 1e-5,
    "position_embedding_type": "rope",
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    "hidden_act": "silu",
    "mlp_gated": True,
    "attention_bias": False,
    "attention_output_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


class FTGPTConfig(PreTrainedConfig):
    """Shape and choices of an FTGPT decoder. Everything is keyword-only; an impossible combination is a ValueError.

    Sizes left None are derived: `intermediate_size` is 4 * hidden_size, or 8/3 of it rounded up to a multiple of 64
    when gated (as many weights in three matrices as in two); `num_key_value_heads` is num_attention_heads; `head_dim`
    is hidden_size / num_attention_heads.
    `rope_parameters` is transformers' dictionary: {"rope_type": one of ROPE_TYPES, "rope_theta": float, ...}.
    `auto_map` always names this model's own two files, whatever repository the config came from.
    """

    model_type = "ftgpt"
    keys_to_ignore_at_inference = ["past_key_values"]
    base_model_tp_plan = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.o_proj": "rowwise",
        "layers.*.mlp.gate_proj": "colwise",
        "layers.*.mlp.up_proj": "colwise",
        "layers.*.mlp.down_proj": "rowwise",
    }
    base_model_pp_plan = {
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "layers": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "norm": (["hidden_states"], ["hidden_states"]),
    }

    vocab_size: int = 50257
    hidden_size: int = 768
    intermediate_size: int | None = None
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 1024
    norm_type: str = "layernorm"
    norm_eps: float = 1e-5
    position_embedding_type: str = "learned"
    rope_parameters: dict | None = None
    hidden_act: str = "gelu_new"
    mlp_gated: bool = False
    attention_bias: bool = True
    attention_output_bias: bool = True
    mlp_bias: bool = True
    tie_word_embeddings: bool = True
    attention_dropout: float = 0.1
    residual_dropout: float = 0.1
    embedding_dropout: float = 0.1
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    auto_map: dict | None = None

    @classmethod
    def gpt2(cls, **overrides) -> "FTGPTConfig":
        """LayerNorm, learned positions, GELU, biases, dropout 0.1: GPT-2 small unless `overrides` say otherwise."""
        return cls._from_preset(GPT2_PRESET, overrides)

    @classmethod
    def llama(cls, **overrides) -> "FTGPTConfig":
        """RMSNorm, RoPE, SwiGLU, grouped queries, no bias: SmolLM2-135M unless `overrides` say otherwise."""
        return cls._from_preset(LLAMA_PRESET, overrides)

    @classmethod
    def _from_preset(cls, preset: dict, overrides: dict) -> "FTGPTConfig":
        names = {field.name for field in fields(cls)} | BASE_KEYWORDS
        for name in overrides:
            if name not in names:
                raise ValueError(f'unknown field "{name}"{_did_you_mean(name, names)}')
        if "vocab_size" in overrides:  # another vocabulary has other special tokens
            preset = {name: value for name, value in preset.items() if name not in TOKEN_IDS}
        return cls(**{**preset, **overrides})

    def __post_init__(self, **kwargs):
        self._check_choices()
        self._check_rope_is_wanted(kwargs)
        self._derive_sizes()
        if self.rope_parameters is not None:
            self.rope_parameters = dict(self.rope_parameters)  # the base class adds to it in place
        super().__post_init__(**kwargs)
        if self.position_embedding_type == "learned":
            self.rope_parameters = None
        else:
            self._check_rope()
        self._check_shape()
        self.auto_map = {**(self.auto_map or {}), **AUTO_MAP}

    def save_pretrained(self, save_directory, push_to_hub=False, **kwargs):
        """Write config.json and the two code files that `auto_map` names into `save_directory`."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name in CODE_FILES:
            source = Path(__file__).with_name(name)
            if source.is_file() and source.resolve() != (folder / name).resolve():
                shutil.copyfile(source, folder / name)
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def _check_choices(self):
        for name, choices in (
            ("norm_type", NORM_TYPES),
            ("position_embedding_type", POSITION_EMBEDDING_TYPES),
            ("hidden_act", tuple(ACT2FN)),
        ):
            value = getattr(self, name)
            if value not in choices:
                allowed = ", ".join(sorted(choices))
                raise ValueError(f'{name} is "{value}"{_did_you_mean(str(value), choices)}; allowed: {allowed}')

    def _check_rope_is_wanted(self, kwargs):
        given = [name for name in ("rope_parameters", "rope_scaling", "rope_theta") if kwargs.get(name)]
        given += ["rope_parameters"] if self.rope_parameters else []
        if given and self.position_embedding_type != "rope":
            raise ValueError(f'{given[0]} was given but positions are learned; set position_embedding_type="rope"')

    def _derive_sizes(self):
        for name in SIZES:
            value = getattr(self, name)
            may_be_none = name in ("intermediate_size", "num_key_value_heads", "head_dim")
            if not (value is None and may_be_none) and (type(value) is not int or value < 1):
                raise ValueError(f"{name} is {value!r}; it must be a positive integer")
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                    f"{self.num_attention_heads}; change one of them or set head_dim"
                )
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.intermediate_size is None:
            gated = -(-8 * self.hidden_size // (3 * 64)) * 64
            self.intermediate_size = gated if self.mlp_gated else 4 * self.hidden_size

    def _check_rope(self):
        rope_type = self.rope_parameters["rope_type"]
        if rope_type not in ROPE_TYPES:
            allowed = ", ".join(ROPE_TYPES)
            raise ValueError(
                f'rope_type is "{rope_type}"{_did_you_mean(str(rope_type), ROPE_TYPES)}; allowed: {allowed}'
            )
        if self.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0 and rope_type != "proportional":
            raise ValueError("partial_rotary_factor is not supported: FTGPT rotates whole heads; remove it")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary positions turn pairs, so make it even")
        try:
            self.validate_rope()
        except KeyError as error:
            raise ValueError(error.args[0]) from None

    def _check_shape(self):
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads "
                f"{self.num_key_value_heads}; each key/value head serves the same number of query heads"
            )
        for name in DROPOUTS:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        for name in TOKEN_IDS:
            value = getattr(self, name)
            for token_id in value if isinstance(value, list) else [value]:
                if token_id is not None and token_id >= self.vocab_size:
                    raise ValueError(
                        f"{name} {token_id} is outside the vocabulary of {self.vocab_size}; "
                        "set vocab_size to the tokenizer's length or correct the id"
                    )


def _did_you_mean(word, choices):
    nearest = difflib.get_close_matches(word, list(choices), n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""


__all__ = ["FTGPTConfig"]
