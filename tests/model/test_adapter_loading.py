"""Adapters load bit for bit beside each other; another base, a renamed key, NaN and a zero update are refused."""

import json
import logging

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.config.errors import UserError
from ftkit.model.adapters import files as adapter_files
from ftkit.model.adapters.files import record_base
from ftkit.model.adapters.loading import check_adapter_folder, put_adapter
from ftkit.model.adapters.methods import four_bit_config, keep_four_bit_gradients
from ftkit.model.loading import weights_fingerprint

IDS = torch.arange(2, 26).reshape(2, 12)
KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tokenizer(tiny_folder):
    return AutoTokenizer.from_pretrained(tiny_folder)


def lora(**changes) -> LoraConfig:
    return LoraConfig(
        **{"task_type": TaskType.CAUSAL_LM, "r": 4, "lora_alpha": 8, "target_modules": "all-linear", **changes}
    )


@pytest.fixture
def make_adapter(tiny_folder, tmp_path):
    """Writes an adapter with random weights, with a record of its base, and returns its folder."""

    def make(name="a", config=None, *, seed=1, base=None, recorded=True, random=True):
        folder, base = tmp_path / name, base or tiny_folder
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config or lora())
        if random:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder, save_embedding_layers=False)
        if recorded:
            record_base(folder, base, str(base))
        return folder

    return make


@pytest.fixture
def other_base(tiny_folder, tmp_path):
    """The tiny model with other weights, or with other sizes."""

    def make(**changes):
        torch.manual_seed(9)
        config = AutoModelForCausalLM.from_pretrained(tiny_folder).config
        for key, value in changes.items():
            setattr(config, key, value)
        folder = tmp_path / "other"
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
        return folder

    return make


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def edit_tensors(folder, change):
    path = folder / adapter_files.WEIGHTS_FILE
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


METHODS = {
    "lora": lora(),
    "dora": lora(use_dora=True),
    "rslora": lora(use_rslora=True),
    "tokens": lora(trainable_token_indices={"embed_tokens": [5, 7]}),
    "norm": lora(modules_to_save=["norm"]),
    "ia3": IA3Config(
        task_type=TaskType.CAUSAL_LM, target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "prompt": PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4),
    "prefix": PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4),
}


@pytest.mark.parametrize("config", METHODS.values(), ids=METHODS)
def test_every_method_loads_as_peft_loads_it_and_swaps_leave_no_trace(config, make_adapter, tiny_folder, tokenizer):
    a, b = make_adapter("a", config), make_adapter("b", config, seed=2)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    of_base = logits(base)
    model = put_adapter(base, a, tokenizer, name="first", base_folder=tiny_folder)
    alone = logits(model)
    peer = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder), a)
    assert torch.equal(alone, logits(peer))
    assert put_adapter(model, b, tokenizer, name="second", base_folder=tiny_folder) is model
    assert model.active_adapter == "first" and torch.equal(logits(model), alone)
    model.set_adapter("second")
    other = logits(model)
    assert not torch.equal(other[:, -12:], alone[:, -12:])
    model.set_adapter("first")
    assert torch.equal(logits(model), alone)
    with model.disable_adapter():
        assert torch.equal(logits(model), of_base)
    assert torch.equal(logits(model), alone)
    model.set_adapter("second")
    assert torch.equal(logits(model), other)


def test_an_adapter_of_a_four_bit_base_is_checked_against_the_folder_and_swaps_exactly(
    make_adapter, tiny_folder, tokenizer
):
    a, b = make_adapter("a"), make_adapter("b", seed=2)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, quantization_config=four_bit_config("float32"))
    keep_four_bit_gradients(base)
    of_base = logits(base)
    model = put_adapter(base, a, tokenizer, name="first", base_folder=tiny_folder)
    put_adapter(model, b, tokenizer, name="second", base_folder=tiny_folder)
    alone = logits(model)
    model.set_adapter("second")
    assert not torch.equal(logits(model), alone)
    with model.disable_adapter():
        assert torch.equal(logits(model), of_base)
    model.set_adapter("first")
    assert torch.equal(logits(model), alone)


def test_a_sound_adapter_passes_without_a_warning(make_adapter, tiny_folder, caplog):
    check_adapter_folder(make_adapter(), tiny_folder)
    assert not caplog.records


def rename(tensors):
    tensors[KEY.replace("q_proj", "query")] = tensors.pop(KEY)


def poison(tensors):
    tensors[KEY][3, 1] = float("nan")


def overflow(tensors):
    tensors[KEY][0, 0] = float("inf")


def zero(tensors):
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor.zero_()


def zero_a_here_and_b_there(tensors):
    for name, tensor in tensors.items():
        if ("lora_A" in name) == ("layers.0." in name):
            tensor.zero_()


DAMAGE = {
    "renamed": (
        rename,
        r"has tensor \S+query.lora_B.weight where \S+q_proj.lora_B.weight is expected \(1 unknown, 1 missing\)",
    ),
    "missing": (lambda tensors: tensors.pop(KEY), r"q_proj.lora_B.weight is missing \(1 of 28\)"),
    "surplus": (
        lambda tensors: tensors.update(more=torch.ones(2)),
        r"tensor more has no place in this model \(1 such\)",
    ),
    "shape": (
        lambda tensors: tensors.update({KEY: torch.ones(64, 5)}),
        r"has shape \(64, 5\) and this base needs \(64, 4\)",
    ),
    "nan": (poison, r"q_proj.lora_B.weight holds NaN or infinity \(1 of 256 values\)"),
    "infinity": (overflow, r"holds NaN or infinity"),
    "no tensors": (lambda tensors: tensors.clear(), "the adapter is empty"),
    "zero update": (zero, "the adapter changes nothing"),
    "zero product": (zero_a_here_and_b_there, "the adapter changes nothing"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_adapter_is_refused_with_its_file(change, message, make_adapter, tiny_folder, tokenizer):
    folder = make_adapter()
    edit_tensors(folder, change)
    for check in (
        lambda: check_adapter_folder(folder, tiny_folder),
        lambda: put_adapter(AutoModelForCausalLM.from_pretrained(tiny_folder), folder, tokenizer),
    ):
        with pytest.raises(UserError, match=message) as caught:
            check()
        assert str(folder / "adapter_model.safetensors") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [lora(), lora(use_dora=True), lora(lora_alpha=0), METHODS["ia3"]],
    ids=["lora", "dora", "alpha 0", "ia3"],
)
def test_an_untrained_adapter_changes_nothing_and_is_refused(config, make_adapter, tiny_folder):
    folder = make_adapter(config=config, random=getattr(config, "lora_alpha", 1) == 0)
    with pytest.raises(UserError, match="its update is zero; train it first"):
        check_adapter_folder(folder, tiny_folder)


def test_an_adapter_whose_tokens_alone_are_trained_is_no_no_op(make_adapter, tiny_folder):
    folder = make_adapter(config=METHODS["tokens"])
    edit_tensors(folder, zero)
    check_adapter_folder(folder, tiny_folder)


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pickled(folder):
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


FOLDERS = {
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), "no adapter_config.json in it"),
    "broken config": (
        lambda folder: (folder / "adapter_config.json").write_text("{"),
        "adapter_config.json:1: not valid JSON",
    ),
    "not an object": (
        lambda folder: (folder / "adapter_config.json").write_text("[]"),
        "adapter_config.json:1: expected a JSON object",
    ),
    "unknown method": (lambda folder: edit_config(folder, peft_type="MAGIC"), "peft_type is MAGIC"),
    "code to import": (
        lambda folder: edit_config(folder, megatron_config={"a": 1}, megatron_core="antigravity"),
        "names code to import",
    ),
    "targets elsewhere": (lambda folder: edit_config(folder, target_modules=["c_attn"]), "does not fit llama"),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "adapter_model.safetensors: missing",
    ),
    "pickle": (pickled, "has only adapter_model.bin, a pickle"),
    "cut off": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{"),
        "not a readable safetensors file",
    ),
    "broken record": (lambda folder: (folder / "base.json").write_text("{}"), "base.json: not as a run writes it"),
}


@pytest.mark.parametrize(("change", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_is_no_adapter_is_refused_in_one_line(change, message, make_adapter, tiny_folder):
    folder = make_adapter()
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        check_adapter_folder(folder, tiny_folder)
    assert "\n" not in str(caught.value) and folder.name in str(caught.value) or "llama" in message


def test_another_base_of_the_same_shape_is_refused_by_its_hash(make_adapter, other_base, tiny_folder, tokenizer):
    folder, other = make_adapter(), other_base()
    hashes = [weights_fingerprint(base)[:12] for base in (tiny_folder, other)]
    with pytest.raises(UserError, match=rf'its base "{tiny_folder}" has SHA-256 {hashes[0]}, {other} has {hashes[1]}'):
        check_adapter_folder(folder, other)
    with pytest.raises(UserError, match="pass its base by --model_name_or_path"):
        put_adapter(AutoModelForCausalLM.from_pretrained(other), folder, tokenizer, base_folder=other)


def test_without_a_record_shapes_still_tell_and_one_line_warns(make_adapter, other_base, tiny_folder, caplog):
    folder = make_adapter(recorded=False)
    check_adapter_folder(folder, tiny_folder)
    assert len(caplog.records) == 1 and "its base could not be verified" in caplog.text
    with pytest.raises(UserError, match="it was trained on another model"):
        check_adapter_folder(folder, other_base(hidden_size=32))


def test_a_checkpoint_has_the_record_and_the_settings_of_its_run(make_adapter, other_base, tiny_folder, caplog):
    run = make_adapter("run")
    checkpoint = make_adapter("run/checkpoint-10", recorded=False)
    (run / "run.yaml").write_text("load_in_4bit: true\n")
    assert adapter_files.run_settings(checkpoint) == {"load_in_4bit": True}
    check_adapter_folder(checkpoint, tiny_folder)
    assert not caplog.records
    with pytest.raises(UserError, match="was trained on other weights"):
        check_adapter_folder(checkpoint, other_base())


def test_the_record_holds_the_hash_and_the_sizes_of_the_base(tiny_folder, tmp_path):
    record_base(tmp_path / "new", tiny_folder, "tiny")
    assert json.loads((tmp_path / "new" / "base.json").read_text()) == {
        "name": "tiny", "sha256": weights_fingerprint(tiny_folder), "model_type": "llama", "vocab_size": 300, "load_in_4bit": False,
    }  # fmt: skip


def test_a_base_is_hashed_once_while_its_file_is_the_same(other_base, monkeypatch):
    folder, calls = other_base(), []
    monkeypatch.setattr(
        adapter_files, "weights_fingerprint", lambda folder: calls.append(folder) or weights_fingerprint(folder)
    )
    first = adapter_files.base_fingerprint(folder)
    assert adapter_files.base_fingerprint(folder) == first and len(calls) == 1
    edit = load_file(folder / "model.safetensors")
    edit["model.norm.weight"] += 1
    save_file(edit, folder / "model.safetensors")
    assert adapter_files.base_fingerprint(folder) != first and len(calls) == 2


def test_an_absurd_scaling_is_reported_but_loads(make_adapter, tiny_folder, tokenizer, caplog):
    folder = make_adapter(config=lora(lora_alpha=10**9))
    with caplog.at_level(logging.WARNING):
        put_adapter(AutoModelForCausalLM.from_pretrained(tiny_folder), folder, tokenizer, base_folder=tiny_folder)
    assert "multiplies the update by 2.5e+08" in caplog.text


def test_added_tokens_grow_the_vocabulary_before_the_adapter_is_put_on(tiny_folder, tmp_path, tokenizer):
    tokenizer.add_tokens(["<|one|>", "<|two|>"])
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    base.resize_token_embeddings(len(tokenizer))
    torch.manual_seed(3)
    trained = get_peft_model(base, lora(init_lora_weights=False, trainable_token_indices={"embed_tokens": [300, 301]}))
    trained.save_pretrained(tmp_path / "a", save_embedding_layers=False)
    model = put_adapter(AutoModelForCausalLM.from_pretrained(tiny_folder), tmp_path / "a", tokenizer)
    assert logits(model).shape[-1] == 302
    assert torch.equal(logits(model), logits(trained.eval()))
    check_adapter_folder(tmp_path / "a", tiny_folder)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (METHODS["lora"], METHODS["prompt"], "is PROMPT_TUNING, the adapters before it LORA"),
        (METHODS["prompt"], METHODS["lora"], "is LORA, the adapters before it PROMPT_TUNING"),
        (METHODS["lora"], lora(init_lora_weights="pissa"), "init_lora_weights pissa moves the base's weights"),
        (lora(init_lora_weights="pissa"), METHODS["lora"], "init_lora_weights pissa moves the base's weights"),
    ],
    ids=["lora, prompt", "prompt, lora", "lora, pissa", "pissa, lora"],
)
def test_adapters_that_can_not_share_a_base_are_refused(first, second, message, make_adapter, tiny_folder, tokenizer):
    folders = make_adapter("a", first), make_adapter("b", second)
    model = put_adapter(AutoModelForCausalLM.from_pretrained(tiny_folder), folders[0], tokenizer, name="first")
    with pytest.raises(UserError, match=message):
        put_adapter(model, folders[1], tokenizer, name="second")


def test_an_adapter_that_is_to_be_trained_keeps_its_gradients(make_adapter, tiny_folder, tokenizer):
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    model = put_adapter(base, make_adapter(), tokenizer, is_trainable=True)
    assert any(parameter.requires_grad for parameter in model.parameters())


def test_the_base_is_taken_at_the_revision_that_the_configuration_names(make_adapter, monkeypatch):
    folder, asked = make_adapter(), []
    edit_config(folder, base_model_name_or_path="owner/base", revision="v2")
    monkeypatch.setattr(adapter_files, "local_model_folder", lambda name, **how: asked.append((name, how["revision"])))
    adapter_files.resolve_base(folder)
    (folder / "run.yaml").write_text("model_name_or_path: owner/base\nmodel_revision: v1\n")
    adapter_files.resolve_base(folder)
    assert asked == [("owner/base", "v2"), ("owner/base", "v1")]


def test_the_base_is_named_by_the_configuration_or_refused(make_adapter, tiny_folder):
    folder = make_adapter()
    assert adapter_files.base_of_adapter(folder) == str(tiny_folder)
    edit_config(folder, base_model_name_or_path=None)
    with pytest.raises(UserError, match="names no base; pass --model_name_or_path"):
        adapter_files.base_of_adapter(folder)
