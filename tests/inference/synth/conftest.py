"""Models that answer by a rule, and a server on loopback. Tests may import `made_up` and `endpoint_stand_in`."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for name, folder in (("made_up", HERE), ("endpoint_stand_in", HERE.parents[1] / "evaluation")):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
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
