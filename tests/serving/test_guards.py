"""Keys, other sites, strict JSON, time and clients that go: what the guards do around any route."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient

from ftkit.config.errors import UserError
from ftkit.inference.batching.request import QueueFull, UnknownModel
from ftkit.serving.app import local_app
from ftkit.serving.guards import path_below
from ftkit.serving.keys import Keys
from ftkit.serving.refusals import Refused

URL = "http://127.0.0.1:8100"
KEY, ADMIN = "sk-user", "sk-admin"
SITE = "https://chat.example"


def bearer(key: str) -> dict:
    return {"authorization": f"Bearer {key}"}


def routes(ended: list | None = None) -> APIRouter:
    """Routes that answer, refuse, fail and take long. ended: what was cancelled."""
    router = APIRouter()
    for path in ("/", "/health", "/v1/models", "/v1/adapters"):
        router.add_api_route(path, lambda: {"ok": True})
    for path in ("/v1/echo", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters"):
        router.add_api_route(path, lambda: {"ok": True}, methods=["POST"])
    router.add_api_route("/adapters/{name}", lambda name: {"ok": True}, methods=["DELETE"])

    def raises(error):
        def route():
            raise error

        return route

    errors = (
        UserError("no"),
        UnknownModel("x"),
        QueueFull("9 requests are open"),
        Refused(403, "out"),
        RuntimeError("secret"),
    )
    for number, error in enumerate(errors):
        router.add_api_route(f"/raise/{number}", raises(error))

    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")

    async def parts():
        try:
            yield 'data: {"n": 1}\n\n'
            await asyncio.sleep(60)
        finally:
            ended.append("stream")

    router.add_api_route("/slow", slow)
    router.add_api_route("/stream", lambda: StreamingResponse(parts(), media_type="text/event-stream"))
    return router


def client(**settings) -> TestClient:
    ended = settings.pop("ended", None)
    return TestClient(
        local_app([routes(ended)], host="127.0.0.1", **settings), base_url=URL, raise_server_exceptions=False
    )


KEYED = [
    # path, key, status
    ("GET", "/health", None, 200), ("GET", "/", None, 200), ("GET", "/v1/models", None, 401), ("GET", "/v1/models", KEY, 200),
    ("GET", "/v1/models", ADMIN, 200), ("GET", "/v1/models", KEY + "x", 401), ("GET", "/v1/models", KEY[:-1], 401),
    ("GET", "/v1/models", "", 401), ("GET", "/v1/models", "é", 401), ("GET", "/v1/nowhere", None, 401), ("GET", "/metrics", None, 401),
    ("GET", "/health/x", None, 401), ("HEAD", "/v1/models", None, 401), ("HEAD", "/v1/models", KEY, 200),
    ("POST", "/v1/load_lora_adapter", None, 401), ("POST", "/v1/load_lora_adapter", KEY, 401), ("POST", "/v1/load_lora_adapter", ADMIN, 200),
    ("POST", "/v1/unload_lora_adapter", KEY, 401), ("POST", "/adapters", KEY, 401), ("DELETE", "/adapters/a", KEY, 401),
    ("DELETE", "/adapters/a", ADMIN, 200), ("OPTIONS", "/v1/models", None, 204),
]  # fmt: skip


@pytest.fixture(scope="module")
def locked():
    return client(keys=Keys(KEY, ADMIN))


@pytest.mark.parametrize(("method", "path", "key", "status"), KEYED)
def test_each_route_asks_for_its_key(locked, method, path, key, status):
    headers = {"content-type": "application/json"} | (
        {} if key is None else {"authorization": f"Bearer {key}".encode("latin-1")}
    )
    answer = locked.request(method, path, headers=headers, content="{}" if method == "POST" else None)
    assert answer.status_code == status
    if status == 401 and method != "HEAD":
        assert answer.json()["error"]["code"] == "invalid_api_key" and answer.headers["www-authenticate"] == "Bearer"


def test_adapters_can_not_be_changed_without_an_admin_key():
    for keys in (Keys(KEY), Keys()):
        answer = client(keys=keys).post("/v1/load_lora_adapter", json={}, headers=bearer(KEY))
        assert answer.status_code == 403 and "--admin_key" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [(("", None), "--api_key: must be"), ((None, "é"), "--admin_key: must be"), (("a", "a"), "is the same as")],
)
def test_a_key_that_is_none_is_refused(keys, reason):
    with pytest.raises(UserError, match=reason):
        Keys(*keys)


def test_a_server_that_others_reach_asks_for_a_key():
    for host in ("0.0.0.0", "192.168.0.9", "::", "gpu.lan"):
        with pytest.raises(UserError, match="give --api_key"):
            Keys(None, ADMIN).check_host(host)
        Keys(KEY).check_host(host)
    Keys().check_host("127.0.0.1")


def test_keys_are_not_in_what_is_printed():
    assert KEY not in repr(Keys(KEY, ADMIN)) and ADMIN not in repr(Keys(KEY, ADMIN))


def test_only_the_sites_that_are_named_may_ask(locked):
    open_to = client(origins=[SITE])
    asked = open_to.post("/v1/echo", json={}, headers={"origin": SITE, "sec-fetch-site": "cross-site"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, SITE)
    before = open_to.options("/v1/echo", headers={"origin": SITE, "access-control-request-method": "POST"})
    assert before.status_code == 204 and "authorization" in before.headers["access-control-allow-headers"]
    for site in ("https://evil.example", SITE + ".evil.example", "null"):
        assert open_to.post("/v1/echo", json={}, headers={"origin": site}).status_code == 403
    assert not [name for name in locked.get("/health").headers if name.startswith("access-control")]


ERRORS = [(0, 400, "no", None), (1, 404, "The model `x` does not exist.", "model_not_found"), (2, 429, "too many requests wait", "queue_full"),
          (3, 403, "out", None), (4, 500, "the server failed; its log says why", None)]  # fmt: skip


@pytest.mark.parametrize(("number", "status", "message", "code"), ERRORS)
def test_every_error_has_openais_form(number, status, message, code):
    answer = client().get(f"/raise/{number}")
    error = answer.json()["error"]
    assert answer.status_code == status and error["message"].startswith(message) and error["code"] == code
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert (answer.headers.get("retry-after") == "1") == (status == 429)
    assert (answer.json()["error"]["type"] == "rate_limit_error") == (status == 429)  # LiteLLM asks again by it


BODIES = [
    ("not a number", '{"a": NaN}', "NaN or an infinite number"), ("infinity", '{"a": -Infinity}', "NaN or an infinite"),
    ("a number that is infinite", '{"a": 1e999}', "NaN or an infinite number"), ("half a character", '{"a": "\\ud83d"}', "half of a character"),
    ("half a character in a key", '{"\\udc00": 1}', "half of a character"), ("deep arrays", "[" * 101 + "]" * 101, "nested more than 100 deep"),
    ("very deep arrays", "[" * 100_000 + "]" * 100_000, "nested more than 100 deep"), ("deep objects", '{"a":' * 200 + "1" + "}" * 200, "more than 100 deep"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_what_json_can_not_hold_is_refused(body, reason):
    answer = client().post("/v1/echo", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and reason in answer.json()["error"]["message"]


def test_an_answer_that_takes_too_long_is_ended():
    ended = []
    limited = client(ended=ended, seconds=0.2)
    late = limited.get("/slow")
    assert (late.status_code, late.json()["error"]["code"], late.headers["x-should-retry"]) == (408, "timeout", "false")
    parts = limited.get("/stream").text.split("\n\n")
    assert parts[0] == 'data: {"n": 1}' and json.loads(parts[1].removeprefix("data: "))["error"]["code"] == "timeout"
    assert ended == ["slow", "stream"]
    assert limited.get("/health").json() == {"ok": True}


@pytest.mark.parametrize("path", ["/slow", "/stream"])
def test_a_client_that_goes_ends_its_request(path):
    ended, sent = [], []
    app = local_app([routes(ended)], host="127.0.0.1", seconds=30)
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"127.0.0.1")],
             "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8100), "root_path": "", "asgi": {"version": "3.0"}}  # fmt: skip
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(scope, receive, send), 5))
    assert ended == [path.removeprefix("/")]


@pytest.mark.processes
def test_ctrl_c_ends_a_server_without_a_word():
    code = (
        "from ftkit.serving.app import listen, local_app, run\n"
        "with listen('127.0.0.1', 0) as one: print('ready', flush=True); run(local_app([], host='127.0.0.1'), one)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        server.stdout.readline()
        time.sleep(3)
        for _ in range(2):  # as of somebody impatient
            server.send_signal(signal.SIGINT)
            time.sleep(0.01)
        _, said = server.communicate(timeout=20)
    assert (server.returncode, said) == (0, "")


def test_a_path_leads_nowhere_but_below_the_folder(tmp_path):
    root = tmp_path / "registry"
    (root / "a").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    os.symlink(tmp_path / "other", root / "link")
    os.symlink(root / "circle", root / "circle")
    assert (
        path_below(root, "a")
        == path_below(root, str(root / "a"))
        == path_below(root, "a/../a")
        == (root / "a").resolve()
    )
    for path in ("..", "../other", "a/../../other", "/etc", str(tmp_path / "other"), "link", "link/x", "", ".", "a\0b", "circle", "x" * 5000,
                 str(root) + "-twin"):  # fmt: skip
        with pytest.raises(Refused, match="not below the registry folder"):
            path_below(root, path)
