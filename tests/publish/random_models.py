"""Random models of the families that GGUF export knows, with tokenizers that cut words as the families do."""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ftkit.data.templates.templates import install_template
from ftkit.publish.export.gguf_tokenizer import TRICKY_TEXT

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=512, rms_norm_eps=1e-5,
)  # fmt: skip
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, ROPE),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, ROPE),
    "gpt2": (GPT2LMHeadModel, GPT2Config, dict(n_embd=32, n_layer=2, n_head=4)),
}
# As the published tokenizer.json of Qwen2 and Llama 3 spell it.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_PATTERN = QWEN2_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
SPLITS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "qwen2": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"), BYTES]),
    "llama-bpe": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"), BYTES]),
}


def make_tokenizer(pre: str = "gpt-2", template: str | None = "chatml") -> PreTrainedTokenizerFast:
    """A byte-level BPE of some 300 tokens, cut into words as the named family does; ends turns with <|im_end|>."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = SPLITS[pre], decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([TRICKY_TEXT * 4], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>", pad_token="<|im_start|>"
    )
    if template:
        install_template(tokenizer, template)
    return tokenizer


def make_folder(folder: Path, family: str, tokenizer=None, **changes) -> Path:
    """A random model whose matrices are exact in float16, and its tokenizer."""
    model_class, config_class, settings = MODELS[family]
    tokenizer = tokenizer or make_tokenizer()
    torch.manual_seed(0)
    ids = dict(bos_token_id=0, eos_token_id=0, pad_token_id=1)
    settings = {"vocab_size": len(tokenizer), "tie_word_embeddings": True, **ids, **settings, **changes}
    model = model_class(config_class(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2).copy_(parameter.half().float())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
