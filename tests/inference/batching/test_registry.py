"""Names point to versions that never change; memory is bounded; what changed on the disk is refused."""

import json
import os
import shutil
import threading

import pytest
import torch
from made_adapters import logits_of, make_adapter, routed_logits
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.config.errors import UserError
from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching import registry as registries
from ftkit.inference.batching.registry import Registry
from ftkit.inference.batching.request import Limits, UnknownModel
from ftkit.model.adapters import loading
from ftkit.model.adapters.files import WEIGHTS_FILE, record_base

LORA = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "down_proj"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def made(tiny_folder, tmp_path_factory):
    """Folders a and b, and the logits of each by PEFT."""
    folder = tmp_path_factory.mktemp("made")
    wanted = {
        name: logits_of(make_adapter(tiny_folder, folder / name, LORA, seed=seed)) for seed, name in enumerate("ab")
    }
    record_base(folder / "a", tiny_folder, "tiny")
    return folder, wanted


@pytest.fixture
def adapters(made, tmp_path):
    """Copies of a and b that may be spoiled."""
    for name in "ab":
        shutil.copytree(made[0] / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def make_registry(tiny_folder):
    def make(adapter_gib: float = 1.0) -> Registry:
        settings = ModelSettings(str(tiny_folder), dtype="float32", template="alpaca")
        return Registry.load_base(settings, Limits(adapter_gib=adapter_gib))

    return make


def answers(registry: Registry, name: str, wanted: torch.Tensor) -> bool:
    with registry.pinned(name) as version:
        return bool((routed_logits(registry, version) - wanted).abs().max() <= 5e-5)


def test_swaps_leave_no_trace_and_a_pinned_version_outlives_its_name(make_registry, adapters, made):
    registry, wanted = make_registry(), made[1]
    with registry.pinned("base") as base:
        of_base = routed_logits(registry, base)
    registry.load("x", str(adapters / "a"))
    with registry.pinned("x") as first:
        of_first = routed_logits(registry, first)
        registry.load("x", str(adapters / "b"), in_place=True)
        assert torch.equal(routed_logits(registry, first), of_first)
        assert answers(registry, "x", wanted["b"])
        registry.unload("x")
        assert torch.equal(routed_logits(registry, first), of_first)
        assert first.digest in registry.resident and len(registry.resident) == 1
    assert not registry.resident and not registry.in_flight and registry.num_bytes == 0
    registry.load("x", str(adapters / "a"))
    with registry.pinned("x") as again, registry.pinned("base") as base:
        assert again.digest == first.digest and torch.equal(routed_logits(registry, again), of_first)
        assert torch.equal(routed_logits(registry, base), of_base)
    assert torch.allclose(of_first, wanted["a"], atol=5e-5) and not torch.allclose(of_first, of_base, atol=0.1)


def test_one_adapter_under_two_names_is_in_memory_once(make_registry, adapters):
    registry = make_registry()
    registry.load("x", str(adapters / "a"))
    registry.load("owner/x:2", str(adapters / "a"))
    with registry.pinned("x") as one, registry.pinned("owner/x:2") as two:
        assert one.parts is two.parts and one.name != two.name
        assert registry.num_bytes == one.num_bytes and registry.in_flight == {one.digest: 2}
    registry.unload("x")
    assert len(registry.resident) == 1


def test_what_nobody_asks_leaves_memory_oldest_first_and_is_read_again(make_registry, adapters, made):
    registry = make_registry()
    size = registry.load("x", str(adapters / "a")).num_bytes
    registry.load("y", str(adapters / "b"))
    registry.limits = Limits(adapter_gib=1.5 * size / 2**30)
    for _ in range(2):
        assert answers(registry, "x", made[1]["a"]) and answers(registry, "y", made[1]["b"])
    assert [one["resident"] for one in registry.described()] == [True, False, True]
    assert (registry.num_pins, registry.num_reads) == (4, 3) and registry.num_bytes == size
    with registry.pinned("x") as first, registry.pinned("y"):
        assert registry.num_bytes == 2 * size  # both are in flight
        assert registry.described()[1]["in_flight"] == 1
        registry.load("x", str(adapters / "b"), in_place=True)
        assert first.digest in registry.resident
    assert first.digest not in registry.resident and registry.num_bytes <= size


def replace_weights(folder, other):
    os.replace(other / WEIGHTS_FILE, folder / WEIGHTS_FILE)


def overwrite_weights(folder, other):
    content = (other / WEIGHTS_FILE).read_bytes()
    with open(folder / WEIGHTS_FILE, "r+b") as file:  # the same file, as a copy over it leaves it
        file.write(content)


def remove_weights(folder, other):
    (folder / WEIGHTS_FILE).unlink()


CHANGES = {
    "replaced": (replace_weights, "has changed since it was loaded as x; load it again in place"),
    "overwritten": (overwrite_weights, "has changed since it was loaded as x; load it again in place"),
    "removed": (remove_weights, "adapter_model.safetensors: missing"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_files_that_change_do_not_change_a_version_and_are_refused_when_read_again(
    change, message, make_registry, adapters, made
):
    registry = make_registry()
    registry.load("x", str(adapters / "a"))
    change(adapters / "a", adapters / "b")
    assert answers(registry, "x", made[1]["a"])
    registry.limits = Limits(adapter_gib=0)
    with registry.pinned("base"):
        pass
    with pytest.raises(UserError, match=message) as caught, registry.pinned("x"):
        pass
    assert "\n" not in str(caught.value) and not registry.in_flight and registry.names() == ["base", "x"]
    if change is not remove_weights:
        registry.load("x", str(adapters / "a"), in_place=True)
        assert answers(registry, "x", made[1]["b"])


def test_files_that_are_written_meanwhile_are_not_taken(make_registry, adapters, monkeypatch):
    registry, read = make_registry(), registries.read_parts

    def read_while_written(folder, model):
        parts = read(folder, model)
        replace_weights(adapters / "a", adapters / "b")
        return parts

    monkeypatch.setattr(registries, "read_parts", read_while_written)
    with pytest.raises(UserError, match="was written while it was read; load it once it is whole"):
        registry.load("x", str(adapters / "a"))
    assert registry.names() == ["base"] and not registry.resident


def test_a_folder_that_goes_while_it_is_read_is_one_line(make_registry, adapters, monkeypatch):
    registry, check = make_registry(), registries.check_keys
    monkeypatch.setattr(registries, "check_keys", lambda *given: check(*given) or shutil.rmtree(adapters / "a"))
    with pytest.raises(UserError, match=r"a: |adapter_model.safetensors: ") as caught:
        registry.load("x", str(adapters / "a"))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(registries, "read_parts", lambda *given: (_ for _ in ()).throw(PermissionError(13, "denied")))
    monkeypatch.setattr(registries, "check_keys", check)
    with pytest.raises(UserError, match=r"b: can't be read \(denied\); load it once it is whole"):
        registry.load("x", str(adapters / "b"))


def test_loading_holds_up_nobody(make_registry, adapters, monkeypatch):
    registry, read = make_registry(), registries.read_parts
    registry.load("x", str(adapters / "a"))
    begun, may_end = threading.Event(), threading.Event()

    def slow(folder, model):
        begun.set()
        assert may_end.wait(10)
        return read(folder, model)

    monkeypatch.setattr(registries, "read_parts", slow)
    thread = threading.Thread(target=registry.load, args=("y", str(adapters / "b")))
    thread.start()
    assert begun.wait(10)
    with registry.pinned("x"), registry.pinned("base"):
        assert registry.names() == ["base", "x"] and len(registry.described()) == 2
    may_end.set()
    thread.join()
    assert registry.names() == ["base", "x", "y"]


NAMES = {
    "taken": ("x", "x: is loaded already; unload it first, or load it in place"),
    "the base's": ("base", "base: is loaded already"),
    "empty": ("", "is no name for an adapter"),
    "of two lines": ("a\nb", "is no name for an adapter"),
    "long": ("a" * 201, "is no name for an adapter"),
}


@pytest.mark.parametrize(("name", "message"), NAMES.values(), ids=NAMES)
def test_names_that_are_taken_or_none_are_refused(name, message, make_registry, adapters):
    registry = make_registry()
    registry.load("x", str(adapters / "a"))
    with pytest.raises(UserError, match=message):
        registry.load(name, str(adapters / "b"))
    for unknown in ("y", "base"):
        with pytest.raises(UnknownModel):
            registry.unload(unknown)
    with pytest.raises(UnknownModel), registry.pinned("y"):
        pass


def test_what_is_described_says_whether_the_base_is_the_recorded_one(make_registry, adapters):
    registry = make_registry()
    for name in "ab":
        registry.load(name, str(adapters / name))
    base, a, b = registry.described()
    assert (base["name"], base["parent"], base["bytes"], base["resident"]) == ("base", None, 0, True)
    assert (a["base_verified"], b["base_verified"]) == (True, False) and a["base"] == b["base"] == base["base"]
    assert a["parent"] == "base" and a["digest"] != b["digest"] and a["bytes"] == b["bytes"] > 0


def test_tokenizers_that_are_alike_are_in_memory_once(make_registry, adapters, tiny_folder):
    registry = make_registry()
    own = AutoTokenizer.from_pretrained(tiny_folder)
    own.model_max_length = 77
    for name in "ab":
        own.save_pretrained(adapters / name)
        registry.load(name, str(adapters / name))
    with registry.pinned("a") as a, registry.pinned("b") as b, registry.pinned("base") as base:
        assert a.voice.tokenizer is b.voice.tokenizer is not base.voice.tokenizer
    own.add_tokens(["<|one|>"])
    own.save_pretrained(adapters / "b")
    with pytest.raises(UserError, match=r'its tokenizer is not the base\'s \(token "<\|one\|>" is not in both alike\)'):
        registry.load("b", str(adapters / "b"), in_place=True)
    registry.unload("a")
    registry.unload("b")


def test_an_adapter_before_its_first_update_is_taken_where_that_is_allowed(
    make_registry, tiny_folder, tmp_path, caplog
):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_folder), LORA)  # its B is zero
    model.save_pretrained(tmp_path / "new")
    registry = make_registry()
    with pytest.raises(UserError, match="changes nothing, its update is zero"):
        registry.load("new", str(tmp_path / "new"))
    registry.load("new", str(tmp_path / "new"), may_do_nothing=True)
    assert registry.names() == ["base", "new"] and "changes nothing yet" in caplog.text


def test_adapters_of_one_configuration_are_made_room_for_once(make_registry, adapters, monkeypatch):
    registry, made = make_registry(), []
    expected = loading.expected_shapes
    monkeypatch.setattr(loading, "expected_shapes", lambda *given: made.append(given) or expected(*given))
    for name in "ab":
        registry.load(name, str(adapters / name))
    assert len(made) == 1
    monkeypatch.setattr(registries, "MAX_SHAPES", 2)
    for alpha in (5, 6, 7, 8):
        edit_config(adapters / "b", lora_alpha=alpha)
        registry.load("b", str(adapters / "b"), in_place=True)
    assert len(registry.shapes) == 2


def edit_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_base_whose_file_is_written_over_stays_what_it_was(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "base")
    registry = Registry.load_base(ModelSettings(str(folder), dtype="float32", template="alpaca"), Limits())
    with registry.pinned("base") as base:
        before = routed_logits(registry, base)
        weights = folder / "model.safetensors"
        header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
        with open(weights, "r+b") as file:
            file.seek(header)
            file.write(bytes(weights.stat().st_size - header))
        assert torch.equal(routed_logits(registry, base), before)
