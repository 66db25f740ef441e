"""Adapters handed to vLLM: a stand-in with its routes and texts, whose answers under a name the test decides."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ftkit.commands.serve import main
from ftkit.config.errors import UserError
from ftkit.inference.golden import Golden, Precision, Top
from ftkit.model.adapters.files import adapter_fingerprint
from ftkit.serving import vllm as module
from ftkit.serving.vllm import Vllm, hand_over

BASE = "Qwen/Qwen3-0.6B"
OF_BASE, TRAINED = Top(5, -1.5), Top(9, -0.25)


class StandIn(ThreadingHTTPServer):
    """vLLM's routes for adapters. says: the likeliest token by model; is_allowed: whether adapters may be loaded."""

    def __init__(self, says: dict[str, Top], *, is_allowed: bool = True, key: str = ""):
        self.says, self.is_allowed, self.key = says, is_allowed, key
        self.loaded, self.asked = {}, []
        super().__init__(("127.0.0.1", 0), Handler)

    def answer(self, path: str, body: dict) -> tuple[int, object]:
        name = body.get("lora_name")
        if path == "/v1/models":
            adapters = [{"id": one, "parent": BASE, "root": path} for one, path in self.loaded.items()]
            return 200, {"object": "list", "data": [{"id": BASE, "parent": None}, *adapters]}
        if path == "/v1/load_lora_adapter" and self.is_allowed:
            if name in self.loaded:
                text = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
                return error(400, text, "InvalidUserInput")
            self.loaded[name] = body["lora_path"]
            return 200, f"Success: LoRA adapter '{name}' added successfully."
        if path == "/v1/unload_lora_adapter" and self.is_allowed:
            del self.loaded[name]
            return 200, f"Success: LoRA adapter '{name}' removed successfully."
        if path == "/v1/completions" and body["model"] in (BASE, *self.loaded):
            top = self.says[body["model"]]
            logprobs = {"token_logprobs": [top.log_prob], "tokens": ["x"]}
            return 200, {"choices": [{"text": "x", "token_ids": [top.token], "logprobs": logprobs}]}
        return 404, {"detail": "Not Found"}


def error(status: int, message: str, kind: str) -> tuple[int, dict]:
    return status, {"error": {"message": message, "type": kind, "param": None, "code": status}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.server.asked.append((self.path, body))
        status, answer = self.server.answer(self.path, body)
        if self.server.key and self.headers["authorization"] != f"Bearer {self.server.key}":
            status, answer = 401, {"error": "Unauthorized"}
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self.send_response(status)
        self.send_header("content-type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def running(*given, **further):
    server = StandIn(*given, **further)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, Vllm(f"http://127.0.0.1:{server.server_port}/v1", server.key)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def golden(monkeypatch):
    """What a run recorded of the adapter."""
    record = Golden("", Precision("float32"), ((4, 5), (6,)), (OF_BASE, OF_BASE), (TRAINED, TRAINED))
    monkeypatch.setattr(module, "read_golden", lambda folder: record)


def test_an_adapter_is_loaded_by_its_folder_and_acts_as_recorded(base_adapters, golden):
    with running({BASE: OF_BASE, "a": Top(9, -0.3)}, key="k") as (server, given):
        (line,) = hand_over(given, {"a": base_adapters["first"]})
    assert (
        line
        == f"a: {adapter_fingerprint(base_adapters['first'])[:12]}, acts as at training: 0.05 nats from it on 2 prompts"
    )
    assert server.asked[1] == ("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": base_adapters["first"]})


def test_a_name_that_is_taken_is_unloaded_first(base_adapters, golden):
    with running({BASE: OF_BASE, "a": TRAINED}) as (server, given):
        for path in ("first", "second"):
            list(hand_over(given, {"a": base_adapters[path]}))
        assert server.loaded == {"a": base_adapters["second"]}


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (OF_BASE, r"a is loaded and answers as Qwen/Qwen3-0\.6B does: it is not applied"),
        (
            Top(9, -1.25),
            r"a acts otherwise than recorded at training, by 1 nats .* may have been kept: take another name",
        ),
    ],
)
def test_an_adapter_that_does_nothing_there_or_is_an_old_one_is_found_out(base_adapters, golden, says, reason):
    with running({BASE: OF_BASE, "a": says}) as (_, given), pytest.raises(UserError, match=reason):
        list(hand_over(given, {"a": base_adapters["first"]}))


def test_without_a_record_it_must_differ_from_the_base(base_adapters):
    with running({BASE: OF_BASE, "a": TRAINED, "b": OF_BASE}) as (_, given):
        assert next(hand_over(given, {"a": base_adapters["first"]})).endswith("(it has no golden.json)")
        with pytest.raises(UserError, match="b is loaded and answers as"):
            list(hand_over(given, {"b": base_adapters["second"]}))


@pytest.mark.parametrize(
    ("settings", "key", "names", "reason"),
    [
        ({"is_allowed": False}, "", "a", "status 404: Not Found; start it with --enable-lora, and VLLM_ALLOW_RUNTIME"),
        ({"key": "k"}, "wrong", "a", "/v1/models: status 401: Unauthorized"),
        ({}, "", BASE, r"serves no base beside Qwen/Qwen3-0\.6B; give other names"),
        ({}, "", "", "hands over adapters; name them"),
    ],
)
def test_what_the_server_does_not_take_is_reported_in_its_words(base_adapters, settings, key, names, reason):
    with running({BASE: OF_BASE}, **settings) as (_, given), pytest.raises(UserError, match=reason):
        list(hand_over(Vllm(given.url, key), {names: base_adapters["first"]} if names else {}))


def test_no_server_is_one_line():
    with pytest.raises(UserError, match=r"no answer \(ConnectError\); start vLLM"):
        Vllm("http://127.0.0.1:9").ask("/v1/models")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--backend", "vllm"], "give vllm=URL, as vllm=http://127.0.0.1:8000, or transformers"),
        (["--backend", "transformers=x"], "give vllm=URL"),
        (["--backend", "vllm=http://127.0.0.1:9", "--port", "80"], "--port has no effect with --backend vllm"),
        (["--backend", "vllm=http://127.0.0.1:9", "--model", "base"], "--model_name_or_path has no effect with"),
        (["--backend", "vllm=ftp://x", "--adapter", "a=b"], '"ftp://x" is not a server\'s address'),
    ],
)
def test_flags_of_a_server_here_are_refused(flags, reason):
    with pytest.raises(UserError, match=reason):
        main(flags)


def test_the_command_prints_what_came_of_each_adapter(base_adapters, golden, capsys):
    with running({BASE: OF_BASE, "a": TRAINED}) as (_, given):
        main(["--backend", f"vllm={given.url}", "--adapter", f"a={base_adapters['first']}"])
    assert capsys.readouterr().out.endswith("acts as at training: 0 nats from it on 2 prompts\n")
