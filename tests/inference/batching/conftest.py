"""The bundled base with small adapters that PEFT alone has written.

Tests here may import `batched`, `batcher_answers` and `made_adapters`.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.batcher import Batcher
from ftkit.inference.batching.request import Limits

for name in ("batched", "batcher_answers", "made_adapters"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


@pytest.fixture(scope="session")
def batcher(base_adapters):
    """Of the bundled base and its adapters."""
    settings = ModelSettings("base", adapters=base_adapters, template="alpaca", dtype="float32")
    running = Batcher.load(settings, Limits(num_slots=4))
    yield running
    running.close()
