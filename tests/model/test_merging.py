"""A merged folder loads plainly and gives base + adapter's logits; QLoRA moves by rounding only; what can't merge says so."""

import json

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from ftkit.config.errors import UserError
from ftkit.model.adapters.merging import merge_adapter
from ftkit.model.adapters.methods import four_bit_config, keep_four_bit_gradients
from ftkit.model.weights.conversion import import_weights

IDS = torch.arange(2, 50).reshape(4, 12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


def lora(**changes) -> LoraConfig:
    return LoraConfig(
        **{"task_type": TaskType.CAUSAL_LM, "r": 4, "lora_alpha": 8, "target_modules": "all-linear", **changes}
    )


def make_adapter(folder, base, config, tokenizer=None, **load):
    """Random weights of the size a trained adapter has; returns the adapter on its base, in evaluation mode."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, **load)
    keep_four_bit_gradients(model)
    if tokenizer and len(tokenizer) > 300:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model = get_peft_model(model, config).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder, save_embedding_layers=False)
    (tokenizer or AutoTokenizer.from_pretrained(base)).save_pretrained(folder)
    return model


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


METHODS = {
    "lora": lora(),
    "dora": lora(use_dora=True),
    "rslora": lora(use_rslora=True),
    "trained tokens": lora(trainable_token_indices={"embed_tokens": [5, 7]}),
    "ia3": IA3Config(
        task_type=TaskType.CAUSAL_LM, target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
}


@pytest.mark.parametrize("config", METHODS.values(), ids=METHODS)
def test_a_merged_folder_loads_without_peft_and_has_the_logits_of_base_and_adapter(config, tiny_folder, tmp_path):
    trained = make_adapter(tmp_path / "a", tiny_folder, config)
    out = merge_adapter(tmp_path / "a", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(out)
    assert (logits(merged) - logits(trained)).abs().max() <= 1e-5 * logits(trained).abs().max()
    assert merged.config.tie_word_embeddings and "lm_head.weight" not in merged.state_dict().keys() - {"lm_head.weight"}
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= names
    assert not any(name.startswith("adapter") or name.endswith(".bin") for name in names)


def test_sums_are_rounded_once_from_float32(tiny_folder, tmp_path):
    trained = make_adapter(tmp_path / "a", tiny_folder, lora())
    wanted = trained.merge_and_unload().state_dict()
    for dtype in ("bfloat16", "float16"):
        merged = AutoModelForCausalLM.from_pretrained(merge_adapter(tmp_path / "a", tmp_path / dtype, dtype=dtype))
        assert merged.dtype == getattr(torch, dtype)
        assert all(torch.equal(value, wanted[name].to(value.dtype)) for name, value in merged.state_dict().items())


def test_tokenizer_template_and_generation_config_are_those_of_the_run(tiny_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.chat_template = "{{ messages[0].content }}!"
    tokenizer.add_tokens(["<|end|>"])
    config = lora(trainable_token_indices={"embed_tokens": [300]})
    trained = make_adapter(tmp_path / "run" / "checkpoint-5", tiny_folder, config, tokenizer)
    trained.generation_config.eos_token_id = [300, 0]
    trained.generation_config.save_pretrained(tmp_path / "run")
    out = merge_adapter(tmp_path / "run" / "checkpoint-5", tmp_path / "merged")
    merged, loaded = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert loaded.chat_template == tokenizer.chat_template and loaded.convert_tokens_to_ids("<|end|>") == 300
    assert merged.generation_config.eos_token_id == [300, 0]
    assert merged.config.vocab_size == 301
    assert (logits(merged) - logits(trained)).abs().max() <= 1e-5 * logits(trained).abs().max()


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_qlora_adapter_is_merged_into_the_weights_it_was_trained_on(compute, tiny_folder, tmp_path):
    quantization = {"quantization_config": four_bit_config(compute), "dtype": getattr(torch, compute)}
    trained = make_adapter(tmp_path / "a", tiny_folder, lora(), **quantization)
    (tmp_path / "a" / "run.yaml").write_text(
        f"model_name_or_path: {tiny_folder}\nload_in_4bit: true\ndtype: {compute}\n"
    )
    reference = logits(trained).float()
    moved = {}
    for name, as_trained in (("trained", True), ("original", False)):
        out = merge_adapter(tmp_path / "a", tmp_path / name, as_trained=as_trained)
        assert "quantization_config" not in json.loads((out / "config.json").read_text())
        merged = AutoModelForCausalLM.from_pretrained(out)
        assert merged.dtype == torch.float32
        moved[name] = ((logits(merged) - reference).abs().max() / reference.abs().max()).item()
    assert moved["trained"] <= (1e-5 if compute == "float32" else 0.05)  # bfloat16 rounds the reference's activations
    assert moved["original"] > 0.5  # so large because random weights are hard to quantise


def test_a_folder_that_is_quantised_itself_is_dequantised(tiny_folder, tmp_path):
    quantised = tmp_path / "nf4"
    AutoModelForCausalLM.from_pretrained(tiny_folder, quantization_config=four_bit_config("float32")).save_pretrained(
        quantised
    )
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(quantised)
    trained = make_adapter(tmp_path / "a", quantised, lora())
    merged = AutoModelForCausalLM.from_pretrained(merge_adapter(tmp_path / "a", tmp_path / "merged"))
    assert not hasattr(merged, "hf_quantizer") or merged.hf_quantizer is None
    assert (logits(merged) - logits(trained)).abs().max() <= 1e-5 * logits(trained).abs().max()


@pytest.mark.parametrize("family", ["gpt2", "ftgpt"])
@pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning")
def test_other_families_merge_too_and_custom_code_stays(family, tiny_folder, tmp_path):
    torch.manual_seed(2)
    base = tmp_path / "gpt2"
    config = GPT2Config(
        vocab_size=300,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(base)
    if family == "ftgpt":
        base = import_weights(base, tmp_path / "ftgpt")
    trained = make_adapter(tmp_path / "a", base, lora())
    out = merge_adapter(tmp_path / "a", tmp_path / "merged")
    assert (logits(AutoModelForCausalLM.from_pretrained(out)) - logits(trained)).abs().max() <= 2e-5
    code = {"configuration_ftgpt.py", "modeling_ftgpt.py"}
    assert code <= {path.name for path in out.iterdir()} or family == "gpt2"


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")
def test_a_head_that_was_trained_as_a_whole_is_untied(tiny_folder, tmp_path):
    trained = make_adapter(tmp_path / "a", tiny_folder, lora(modules_to_save=["lm_head"]))
    merged = AutoModelForCausalLM.from_pretrained(merge_adapter(tmp_path / "a", tmp_path / "merged"))
    assert not merged.config.tie_word_embeddings
    assert (logits(merged) - logits(trained)).abs().max() <= 1e-5 * logits(trained).abs().max()


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")
def test_lora_on_one_end_of_a_tied_embedding_is_untied_where_peft_would_merge_it_wrongly(target, tiny_folder, tmp_path):
    trained = make_adapter(tmp_path / "a", tiny_folder, lora(target_modules=["q_proj", target]))
    merged = AutoModelForCausalLM.from_pretrained(merge_adapter(tmp_path / "a", tmp_path / "merged"))
    assert not merged.config.tie_word_embeddings
    wanted = logits(trained)
    assert (logits(merged) - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert (logits(trained.merge_and_unload()) - wanted).abs().max() > 0.1  # the reason


def test_a_bias_that_the_base_has_no_place_for_is_refused(tiny_folder, tmp_path):
    make_adapter(tmp_path / "a", tiny_folder, lora(lora_bias=True))
    with pytest.raises(UserError, match=r"has a bias for .*q_proj, which has none in the base; use it by --adapter"):
        merge_adapter(tmp_path / "a", tmp_path / "merged")


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
def test_soft_prompts_have_nothing_to_merge(config, tiny_folder, tmp_path):
    make_adapter(tmp_path / "a", tiny_folder, config(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4))
    with pytest.raises(UserError, match="tuning changes no weights, so there is nothing to merge; use it by --adapter"):
        merge_adapter(tmp_path / "a", tmp_path / "merged")


def test_mistakes_of_a_merge_are_refused_and_leave_no_folder(tiny_folder, tmp_path):
    make_adapter(tmp_path / "a", tiny_folder, lora())
    with pytest.raises(UserError, match="dtype int8; allowed are float32, bfloat16, float16"):
        merge_adapter(tmp_path / "a", tmp_path / "merged", dtype="int8")
    with pytest.raises(UserError, match="no such folder"):
        merge_adapter(tmp_path / "a", tmp_path / "merged", base=str(tmp_path / "nowhere"))
    assert not (tmp_path / "merged").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    with pytest.raises(UserError, match="exists and is not empty"):
        merge_adapter(tmp_path / "a", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"]


def test_a_moved_base_is_named_by_the_adapter_and_may_be_passed(tiny_folder, tmp_path):
    trained = make_adapter(tmp_path / "a", tiny_folder, lora())
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "/gone/base"}))
    with pytest.raises(UserError, match="/a: its base is not here .*pass it by --model_name_or_path"):
        merge_adapter(tmp_path / "a", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(
        merge_adapter(tmp_path / "a", tmp_path / "merged", base=str(tiny_folder))
    )
    assert (logits(merged) - logits(trained)).abs().max() <= 1e-5 * logits(trained).abs().max()
    assert not isinstance(merged, PeftModel)
