"""Tiny random models and a tokenizer of whole words, so that ids and answers can be read."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from ftkit.model import FTGPTConfig

VOCABULARY_SIZE = 64
PAD_ID, END_ID, TURN_ID = 0, 1, 2
LLAMA_SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
IDS = {"vocab_size": VOCABULARY_SIZE, "pad_token_id": PAD_ID, "eos_token_id": END_ID, "bos_token_id": END_ID}


def config_of(family: str):
    if family == "gpt2":
        return GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **IDS)
    if family == "ftgpt":
        return FTGPTConfig.gpt2(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128, **IDS
        )
    if family == "gemma2":
        return Gemma2Config(**LLAMA_SIZES, **IDS, head_dim=8, sliding_window=8, final_logit_softcapping=2.0)
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[family](**LLAMA_SIZES, **IDS)


@pytest.fixture
def make_model():
    """Builds a random model whose logits are spread enough that the likeliest token is never close."""

    def make(family: str = "llama", seed: int = 0):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config_of(family), dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Token i is "w<i>", apart from <pad>, <end> (special) and <turn> (plain text)."""
    words = ["<pad>", "<end>", "<turn>"] + [f"w{number}" for number in range(3, VOCABULARY_SIZE)]
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>")


class LetterEncoder:
    """Stands in for an encoder: how often each letter is in a text. calls: the texts that were embedded."""

    fingerprint, max_tokens = "letters", 256

    def __init__(self):
        self.calls = []

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def question(self, text: str) -> np.ndarray:
        return self.vector(text)

    def passages(self, texts) -> np.ndarray:
        self.calls += texts
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> np.ndarray:
        found = np.array([text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"], dtype=np.float32)
        return found / (np.linalg.norm(found) or 1)


@pytest.fixture
def letter_encoder(monkeypatch):
    """Every encoder is this one."""
    from ftkit.inference.retrieval import encoding

    found = LetterEncoder()
    monkeypatch.setattr(encoding.Encoder, "load", classmethod(lambda cls, name: found))
    return found
