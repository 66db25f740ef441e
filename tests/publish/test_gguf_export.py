"""A folder becomes a .gguf file that transformers, ftkit and llama.cpp read as the same model and the same tokens."""

import json
import math
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from llama_cpp import TALK, check_in_llama_cpp, ids_of_no_letters
from random_models import BYTES, MODELS, SPECIAL_TOKENS, SPLITS, make_folder, make_tokenizer
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from ftkit.config.errors import UserError
from ftkit.data.templates.templates import install_template
from ftkit.model.loading import load_model, load_tokenizer, local_model_folder
from ftkit.model.weights.gguf import convert_gguf
from ftkit.model.weights.gguf_file import GgufFile
from ftkit.publish.export.gguf import write_gguf
from ftkit.publish.export.gguf_tokenizer import TRICKY_TEXT, find_pre_tokenizer, portable_template


def greedy(model, tokenizer) -> list[int]:
    ids = tokenizer.apply_chat_template(TALK[0], add_generation_prompt=True, return_tensors="pt", return_dict=False)
    output = model.generate(ids, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=1)
    return output[0, ids.shape[1] :].tolist()


def transformers_reads(path: Path):
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", MODELS)
def test_greedy_text_is_equal_in_transformers_and_back_in_ftkit(family, tied, tmp_path):
    folder = make_folder(tmp_path / "plain", family, tie_word_embeddings=tied)
    write_gguf(folder, tmp_path / "model.gguf", "f16")
    source, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    reference, back = transformers_reads(tmp_path / "model.gguf"), tmp_path / "back"
    convert_gguf(tmp_path / "model.gguf", back)
    assert ("output.weight" in GgufFile(tmp_path / "model.gguf").specs()) is not tied
    for model in (reference, AutoModelForCausalLM.from_pretrained(back).eval()):
        assert type(model) is type(source)
        ids = torch.arange(60)[None] + 3
        assert (model(ids).logits - source(ids).logits).abs().max() <= 1e-5
        assert greedy(model, tokenizer) == greedy(source, tokenizer)


@pytest.mark.parametrize("kind", ["q8_0", "bf16", "f32"])
@pytest.mark.parametrize("family", MODELS)
def test_every_matrix_is_what_ggufs_own_quantiser_makes_of_it(family, kind, tmp_path):
    folder = make_folder(tmp_path / "plain", family, tie_word_embeddings=False)
    write_gguf(folder, tmp_path / "model.gguf", kind)
    source = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    found = transformers_reads(tmp_path / "model.gguf").state_dict()
    assert found.keys() == source.keys()
    quantisation = gguf.GGMLQuantizationType[kind.upper()]
    for name, values in source.items():
        if values.ndim == 2 and "wpe" not in name:
            is_transposed = family == "gpt2" and ".h." in name  # GPT-2 stores input x output, GGUF output x input
            stored = values.t() if is_transposed else values
            packed = gguf.quantize(np.ascontiguousarray(stored.numpy()), quantisation)
            values = torch.from_numpy(gguf.dequantize(packed, quantisation)).reshape(stored.shape)
            values = values.t() if is_transposed else values
        assert torch.equal(found[name], values), name


@pytest.mark.parametrize("pre", SPLITS)
def test_the_way_of_cutting_words_is_recognised_and_the_same_tokens_come_back(pre, tmp_path):
    tokenizer = make_tokenizer(pre)
    assert find_pre_tokenizer(tokenizer) == (pre, True)
    path = tmp_path / "model.gguf"
    write_gguf(make_folder(tmp_path / "plain", "llama", tokenizer), path, "f16")
    back = load_tokenizer(convert_gguf(path, tmp_path / "back"))
    text = TRICKY_TEXT + "".join(SPECIAL_TOKENS) + TRICKY_TEXT[::-1]
    assert back(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert back.decode(back(text)["input_ids"]) == text
    if pre != "smollm":  # whose single digits transformers' loader forgets
        assert (
            AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)(text)["input_ids"] == back(text)["input_ids"]
        )


def test_an_unknown_way_of_cutting_words_is_a_warning(caplog):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{N}{1,2}|[^\p{N}]+"), "isolated"), BYTES]
    )
    name, is_known = find_pre_tokenizer(tokenizer)
    assert name in SPLITS and not is_known
    assert "cuts text like none of gpt-2, smollm, llama-bpe, qwen2" in caplog.text


def test_special_ids_types_and_unused_rows(tmp_path):
    tokenizer = make_tokenizer()
    think = len(tokenizer)
    tokenizer.add_tokens(["<think>"])
    folder = make_folder(tmp_path / "plain", "llama", tokenizer, vocab_size=think + 16)
    write_gguf(folder, tmp_path / "model.gguf", "f16", name="named")
    source = GgufFile(tmp_path / "model.gguf")
    ids = {key: source.get(f"tokenizer.ggml.{key}_token_id") for key in ("bos", "eos", "eot", "padding")}
    assert ids == {"bos": 0, "eos": 0, "eot": 2, "padding": 1}  # chatml ends its turns with <|im_end|>
    assert source.get("general.name") == "named" and source.get("tokenizer.ggml.model") == "gpt2"
    types = source.get("tokenizer.ggml.token_type")
    assert [types[i] for i in (0, 1, 2, 3, think, think + 1, think + 15)] == [3, 3, 3, 1, 4, 5, 5]
    assert source.get("tokenizer.ggml.tokens")[think : think + 2] == ["<think>", f"[PAD{think + 1}]"]
    assert len(types) == think + 16 == source.get("llama.vocab_size")
    back = load_tokenizer(convert_gguf(tmp_path / "model.gguf", tmp_path / "back"))
    assert back("a<think>b")["input_ids"] == tokenizer("a<think>b")["input_ids"]


@pytest.mark.parametrize("name", ["alpaca", "chatml", "llama3", "phi3", "plain"])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_the_template_without_generation_tags_renders_the_same(name, add_generation_prompt):
    tokenizer = make_tokenizer(template=name)
    portable = portable_template(tokenizer)
    assert "generation %}" not in portable.replace("add_generation_prompt", "")
    answered = [*TALK[2], {"role": "assistant", "content": "It swims."}]
    for messages in (*TALK, answered, answered[:2]):
        settings = dict(tokenize=False, add_generation_prompt=add_generation_prompt)
        expected = tokenizer.apply_chat_template(messages, **settings)
        assert tokenizer.apply_chat_template(messages, chat_template=portable, **settings) == expected


@pytest.mark.parametrize("opening", ["{% generation %}", "{%- generation -%}", "{%+ generation %}", "{%-generation%}"])
def test_white_space_around_the_tags_is_cut_as_before(opening):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[ \n  "
        + opening
        + "\n {{ m['content'] }}{{ eos_token }}{% endgeneration -%} \n ]{% endfor %}"
    )
    portable = portable_template(tokenizer)
    assert "generation" not in portable
    expected = tokenizer.apply_chat_template(TALK[0], tokenize=False)
    assert tokenizer.apply_chat_template(TALK[0], tokenize=False, chat_template=portable) == expected


def test_a_template_that_leans_on_the_scope_of_the_tags_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% set seen = 'no' %}{% for m in messages %}{{ m['content'] }}"
        "{% generation %}{% set seen = 'yes' %}{{ eos_token }}{% endgeneration %}{{ seen }}{% endfor %}"
    )
    with pytest.raises(UserError, match="renders different text without its generation markers"):
        portable_template(tokenizer)


@pytest.mark.parametrize(("template", "expected"), [("llama3", True), ("chatml", False), (None, True)])
def test_bos_is_announced_only_where_conversations_begin_with_it(template, expected, tmp_path, caplog):
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer("llama-bpe", None)
    tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    if template:
        install_template(tokenizer, template)
    write_gguf(make_folder(tmp_path / "plain", "llama", tokenizer), tmp_path / "model.gguf")
    assert GgufFile(tmp_path / "model.gguf").get("tokenizer.ggml.add_bos_token") is expected
    assert ("the chat template does not" in caplog.text) is not expected


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_scaled_rope_of_llama_3_is_written_as_its_divisors(factor, tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    folder = make_folder(tmp_path / "plain", "llama", head_dim=64, rope_parameters=rope)
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    divisors = []
    for i in range(0, 64, 2):  # llama.cpp, convert_hf_to_gguf.py, LlamaModel.generate_extra_tensors
        wavelength = 2 * math.pi * 500000.0 ** (i / 64)
        smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
        middle = 1 / ((1 - smooth) / factor + smooth) if smooth not in (0, 1) else 1.0
        divisors.append(1.0 if wavelength < 2048 else factor if wavelength > 8192 else middle)
    found = GgufFile(tmp_path / "model.gguf").load("rope_freqs.weight")
    assert torch.allclose(found, torch.tensor(divisors), rtol=1e-5)
    back = AutoModelForCausalLM.from_pretrained(convert_gguf(tmp_path / "model.gguf", tmp_path / "back"))
    assert back.config.rope_parameters == rope


def test_linear_rope_scaling_comes_back_and_yarn_is_refused(tmp_path):
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    folder = make_folder(tmp_path / "plain", "qwen2", rope_parameters=rope)
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    back = convert_gguf(tmp_path / "model.gguf", tmp_path / "back")
    assert json.loads((back / "config.json").read_text())["rope_parameters"] == rope
    yarn = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    with pytest.raises(UserError, match="RoPE scaling yarn; GGUF export of qwen2 knows default, linear"):
        write_gguf(make_folder(tmp_path / "yarn", "qwen2", rope_parameters=yarn), tmp_path / "yarn.gguf")


def test_rows_that_do_not_divide_into_blocks_stay_f16(tmp_path):
    folder = make_folder(tmp_path / "plain", "llama", hidden_size=32, intermediate_size=48)
    facts = write_gguf(folder, tmp_path / "model.gguf", "q8_0")
    assert facts["num_tensors_in_f16_instead"] == 2  # down_proj of both layers: rows of 48
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16" and kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def edit_config(folder: Path, **changes) -> Path:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **changes}))
    return folder


def test_what_llama_cpp_computes_otherwise_is_refused(tmp_path):
    folder = make_folder(tmp_path / "plain", "llama")
    for changes, message in (
        ({"hidden_act": "gelu"}, "hidden_act is gelu; llama.cpp computes llama with silu"),
        ({"model_type": "mistral"}, 'model_type "mistral"; GGUF export knows FTGPT, llama, qwen2, gpt2'),
    ):
        with pytest.raises(UserError, match=message):
            write_gguf(edit_config(folder, **changes), tmp_path / "model.gguf")


def test_values_beyond_f16_are_refused_and_bf16_takes_them(tmp_path):
    folder = make_folder(tmp_path / "plain", "llama")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = 1e5
    model.save_pretrained(folder)
    with pytest.raises(UserError, match="blk.1.ffn_up.weight has values beyond f16's 65504"):
        write_gguf(folder, tmp_path / "model.gguf", "f16")
    write_gguf(folder, tmp_path / "wide.gguf", "bf16")


def test_other_tokenizers_than_byte_level_bpe_are_refused(tmp_path):
    backend = Tokenizer(models.WordLevel({"<end>": 0, "a": 1}, unk_token="<end>"))
    folder = make_folder(tmp_path / "plain", "llama", make_tokenizer())
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)
    with pytest.raises(UserError, match="the tokenizer is WordLevel; GGUF export knows byte-level BPE"):
        write_gguf(folder, tmp_path / "model.gguf")
    small = make_folder(tmp_path / "small", "llama", vocab_size=200)
    with pytest.raises(UserError, match=r"has \d+ tokens and the model embeds 200"):
        write_gguf(small, tmp_path / "model.gguf")


@pytest.mark.parametrize("pre", SPLITS)
def test_llama_cpp_reads_the_same_tokens_and_says_the_same(pre, tmp_path):
    family = {"gpt-2": "gpt2", "qwen2": "qwen2"}.get(pre, "llama")
    tokenizer = make_tokenizer(pre)
    folder = make_folder(tmp_path / "plain", family, tokenizer)
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        check_in_llama_cpp(tmp_path / "model.gguf", model, tokenizer, 8, 2e-3, ids_of_no_letters(tokenizer))


@pytest.mark.parametrize("template", ["alpaca", "phi3", "llama3", "plain"])
def test_llama_cpp_renders_every_bundled_template_the_same(template, tmp_path):
    tokenizer = make_tokenizer(template=template)
    folder = make_folder(tmp_path / "plain", "llama", tokenizer)
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        check_in_llama_cpp(tmp_path / "model.gguf", model, tokenizer, 4, 2e-3, ids_of_no_letters(tokenizer))


@pytest.mark.slow
@pytest.mark.smollm2
def test_smollm2_goes_to_a_folder_and_back_to_gguf_and_says_the_same(smollm2_gguf, tmp_path):
    folder = local_model_folder(smollm2_gguf)
    write_gguf(folder, tmp_path / "model.gguf", "f16")
    source, tokenizer = load_model(folder), load_tokenizer(folder)
    expected = greedy(source, tokenizer)
    assert greedy(transformers_reads(tmp_path / "model.gguf"), tokenizer) == expected
    back = load_tokenizer(convert_gguf(tmp_path / "model.gguf", tmp_path / "back"))
    assert GgufFile(tmp_path / "model.gguf").get("tokenizer.ggml.pre") == "smollm"
    text = TRICKY_TEXT + "".join(tokenizer.get_added_vocab()) + " 12345 + 67 = 12412"
    assert back(text)["input_ids"] == tokenizer(text)["input_ids"]
    for messages in TALK:
        assert back.apply_chat_template(messages) == tokenizer.apply_chat_template(messages)


@pytest.mark.smollm2
def test_smollm2_says_the_same_in_llama_cpp(smollm2_gguf, tmp_path):
    pytest.importorskip("xllamacpp", reason="needs: pip install xllamacpp")
    folder = local_model_folder(smollm2_gguf)
    write_gguf(folder, tmp_path / "model.gguf", "f16")
    with torch.inference_mode():
        check_in_llama_cpp(tmp_path / "model.gguf", load_model(folder), load_tokenizer(folder), 20, 0.1)
