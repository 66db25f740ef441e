"""Adapters loaded, replaced and unloaded while a server runs, with vLLM's texts and errors."""

import os
import shutil

import pytest
from starlette.testclient import TestClient

from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.batcher import Batcher
from ftkit.serving.api import serving_app
from ftkit.serving.keys import Keys

ADMIN, USER = ({"authorization": f"Bearer {key}"} for key in ("of an admin", "of a user"))
LOAD, UNLOAD, CHAT = "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/chat/completions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, base_adapters):
    """Adapters that may be loaded, and what is none."""
    root = tmp_path_factory.mktemp("registry")
    for name in ("first", "second"):
        shutil.copytree(base_adapters[name], root / name)
    shutil.copytree(root / "first", root / "broken")
    (root / "broken" / "adapter_model.safetensors").write_bytes(b"nothing")
    (root / "empty").mkdir()
    os.symlink(base_adapters["third"], root / "link")
    return root


@pytest.fixture(scope="module")
def batcher():
    running = Batcher.load(ModelSettings("base", template="alpaca", dtype="float32"))
    yield running
    running.close()


@pytest.fixture
def client(batcher, folder):
    """A server without adapters, and its admin."""
    for name in batcher.registry.names()[1:]:
        batcher.registry.unload(name)
    app = serving_app(batcher, "127.0.0.1", keys=Keys("of a user", "of an admin"), registry=folder)
    return TestClient(app, base_url="http://127.0.0.1:8000", headers=ADMIN, raise_server_exceptions=False)


def load(client, name="one", path="first", **fields):
    return client.post(LOAD, json={"lora_name": name, "lora_path": path, **fields})


def answer(client, model: str) -> tuple[str, str]:
    """(text, digest)."""
    asked = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
    talk = [{"role": "user", "content": "Read what follows, and say in a few words what it is about. " * 4}]
    response = client.post(CHAT, json={"model": model, "messages": talk, **asked}, headers=USER)
    return response.json()["choices"][0]["message"]["content"], response.headers["x-ftkit-version"]


def test_a_name_answers_by_what_was_loaded_last(client, folder):
    assert load(client).text == "Success: LoRA adapter 'one' added successfully."
    first = answer(client, "one")
    assert load(client, path=str(folder / "second"), load_inplace=True).status_code == 200
    second = answer(client, "one")
    assert load(client, load_inplace=True).status_code == 200
    assert answer(client, "one") == first != second and first[0] != second[0] != answer(client, "base")[0]
    assert client.post(UNLOAD, json={"lora_name": "one"}).text == "Success: LoRA adapter 'one' removed successfully."
    response = client.post(CHAT, json={"model": "one", "messages": [{"role": "user", "content": "a"}]}, headers=USER)
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"


def test_sagemakers_routes_do_the_same(client):
    assert client.post("/adapters", json={"name": "team/one", "src": "first"}).text.endswith("added successfully.")
    assert client.get("/v1/models/team/one", headers=USER).json()["parent"] == "base"
    assert client.delete("/adapters/team/one").text == "Success: LoRA adapter 'team/one' removed successfully."
    assert client.delete("/adapters/team/one").status_code == 404


def test_models_and_adapters_are_described(client, batcher, folder):
    load(client)
    base, one = client.get("/v1/models", headers=USER).json()["data"]
    assert (base["id"], base["parent"], one["id"], one["parent"]) == ("base", None, "one", "base")
    assert one["root"] == str(folder / "first") and one["max_model_len"] == batcher.context
    assert one == client.get("/v1/models/one", headers=USER).json() and one["object"] == "model"
    (found,) = client.get("/v1/adapters", headers=USER).json()["data"]
    assert found["digest"] == one["digest"] == answer(client, "one")[1]
    assert found["in_flight"] == 0 and found["bytes"] > 0 and not found["base_verified"]
    assert len(found["base"]) == len(found["template_digest"]) == 64
    response = client.get("/v1/models/nobody", headers=USER)
    assert response.status_code == 404 and response.json()["error"]["code"] == "model_not_found"


REFUSED = [  # what is sent, the status, vLLM's type, a part of the message
    ((LOAD, {"lora_name": "", "lora_path": "first"}), 400, "InvalidUserInput", "Both 'lora_name' and 'lora_path'"),
    ((LOAD, {"lora_name": "a", "lora_path": ""}), 400, "InvalidUserInput", "Both 'lora_name' and 'lora_path'"),
    ((LOAD, {"lora_name": "taken", "lora_path": "second"}), 400, "InvalidUserInput", "'taken' has already been loaded"),
    ((LOAD, {"lora_name": "base", "lora_path": "second"}), 400, "InvalidUserInput", "'base' has already been loaded"),
    ((LOAD, {"lora_name": "base", "lora_path": "first", "load_inplace": True}), 400, "InvalidUserInput", "base"),
    ((LOAD, {"lora_name": "a", "lora_path": "nowhere"}), 404, "LoRAAdapterNotFoundError", "No adapter found for nowhere"),
    ((LOAD, {"lora_name": "a", "lora_path": "empty"}), 404, "LoRAAdapterNotFoundError", "No adapter found for empty"),
    ((LOAD, {"lora_name": "a", "lora_path": "broken"}), 400, "InvalidUserInput", "broken"),
    ((LOAD, {"lora_name": "a b", "lora_path": "first"}), 400, "InvalidUserInput", "no name for an adapter"),
    ((LOAD, {"lora_name": "a", "lora_path": "first", "is_3d_lora_weight": True}), 400, "InvalidUserInput", "is_3d"),
    ((LOAD, {"lora_name": "a", "lora_path": "../first"}), 403, "permission_error", "not below the registry"),
    ((LOAD, {"lora_name": "a", "lora_path": "link"}), 403, "permission_error", "not below the registry"),
    ((LOAD, {"lora_name": "a", "lora_path": "/etc"}), 403, "permission_error", "not below the registry"),
    ((LOAD, {"lora_name": "a", "lora_path": "."}), 403, "permission_error", "not below the registry"),
    ((LOAD, {"lora_name": "a"}), 400, "invalid_request_error", "lora_path"),
    ((UNLOAD, {"lora_name": "a"}), 404, "NotFoundError", "The lora adapter 'a' cannot be found."),
    ((UNLOAD, {"lora_name": "base"}), 404, "NotFoundError", "cannot be found"),
    ((UNLOAD, {"lora_name": ""}), 400, "InvalidUserInput", "'lora_name' needs to be provided"),
    (("/adapters", {"name": "a", "src": "nowhere"}), 404, "LoRAAdapterNotFoundError", "No adapter found"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "status", "kind", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_can_not_be_done_has_vllms_error(client, sent, status, kind, message):
    load(client, "taken")
    response = client.post(sent[0], json=sent[1])
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (status, kind) and message in error["message"]
    assert client.get("/v1/models/taken", headers=USER).status_code == 200


def test_only_the_admin_changes_adapters_and_only_from_a_folder(client, batcher):
    assert client.post(LOAD, json={"lora_name": "a", "lora_path": "first"}, headers=USER).status_code == 401
    app = serving_app(batcher, "127.0.0.1", keys=Keys(None, "of an admin"))
    response = load(TestClient(app, base_url="http://127.0.0.1:8000", headers=ADMIN))
    assert response.status_code == 403 and "--registry" in response.json()["error"]["message"]
