"""What TRL's AsyncGRPO asks before and while it posts adapters; its own client is run by tests/clients."""

import types

import pytest
import torch
from starlette.testclient import TestClient

from ftkit.serving.app import local_app
from ftkit.serving.keys import Keys
from ftkit.serving.routes.rollouts import rollout_routes

ENGINE = types.SimpleNamespace(model=types.SimpleNamespace(dtype=torch.float32), context=512)


def client(keys: Keys | None = None, *, takes_adapters: bool = True) -> TestClient:
    app = local_app([rollout_routes(ENGINE, takes_adapters=takes_adapters)], host="127.0.0.1", keys=keys)
    return TestClient(app, base_url="http://127.0.0.1:8000")


def test_adapters_are_offered_where_they_can_be_loaded():
    found = client().get("/server_info?config_format=json").json()["vllm_config"]
    assert found["model_config"] == {"dtype": "torch.float32", "max_model_len": 512}
    assert found["lora_config"]["max_loras"] > 1000 and found["parallel_config"]["data_parallel_size"] == 1
    assert client(takes_adapters=False).get("/server_info").json()["vllm_config"]["lora_config"] is None


@pytest.mark.parametrize("path", ["/pause?mode=keep", "/resume"])
def test_a_request_without_a_body_needs_no_type_but_the_admin_key(path):
    guarded = client(Keys("of a user", "of an admin"))
    assert guarded.post(path).status_code == 401
    assert guarded.post(path, auth=("trl", "of a user")).status_code == 401
    assert guarded.post(path, auth=("trl", "of an admin")).json() == {"status": "running"}
    assert guarded.post(path, headers={"authorization": "Bearer of an admin"}).status_code == 200
    assert client().post(path).status_code == 403  # there is none


@pytest.mark.parametrize("given", ["Basic", "Basic ", "Basic ???", "Basic w6k=", "basic Og==", "Basic \\xff"])
def test_what_is_no_key_is_refused(given):
    assert client(Keys("k", "a")).get("/server_info", headers={"authorization": given}).status_code == 401
