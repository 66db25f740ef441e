"""Engine: voices on one base answer, score and are named as each would be alone; the base is asked only where it can be."""

import json

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.commands import generate
from ftkit.config.errors import UserError
from ftkit.data.templates.templates import install_template
from ftkit.inference.asking import BASE, ModelSettings, Sampling
from ftkit.inference.engine import Engine
from ftkit.inference.scoring import answer_loss
from ftkit.model.adapters.files import record_base

QUESTION = [{"role": "user", "content": "Say it."}]
SHORT = Sampling(max_new_tokens=5)
ROW = {"input_ids": [5, 9, 11, 30, 7], "labels": [-100, -100, 11, 30, 7]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make_adapter(tiny_folder, tmp_path):
    """Writes a random adapter with tokenizer, template and the record of its base; returns its folder."""

    def make(name, *, seed=1, template="alpaca", rows=None, **settings):
        torch.manual_seed(seed)
        model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_folder), AutoTokenizer.from_pretrained(tiny_folder)
        install_template(tokenizer, template)
        if rows:
            model.resize_token_embeddings(rows, mean_resizing=False)
        settings = {"r": 4, "target_modules": ["q_proj"], "init_lora_weights": False, **settings}
        get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, **settings)).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        record_base(tmp_path / name, tiny_folder, "tiny")
        return str(tmp_path / name)

    return make


def load(with_base=False, **adapters) -> Engine:
    return Engine.load(ModelSettings(adapters=adapters, dtype="float32"), with_base=with_base)


def losses(engine: Engine, name: str | None = None) -> list[tuple[float, int]]:
    with engine.speaking(name) as voice:
        return answer_loss(engine.model, [ROW], voice.tokenizer.pad_token_id)


def test_each_voice_answers_and_scores_as_it_does_alone(make_adapter, tiny_folder):
    a, b = make_adapter("a"), make_adapter("b", seed=2, template="phi3")
    engine = load(a=a, b=b, with_base=True)
    base = Engine.load(ModelSettings(str(tiny_folder), template="alpaca", dtype="float32"))
    alone = {"a": load(a=a), "b": load(b=b), BASE: base}
    assert list(engine.voices) == [BASE, "a", "b"]
    for name in ("a", "b", BASE, "b", "a"):
        assert engine.answers([QUESTION], SHORT, name) == alone[name].answers([QUESTION], SHORT)
        assert losses(engine, name) == losses(alone[name])
        with engine.speaking(name):
            assert torch.equal(engine.next_logits([5, 6], name), alone[name].next_logits([5, 6]))
        assert engine.voice(name).digest == alone[name].voice().digest
    assert len({losses(engine, name)[0] for name in engine.voices}) == 3


def test_a_model_that_is_loaded_already_is_asked_as_it_stands(make_adapter, tiny_folder):
    folder = make_adapter("a")
    loaded = load(a=folder)
    voice = loaded.voice()
    engine = Engine.of(loaded.model.train(), voice.tokenizer, voice.template)
    assert engine.answers([QUESTION], SHORT) == loaded.answers([QUESTION], SHORT)
    assert engine.model.training and engine.voice().digest is None
    (reply,) = engine.replies([engine.prompt_ids(QUESTION)], SHORT)
    assert (reply.text, reply.finish_reason, reply.output_tokens) == (engine.answers([QUESTION], SHORT)[0], "length", 5)


def test_a_version_is_named_by_its_tensors_configuration_and_template(make_adapter, tmp_path):
    def digest(folder):
        return load(a=folder).voice().digest

    first = digest(make_adapter("a"))
    assert digest(make_adapter("same")) == first
    assert digest(make_adapter("tensors", seed=2)) != first
    assert digest(make_adapter("template", template="phi3")) != first
    folder = make_adapter("configuration")
    path = tmp_path / "configuration/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "elsewhere"}))
    assert Engine.load(ModelSettings(load(a=make_adapter("b")).folder, {"a": folder}, dtype="float32")).voice().digest == first  # fmt: skip
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 16}))
    assert Engine.load(ModelSettings(load(a=make_adapter("b")).folder, {"a": folder}, dtype="float32")).voice().digest != first  # fmt: skip


def test_the_base_is_asked_only_where_no_adapter_replaces_its_weights(make_adapter):
    padded, whole = make_adapter("padded", rows=320), make_adapter("whole", modules_to_save=["embed_tokens", "lm_head"])
    assert list(load(a=padded, with_base=True).voices) == ["a"]
    assert list(load(a=whole, b=make_adapter("b"), with_base=True).voices) == [BASE, "a", "b"]
    with pytest.raises(UserError, match="padded: replaces the base's .* which others share; load it alone"):
        load(b=make_adapter("c"), a=padded)


def test_template_none_continues_text_as_it_is(tiny_folder, tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    ids = torch.tensor([tokenizer("balbam")["input_ids"]])
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    expected = tokenizer.decode(model.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] :])
    flags = ["--model_name_or_path", str(tiny_folder), "--template", "none", "--dtype", "float32"]
    generate.main([*flags, "--max_new_tokens", "5", "--prompt", "balbam"])
    assert capsys.readouterr().out == expected + "\n"
    turns = tmp_path / "turns.jsonl"
    turns.write_text(
        json.dumps({"messages": [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]})
    )
    with pytest.raises(UserError, match="turns.jsonl:1: --template none continues one text and knows no turns"):
        generate.main([*flags, "--file", str(turns)])


def test_nothing_is_continued_from_the_start_of_a_document(tiny_folder):
    engine = Engine.load(ModelSettings(str(tiny_folder), template="none", dtype="float32"))
    assert engine.prompt_ids([{"role": "user", "content": ""}]) == [engine.voice().tokenizer.eos_token_id]


def test_an_adapter_continues_text_without_its_template(make_adapter):
    engine = Engine.load(ModelSettings(adapters={"a": make_adapter("a")}, template="none", dtype="float32"))
    ids = engine.prompt_ids([{"role": "user", "content": "balbam"}], "a")
    assert ids == engine.voice("a").tokenizer("balbam")["input_ids"] and engine.end_token_ids("a") == [0]
    assert engine.replies([ids], SHORT, "a")[0].output_tokens == 5


def test_settings_are_frozen_and_checked(tiny_folder):
    with pytest.raises(UserError, match="name a model: --model_name_or_path M, or --adapter OUT"):
        ModelSettings()
    with pytest.raises(AttributeError):
        Sampling().temperature = 1.0
    for wrong in ({"temperature": -1}, {"top_p": 0}, {"top_k": -1}, {"max_new_tokens": 0}, {"repetition_penalty": 0}):
        with pytest.raises(UserError, match=f"--{next(iter(wrong))}"):
            Sampling(**wrong)
