"""A server on loopback. Tests may import `benchmark_runs`, `endpoint_stand_in` and `judging`."""

import importlib.util
import sys
from pathlib import Path

import pytest

for name in ("benchmark_runs", "endpoint_stand_in", "judging"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


@pytest.fixture
def server(monkeypatch):
    """A server on loopback that is asked without a key and with short waits."""
    from endpoint_stand_in import EndpointStandIn

    from ftkit.inference import endpoint as endpoint_module

    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with EndpointStandIn() as stand_in:
        yield stand_in
