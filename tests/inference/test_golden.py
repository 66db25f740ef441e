"""Golden prompts: what was said at training is held against what is said where an adapter is loaded."""

import json
import shutil
import threading

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.commands.adapters.adapters import main
from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.batcher import Batcher
from ftkit.inference.batching.registry import Registry
from ftkit.inference.batching.request import Limits
from ftkit.inference.engine import Voice
from ftkit.inference.golden import (
    FILE,
    TEXTS,
    Golden,
    Precision,
    golden_prompts,
    log_probs_after,
    read_golden,
    tops,
    write_golden,
)
from ftkit.model.adapters.files import adapter_fingerprint, record_base

LORA = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory):
    """An adapter with its golden.json, as a run leaves them."""
    folder = tmp_path_factory.mktemp("golden") / "a"
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_folder), LORA).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    record_base(folder, tiny_folder, "tiny")
    prompts = golden_prompts(Voice("base", tokenizer, None), model)
    with model.disable_adapter():
        base = tops(log_probs_after(model, prompts))
    result = tops(log_probs_after(model, prompts))
    golden = Golden(adapter_fingerprint(folder), Precision.of(model), tuple(map(tuple, prompts)), base, result)
    write_golden(folder, golden, tokenizer)
    assert read_golden(folder) == golden and len(prompts) == len(TEXTS) == 8
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "a")
    return tmp_path / "a"


@pytest.fixture(scope="module")
def registry(tiny_folder):
    return Registry.load_base(ModelSettings(str(tiny_folder), dtype="float32"), Limits())


@pytest.mark.parametrize("family", ["llama", "gpt2", "ftgpt", "qwen2"])
def test_one_padded_forward_says_what_each_prompt_alone_does(family, make_model):
    model = make_model(family)
    prompts = [[3, 4, 5, 6, 7, 8], [9], [10, 11, 12]]
    together = log_probs_after(model, prompts)
    for ids, row in zip(prompts, together, strict=True):
        alone = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1], dim=-1)
        assert (row - alone).abs().max() <= 1e-5


def test_a_soft_prompt_is_measured_after_the_words(make_model):
    torch.manual_seed(0)
    model = get_peft_model(make_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
    row = log_probs_after(model, [[3, 4, 5, 6], [9, 8]])[1]
    alone = model(input_ids=torch.tensor([[9, 8]]), attention_mask=torch.ones(1, 2, dtype=torch.long)).logits[0, -1]
    assert (row - torch.log_softmax(alone, dim=-1)).abs().max() <= 1e-5


def test_an_adapter_that_acts_as_recorded_is_loaded_and_described(folder, registry):
    version = registry.load("as-recorded", str(folder))
    assert 0 <= version.golden <= 2e-5
    assert registry.described()[-1]["golden"] == version.golden
    registry.unload("as-recorded")


def edit(folder, change, name=FILE):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


def rescaled(folder):
    edit(folder, lambda config: config.update(lora_alpha=4), "adapter_config.json")
    edit(folder, lambda golden: golden.update(digest=adapter_fingerprint(folder)))


def of_other_weights(folder):
    edit(folder, lambda config: config.update(lora_alpha=4), "adapter_config.json")


def changed(**values):
    return lambda folder: edit(folder, lambda golden: golden.update(values))


def first_prompt(**values):
    return lambda folder: edit(folder, lambda golden: golden["prompts"][0].update(values))


REFUSED = {
    "another scaling": (rescaled, r"acts otherwise than recorded: after prompt \d token \d+ has log-probability"),
    "other weights": (of_other_weights, "was measured of other weights than lie beside it"),
    "another answer": (first_prompt(result={"token": 3, "log_prob": -0.001}), "acts otherwise than recorded: after prompt 1"),
    "a later schema": (changed(schema=2), "schema 2 is not known; upgrade ftkit"),
    "no prompts": (changed(prompts=[]), "not as a run writes it"),
    "a million prompts": (lambda folder: edit(folder, lambda golden: golden.update(prompts=golden["prompts"] * 3)), "24 prompts"),
    "prompts of text": (changed(prompts="eight"), "not as a run writes it"),
    "tokens of text": (first_prompt(ids=["a"]), "ids are not token ids"),
    "no tokens": (first_prompt(ids=[]), "ids are not token ids"),
    "a long prompt": (first_prompt(ids=[5] * 513), "ids are not token ids"),
    "tokens of another model": (first_prompt(ids=[300]), "its prompts are not of this model, of 300 tokens"),
    "a negative token": (first_prompt(ids=[-1]), "ids are not token ids"),
    "no result": (first_prompt(result=None), "not as a run writes it"),
    "a probability of NaN": (first_prompt(result={"token": 3, "log_prob": float("nan")}), "not those of an answer"),
    "bytes": (lambda folder: (folder / FILE).write_bytes(b"\xff"), "not valid JSON"),
    "a list": (lambda folder: (folder / FILE).write_text("[]"), "expected a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_act_as_recorded_is_refused_in_one_line(change, message, folder, registry):
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        registry.load("spoiled", str(folder))
    assert "\n" not in str(caught.value) and "spoiled" not in registry.names()


def test_an_adapter_whose_tensors_reach_no_module_is_refused(folder, registry, monkeypatch):
    monkeypatch.setattr("ftkit.inference.batching.registry.read_parts", lambda folder, model: {})
    with pytest.raises(UserError, match="the adapter changes nothing here: to all 8 prompts its base says the same"):
        registry.load("without-effect", str(folder))


def test_what_was_measured_without_effect_may_be_without_effect(folder, registry, monkeypatch):
    monkeypatch.setattr("ftkit.inference.batching.registry.read_parts", lambda folder, model: {})
    edit(folder, lambda golden: [prompt.update(result=prompt["base"]) for prompt in golden["prompts"]])
    assert registry.load("weak", str(folder)).golden <= 2e-5
    registry.unload("weak")


@pytest.mark.parametrize(
    ("then", "now", "allowed"),
    [
        (("float32", False), ("float32", False), 2e-3),
        (("float32", False), ("float16", False), 0.05),
        (("bfloat16", False), ("float32", False), 0.3),
        (("float32", True), ("float32", True), 2e-3),
        (("float32", True), ("float32", False), 1.0),
    ],
)
def test_the_coarser_precision_says_how_far_an_answer_may_be(then, now, allowed):
    assert Golden("", Precision(*then), (), (), ()).tolerance(Precision(*now)) == allowed


def test_info_shows_how_it_acts_and_ends_with_2_where_it_does_not(folder, capsys):
    assert run(main, ["info", str(folder)]) == 0
    assert "golden         acts as at training: " in capsys.readouterr().out
    rescaled(folder)
    assert run(main, ["info", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "golden         FAILS: " in out and "acts otherwise than recorded" in err and err.count("\n") == 1


def test_a_server_asks_on_the_thread_that_has_the_model(folder, tiny_folder, monkeypatch):
    batcher = Batcher.load(ModelSettings(str(tiny_folder), dtype="float32"), Limits())
    threads, said = set(), batcher.registry.said
    monkeypatch.setattr(
        batcher.registry, "said", lambda *given: threads.add(threading.current_thread()) or said(*given)
    )
    assert batcher.registry.load("x", str(folder)).golden <= 2e-5
    assert threads == {batcher.thread}
    batcher.close()
    with pytest.raises(RuntimeError, match="the engine has stopped"):
        batcher.registry.load("y", str(folder))
