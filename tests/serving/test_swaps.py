"""Clients of a running server ask for an adapter while it is replaced in place: each gets one version's own answer, one
that the name had while it asked."""

import http.client
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvicorn

from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.batcher import Batcher
from ftkit.inference.batching.request import Limits
from ftkit.serving.api import serving_app
from ftkit.serving.app import listen
from ftkit.serving.keys import Keys

KEY, NAME = "of-an-admin", "swapped"
QUESTIONS = ("Name a bird.", "Read what follows, and then say in a few words what it is about. " * 6)
NEAR = 1e-4  # log-probabilities that rounding may turn round


@pytest.fixture(scope="module")
def port(base_adapters):
    settings = ModelSettings("base", adapters=base_adapters, template="alpaca", dtype="float32")
    batcher = Batcher.load(settings, Limits(num_slots=16, max_waiting=100))
    registry = Path(base_adapters["first"]).parent
    app = serving_app(batcher, "127.0.0.1", keys=Keys(None, KEY), registry=registry)
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()
    batcher.close()


def post(port: int, path: str, body: dict) -> bytes:
    """What a route answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    found = answer.read()
    connection.close()
    assert answer.status == 200, found
    return found


def ask(port: int, model: str, question: str) -> tuple[str, str, list[dict]]:
    """(version, text, its tokens with their log-probabilities)."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 12}
    body |= {"ignore_eos": True, "logprobs": True, "top_logprobs": 2}
    found = json.loads(post(port, "/v1/chat/completions", body))
    choice = found["choices"][0]
    return found["system_fingerprint"], choice["message"]["content"], choice["logprobs"]["content"]


def is_near_tie(alone: tuple, found: tuple) -> bool:
    """Whether answers of one version part at all. Raises AssertionError unless the two likeliest lie within NEAR there."""
    if alone[1] == found[1]:
        return False
    place = next(
        place for place, pair in enumerate(zip(alone[2], found[2], strict=True)) if pair[0]["token"] != pair[1]["token"]
    )
    first, second = (one["logprob"] for one in alone[2][place]["top_logprobs"])
    assert first - second <= NEAR, (alone[1], found[1])
    return True


def swapped_under(port: int, adapters: dict[str, str], *, clients: int, requests: int) -> int:
    """Near ties among the answers of so many clients."""
    alone = {(name, question): ask(port, name, question) for name in adapters for question in QUESTIONS}
    version = {name: alone[name, QUESTIONS[0]][0] for name in adapters}
    by_version = {digest: name for name, digest in version.items()}
    begun, done, is_over = [], [], threading.Event()

    def swap() -> None:
        name = list(adapters)[len(begun) % len(adapters)]
        begun.append(version[name])
        post(port, "/v1/load_lora_adapter", {"lora_name": NAME, "lora_path": adapters[name], "load_inplace": True})
        done.append(version[name])

    def swap_again() -> None:
        while not is_over.is_set():
            swap()

    def client(number: int) -> int:
        draw, ties = random.Random(number), 0
        for _ in range(requests):
            question, before = draw.choice(QUESTIONS), len(done)
            found = ask(port, NAME, question)
            assert found[0] in begun[before - 1 :], "an old version"
            ties += is_near_tie(alone[by_version[found[0]], question], found)
        return ties

    swap()
    swapping = threading.Thread(target=swap_again)
    swapping.start()
    try:
        with ThreadPoolExecutor(clients) as pool:
            ties = sum(pool.map(client, range(clients)))
    finally:
        is_over.set()
        swapping.join()
        post(port, "/v1/unload_lora_adapter", {"lora_name": NAME})
    assert len(done) > 3
    return ties


def test_answers_while_an_adapter_is_replaced_are_of_one_version(port, base_adapters):
    assert swapped_under(port, base_adapters, clients=4, requests=2) <= 1


@pytest.mark.slow
def test_64_clients_while_an_adapter_is_replaced_get_answers_of_one_version(port, base_adapters):
    ties = swapped_under(port, base_adapters, clients=64, requests=5)
    print(f"320 answers, {ties} near ties")
    assert ties <= 6
