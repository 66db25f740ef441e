"""Decisions are made in the first process, for the device that will train, and told to all."""

from types import SimpleNamespace

import accelerate
import pytest
import torch

from ftkit.config import hardware
from ftkit.config.errors import UserError
from ftkit.runs import decisions
from ftkit.training import first_process

SETTINGS = SimpleNamespace(training=SimpleNamespace(use_cpu=False, ddp_backend=None, ddp_timeout=60), record=None)


@pytest.fixture
def two_processes(monkeypatch):
    """A process of two, of which the first sends `sent`; returns what was asked of PartialState."""
    started = {}
    monkeypatch.setattr(first_process, "world_size", lambda: 2)
    monkeypatch.setattr(accelerate, "PartialState", lambda **settings: started.update(settings))

    def broadcast(outcome):
        started["sent"] = outcome[0]
        outcome[0] = started.get("received", outcome[0])

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    return started


def test_only_the_first_process_looks_at_the_hardware_and_decides(two_processes, monkeypatch):
    two_processes["received"] = ("decided", "hardware", [])
    monkeypatch.setattr(first_process, "is_first_process", lambda: False)
    monkeypatch.setattr(decisions, "probe", lambda **_: pytest.fail("probed"))
    assert decisions.decide_for_all(SETTINGS, lambda _: pytest.fail("asked")) == ("decided", "hardware", [])
    assert two_processes["sent"] is None and two_processes["backend"] == "gloo"


def test_a_mistake_found_by_the_first_process_ends_all_with_one_line(two_processes, monkeypatch):
    def refuse(*_):
        raise UserError("--packing: rows see each other; drop --packing")

    monkeypatch.setattr(decisions, "make", refuse)
    monkeypatch.setattr(first_process, "is_first_process", lambda: True)
    with pytest.raises(UserError, match="--packing: rows see each other"):
        decisions.decide_for_all(SETTINGS, None)
    assert isinstance(two_processes["sent"], UserError)  # so that the others raise it, too


def test_use_cpu_plans_for_the_cpu_of_a_machine_with_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    hardware.probe.cache_clear()
    training = SimpleNamespace(use_cpu=True, hardware=None)
    assert decisions.hardware_of(training).is_cpu
    hardware.probe.cache_clear()
