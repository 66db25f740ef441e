"""Tests here may import `voting`, `abuse_server`, `browser` and `chat_stand_in`, and ask a whole server on the base."""

import importlib.util
import sys
from pathlib import Path

import pytest

for name in ("voting", "abuse_server", "browser", "chat_stand_in"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


@pytest.fixture(scope="session")
def plain_batcher(base_adapters):
    """Of the bundled base and one adapter, with alpaca's template."""
    from ftkit.inference.asking import ModelSettings
    from ftkit.inference.batching.batcher import Batcher
    from ftkit.inference.batching.request import Limits

    settings = ModelSettings("base", {"first": base_adapters["first"]}, template="alpaca", dtype="float32")
    running = Batcher.load(settings, Limits(num_slots=6, max_waiting=4))
    yield running
    running.close()


@pytest.fixture(scope="session")
def plain_client(plain_batcher):
    """What asks it, without keys."""
    from starlette.testclient import TestClient

    from ftkit.serving.api import serving_app

    app = serving_app(plain_batcher, "127.0.0.1")
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client
