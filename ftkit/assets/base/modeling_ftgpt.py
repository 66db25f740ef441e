"""FTGPT: one decoder, from token ids to logits, in one file; FTGPTConfig chooses between GPT-2's parts and Llama's.

It imports only torch, transformers and its configuration, so a saved folder runs without ftkit. The conventions are
transformers' own (attention interface, mask utilities, caches), so its attention backends, generation, quantisation,
torch.compile and parallel plans work here as for the models it ships.

Letters at the end of a name are the tensor's dimensions:
B batch, T tokens of this call, S tokens with the cached ones before them, D hidden, F inner width of the MLP, H query
heads, K key/value heads, E size of a head, V vocabulary, C classes.
"""

import math

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import DynamicCache
from transformers.generation import GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_ftgpt import FTGPTConfig

IGNORE_INDEX = -100  # label that cross-entropy skips


def make_norm(config):
    """The normalisation of the configured type."""
    norm_class = {"layernorm": nn.LayerNorm, "rmsnorm": nn.RMSNorm}[config.norm_type]
    return norm_class(config.hidden_size, eps=config.norm_eps)


class FTGPTRotaryEmbedding(nn.Module):
    """Cosines and sines of the rotary positions (Su et al., arXiv:2104.09864), with transformers' scaling types."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.max_seq_len_cached = self.original_max_seq_len = config.max_position_embeddings
        self.rope_type = config.rope_parameters["rope_type"]
        initialise = ROPE_INIT_FUNCTIONS.get(self.rope_type, self.compute_default_rope_parameters)
        inv_freq, self.attention_scaling = initialise(config)
        self.inv_freq = nn.Buffer(inv_freq, persistent=False)
        self.original_inv_freq = nn.Buffer(inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(config, *args, **kwargs):
        """Angle per position for each pair of a head, (E/2,), and a factor of 1. PreTrainedModel calls it by name."""
        exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float) / config.head_dim
        return 1.0 / config.rope_parameters["rope_theta"] ** exponent, 1.0

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, hidden_states, position_ids):
        angle_BTE = position_ids[..., None].float() * self.inv_freq.to(position_ids.device, torch.float)
        angle_BTE = torch.cat((angle_BTE, angle_BTE), dim=-1)
        cos_BTE, sin_BTE = angle_BTE.cos() * self.attention_scaling, angle_BTE.sin() * self.attention_scaling
        return cos_BTE.to(hidden_states.dtype), sin_BTE.to(hidden_states.dtype)


def rotate(states_BHTE, cos_BTE, sin_BTE):
    """Turn each pair (e, e + E/2) of a head by its angle; Llama's layout of the pairs."""
    first, second = states_BHTE.chunk(2, dim=-1)
    return states_BHTE * cos_BTE.unsqueeze(1) + torch.cat((-second, first), dim=-1) * sin_BTE.unsqueeze(1)


def eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Attention written out. query: (B, H, T, E); key, value: (B, K, S, E). Returns (B, T, H, E) and (B, H, T, S)."""
    key_BHSE = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value_BHSE = value.repeat_interleave(module.num_key_value_groups, dim=1)
    scores_BHTS = query @ key_BHSE.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores_BHTS = scores_BHTS + attention_mask
    weights_BHTS = scores_BHTS.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights_BHTS = nn.functional.dropout(weights_BHTS, p=dropout, training=module.training)
    return (weights_BHTS @ value_BHSE).transpose(1, 2).contiguous(), weights_BHTS


class FTGPTAttention(nn.Module):
    """Causal self-attention; each of the K key/value heads serves H / K query heads (arXiv:2305.13245)."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = config.head_dim**-0.5
        self.is_causal = True
        self.attention_dropout = config.attention_dropout
        query_size = config.num_attention_heads * config.head_dim
        key_size = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, key_size, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, key_size, bias=config.attention_bias)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=config.attention_output_bias)
        self.o_proj.writes_to_residual = True

    def forward(self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, **kwargs):
        heads_shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query_BHTE = self.q_proj(hidden_states).view(heads_shape).transpose(1, 2)
        key_BKTE = self.k_proj(hidden_states).view(heads_shape).transpose(1, 2)
        value_BKTE = self.v_proj(hidden_states).view(heads_shape).transpose(1, 2)
        if position_embeddings is not None:
            query_BHTE = rotate(query_BHTE, *position_embeddings)
            key_BKTE = rotate(key_BKTE, *position_embeddings)
        key_BKSE, value_BKSE = key_BKTE, value_BKTE
        if past_key_values is not None:
            key_BKSE, value_BKSE = past_key_values.update(key_BKTE, value_BKTE, self.layer_idx)

        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.attention_dropout if self.training else 0.0
        mixed_BTHE, weights_BHTS = attend(
            self, query_BHTE, key_BKSE, value_BKSE, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        mixed_BTD = mixed_BTHE.reshape(*hidden_states.shape[:-1], -1)
        return self.o_proj(mixed_BTD), weights_BHTS


class FTGPTMLP(nn.Module):
    """down(act(up(x))), or, gated, down(act(gate(x)) * up(x)) (Shazeer, arXiv:2002.05202)."""

    def __init__(self, config):
        super().__init__()
        if config.mlp_gated:
            self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.down_proj.writes_to_residual = True
        self.act_fn = ACT2FN[config.hidden_act]
        self.gated = config.mlp_gated

    def forward(self, hidden_states):
        up_BTF = self.up_proj(hidden_states)
        inner_BTF = self.act_fn(self.gate_proj(hidden_states)) * up_BTF if self.gated else self.act_fn(up_BTF)
        return self.down_proj(inner_BTF)


class FTGPTDecoderLayer(GradientCheckpointingLayer):
    """Attention, then the MLP, each on normalised input and added to the residual stream."""

    def __init__(self, config, layer_idx):
        super().__init__()
        self.input_layernorm = make_norm(config)
        self.self_attn = FTGPTAttention(config, layer_idx)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = FTGPTMLP(config)
        self.residual_dropout = nn.Dropout(config.residual_dropout)

    def forward(self, hidden_states, **kwargs):
        attended_BTD, _ = self.self_attn(self.input_layernorm(hidden_states), **kwargs)
        hidden_BTD = hidden_states + self.residual_dropout(attended_BTD)
        return hidden_BTD + self.residual_dropout(self.mlp(self.post_attention_layernorm(hidden_BTD)))


class FTGPTPreTrainedModel(PreTrainedModel):
    """What transformers needs to know of FTGPT, and how its weights start."""

    config_class = FTGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["FTGPTDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": FTGPTDecoderLayer, "attentions": FTGPTAttention}

    def _init_weights(self, module):
        """Normal(0, initializer_range); the two projections into the residual stream start smaller by the root of
        their number, so that its variance does not grow with depth (GPT-2, section 2.3). They carry a flag because
        this is never called for a module that owns no parameter itself, like the attention.
        """
        super()._init_weights(module)
        if getattr(module, "writes_to_residual", False):
            std = self.config.initializer_range / math.sqrt(2 * self.config.num_hidden_layers)
            init.normal_(module.weight, mean=0.0, std=std)


class FTGPTModel(FTGPTPreTrainedModel):
    """The decoder without a head: token ids (or embeddings) to hidden states after the last norm."""

    def __init__(self, config):
        super().__init__(config)
        # No padding_idx: it would freeze the input row of an end token that also serves as padding.
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = self.rotary_emb = None
        if config.position_embedding_type == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        else:
            self.rotary_emb = FTGPTRotaryEmbedding(config)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(FTGPTDecoderLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm = make_norm(config)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
                use_cache=None, **kwargs):  # fmt: skip
        """BaseModelOutputWithPast: last_hidden_state (B, T, D), and the cache if `use_cache`.

        input_ids: (B, T), or inputs_embeds: (B, T, D), not both. attention_mask: (B, S), 1 for tokens and 0 for
        padding on either side, or a prepared 4D mask. position_ids: (B, T); a packed row restarts them at 0 for each
        document, comes without a mask, and its documents don't see each other.
        Raises ValueError for ids outside the vocabulary and for more positions than max_position_embeddings.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds, not both")
        if inputs_embeds is None:
            check_range(input_ids, self.config.vocab_size, "input_ids", "vocab_size; use the model's own tokenizer")
            inputs_embeds = self.embed_tokens(input_ids)

        # Before a cache exists: with one, packed documents would not be told apart.
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        position_ids = self.resolve_positions(inputs_embeds, attention_mask, position_ids, past_key_values)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)

        hidden_BTD = inputs_embeds
        position_embeddings = None
        if self.rotary_emb is None:
            hidden_BTD = hidden_BTD + self.embed_positions(position_ids).to(hidden_BTD.device)
        else:
            position_embeddings = self.rotary_emb(hidden_BTD, position_ids)
        hidden_BTD = self.embedding_dropout(hidden_BTD)
        for layer in self.layers:
            hidden_BTD = layer(
                hidden_BTD,
                attention_mask=causal_mask,
                position_ids=position_ids,
                position_embeddings=position_embeddings,
                past_key_values=past_key_values,
                use_cache=use_cache,
                **kwargs,
            )
        return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden_BTD), past_key_values=past_key_values)

    def resolve_positions(self, inputs_embeds, attention_mask, position_ids, past_key_values):
        """(B, T) or (1, T): those given, else counted from the first token that the mask shows, else from the cache.

        Raises ValueError past max_position_embeddings, unless the rope type is "dynamic", which is made to outgrow it.
        """
        num_tokens = inputs_embeds.shape[1]
        num_past = past_key_values.get_seq_length() if past_key_values is not None else 0
        if position_ids is None and isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2:
            position_ids = (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)
            position_ids = position_ids[:, num_past : num_past + num_tokens].to(inputs_embeds.device)
            if position_ids.shape[1] != num_tokens:
                raise ValueError(
                    f"attention_mask covers {attention_mask.shape[1]} tokens but attention goes over {num_past} cached "
                    f"and {num_tokens} new ones; give one mask value for each"
                )
        elif position_ids is None:
            position_ids = (torch.arange(num_tokens, device=inputs_embeds.device) + num_past).unsqueeze(0)
        if self.rotary_emb is None or self.rotary_emb.rope_type != "dynamic":
            size = self.config.max_position_embeddings
            may_overrun = not torch.compiler.is_compiling() and num_past + num_tokens > size
            limit = "max_position_embeddings; shorten the input or generate fewer tokens"
            check_range(position_ids, size, "positions", limit, read_from_accelerator=may_overrun)
        return position_ids


class FTGPTForCausalLM(FTGPTPreTrainedModel, GenerationMixin):
    """The decoder with a projection to the vocabulary, tied to the token embedding by config.tie_word_embeddings."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = FTGPTModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
                labels=None, use_cache=None, logits_to_keep=0, **kwargs):  # fmt: skip
        """CausalLMOutputWithPast: logits (B, T, V) of the next token, and a loss in nats where `labels` are given.

        labels: (B, T), the input ids themselves (they are shifted here); IGNORE_INDEX is not scored. The loss is the
        sum over scored tokens divided by their number, or by `num_items_in_batch` when a trainer accumulates steps.
        logits_to_keep: project only the last n positions (0: all), or those that a tensor of indices names.
        Raises ValueError as FTGPTModel does, and for labels of another shape or outside the vocabulary.
        """
        outputs = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache=use_cache, **kwargs
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits_BTV = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            if labels.shape != logits_BTV.shape[:-1]:
                raise ValueError(
                    f"labels have shape {tuple(labels.shape)} but the logits cover {tuple(logits_BTV.shape[:-1])}; "
                    "give one label for each input id and leave logits_to_keep at 0"
                )
            check_range(labels, self.config.vocab_size, "labels", f"vocab_size or {IGNORE_INDEX}", ignore=IGNORE_INDEX)
            loss = self.loss_function(logits=logits_BTV, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss, logits_BTV, outputs.past_key_values, outputs.hidden_states, outputs.attentions
        )


class FTGPTForSequenceClassification(FTGPTPreTrainedModel):
    """The decoder with `score`, a linear map from the last token that is not padding to num_labels classes."""

    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = FTGPTModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, inputs_embeds=None,
                labels=None, use_cache=None, **kwargs):  # fmt: skip
        """SequenceClassifierOutputWithPast: logits (B, C), and the loss where `labels` are given.

        labels: (B,) classes, (B,) numbers or (B, C) yes/no, by config.problem_type.
        Raises ValueError as FTGPTModel does, for a class outside num_labels, and for a batch whose padding is unknown.
        """
        outputs = self.model(
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache=use_cache, **kwargs
        )
        hidden_BTD = outputs.last_hidden_state
        last_B = self.last_token_index(input_ids, attention_mask, hidden_BTD)
        pooled_BD = hidden_BTD[torch.arange(hidden_BTD.shape[0], device=hidden_BTD.device), last_B]
        logits_BC = self.score(pooled_BD)
        loss = None
        if labels is not None:
            if self.num_labels > 1 and not labels.is_floating_point():
                check_range(labels, self.num_labels, "labels", "num_labels; classes count from 0")
            loss = self.loss_function(logits=logits_BC, labels=labels, pooled_logits=logits_BC, config=self.config)
        return SequenceClassifierOutputWithPast(
            loss, logits_BC, outputs.past_key_values, outputs.hidden_states, outputs.attentions
        )

    def last_token_index(self, input_ids, attention_mask, hidden_BTD):
        """(B,): each row's last token that the mask shows or, without a mask, that is not pad_token_id."""
        num_rows, num_tokens = hidden_BTD.shape[:2]
        if attention_mask is not None and attention_mask.ndim == 2:
            is_token_BT = attention_mask[:, -num_tokens:].bool()
        elif input_ids is not None and self.config.pad_token_id is not None:
            is_token_BT = input_ids != self.config.pad_token_id
        elif num_rows == 1:
            is_token_BT = hidden_BTD.new_ones((1, num_tokens), dtype=torch.bool)
        else:
            raise ValueError("which tokens are padding is unknown; give attention_mask or set config.pad_token_id")
        index_T = torch.arange(num_tokens, device=hidden_BTD.device)
        return (is_token_BT.to(hidden_BTD.device) * index_T).argmax(dim=-1)


def check_range(ids, size, name, limit, ignore=None, read_from_accelerator=False):
    """Raise ValueError for ids below 0 or from `size` on. On the CPU only, unless asked for: reading a value stalls an
    accelerator, where the lookup itself fails. Never under torch.compile, whose graph it would break.
    """
    is_readable = ids.device.type == "cpu" or read_from_accelerator
    if torch.compiler.is_compiling() or not is_readable:
        return
    is_wrong = (ids < 0) | (ids >= size)
    if ignore is not None:
        is_wrong &= ids != ignore
    if is_wrong.any():
        raise ValueError(f"{name} hold {int(ids[is_wrong][0])}, but must be from 0 to {size - 1} ({limit})")


__all__ = ["FTGPTForCausalLM", "FTGPTForSequenceClassification", "FTGPTModel", "FTGPTPreTrainedModel"]
