"""What decisions rest on, found out on the first process without loading the weights: shape, context, isolation."""

import copy
import logging

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from ftkit.config.estimate import Shape
from ftkit.config.hardware import Hardware
from ftkit.model.context import context_size
from ftkit.model.fast.head_kernels import HeadShape, fastest_kernel
from ftkit.model.fast.packed_attention import NAME as BY_DOCUMENT
from ftkit.model.fast.packed_attention import register_packed_attention
from ftkit.model.fast.varlen_attention import NAME as VARLEN
from ftkit.model.fast.varlen_attention import has_varlen, use_varlen_attention
from ftkit.training.decided import Facts
from ftkit.training.packing import GPU_LIBRARIES

logger = logging.getLogger(__name__)
PROBED_LAYERS = 2  # both kinds of attention where a model alternates
PROBED_TOKENS = 256  # of the vocabulary
REFUSALS = (TypeError, RuntimeError, ImportError)  # of a backend: this model, this GPU, what is installed
ISOLATION_TOLERANCE = 0.02  # relative; a leak moves hidden states by far more, bf16 rounding by less


def model_facts(
    config: PretrainedConfig,
    hardware: Hardware,
    *,
    trust_remote_code: bool = False,
    probe_isolation: bool = False,
    auto: type = AutoModelForCausalLM,
) -> Facts:
    """The facts of a model and a machine; those of the rows are added by `dataclasses.replace`.

    auto: the Auto class that will load the weights.
    """
    with torch.device("meta"):
        model = auto.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
    shape = Shape.of(config, sum(parameter.numel() for parameter in model.parameters()))
    facts = {"hardware": hardware, "shape": shape, "context": context_size(config)}
    if probe_isolation:
        probed = small_copy(config)
        facts["isolates"] = isolates(probed, "sdpa", trust_remote_code=trust_remote_code)
        facts["isolates_by_document"] = isolates(probed, BY_DOCUMENT, trust_remote_code=trust_remote_code)
        if hardware.device == "cuda":
            facts["gpu_attention"] = gpu_attention(probed, trust_remote_code=trust_remote_code)
    return Facts(**facts)


def timed_head(facts: Facts, *, trained: bool, uniform_rows: bool) -> str | None:
    """The faster kernel of the loss head on the GPU at hand; None on other devices."""
    if facts.hardware.device != "cuda":
        return None
    dtype = torch.bfloat16 if facts.hardware.bf16 else torch.float32
    device, shape = torch.device("cuda", torch.cuda.current_device()), facts.shape
    return fastest_kernel(HeadShape(device, shape.hidden_size, shape.vocab_size, dtype, trained, uniform_rows))


def small_copy(config: PretrainedConfig) -> PretrainedConfig:
    """The same architecture with few layers and tokens: as isolated, or not, as the whole."""
    small = copy.deepcopy(config)
    text = small.get_text_config()
    num_layers = text.num_hidden_layers
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == num_layers:  # one entry for each layer
            setattr(text, name, value[:PROBED_LAYERS])
    text.num_hidden_layers = min(PROBED_LAYERS, num_layers)
    text.vocab_size = min(PROBED_TOKENS, text.vocab_size)
    text.pad_token_id = None
    if hasattr(small, "quantization_config"):
        del small.quantization_config
    return small


def isolates(config: PretrainedConfig, attention: str, *, device: str = "cpu", trust_remote_code: bool = False) -> bool:
    """Whether packed documents see nothing of each other in a model of this configuration, tried on random weights.

    False where the model does not take this attention.
    """
    register_packed_attention()
    with torch.random.fork_rng([] if device == "cpu" else [torch.cuda.current_device()]):
        torch.manual_seed(0)
        try:
            with torch.device(device):
                model = AutoModelForCausalLM.from_config(
                    copy.deepcopy(config), attn_implementation="sdpa" if attention == VARLEN else attention,
                    trust_remote_code=trust_remote_code,
                )  # fmt: skip
        except (ValueError, KeyError):  # the latter of families with a table of their own, such as Falcon
            return False
        if attention == VARLEN and not use_varlen_attention(model):
            return False
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            return packing_leak(model.float()) <= ISOLATION_TOLERANCE


def gpu_attention(config: PretrainedConfig, *, trust_remote_code: bool = False) -> str | None:
    """The fastest backend that keeps packed documents apart without a mask of all tokens; None where there is none.

    It is tried on the GPU. Where a plan is for another machine, a CPU shows whether the model takes it.
    """
    found = [VARLEN] if has_varlen() and not attention_dropout(config) else []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        found += [name for name in GPU_LIBRARIES if name != "flash_attention_2" or is_flash_attn_2_available()]
    for name in found:
        try:
            if isolates(config, name, device=device, trust_remote_code=trust_remote_code):
                return name
        except REFUSALS as refusal:
            logger.info("%s: not taken (%s)", name, refusal)
    return None


def attention_dropout(config: PretrainedConfig) -> float:
    """Of the attention weights, by the two names that families have for it."""
    text = config.get_text_config()
    return getattr(text, "attention_dropout", None) or getattr(text, "attn_pdrop", None) or 0.0


@torch.no_grad()
def packing_leak(model: PreTrainedModel) -> float:
    """Largest relative change of a document's hidden states when another document is packed in front of it.

    About 0 where attention isolates packed documents (they are told apart by position_ids that restart at 0).
    """
    embeddings = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(embeddings.weight), (1, 12), generator=generator).to(embeddings.weight.device)
    positions = torch.arange(6, device=ids.device).repeat(2)[None]
    was_training = model.training
    model.eval()
    decoder = model.get_decoder()
    packed = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[:, 6:]
    alone = decoder(input_ids=ids[:, 6:], position_ids=positions[:, 6:], use_cache=False).last_hidden_state
    model.train(was_training)
    return ((packed - alone).abs().max() / alone.abs().max()).item()
