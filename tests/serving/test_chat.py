"""`/v1/chat/completions`: every field has its effect or is refused, and streams are as OpenAI's client reads them."""

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
import torch
from starlette.testclient import TestClient

from ftkit.inference.asking import ModelSettings, Sampling
from ftkit.inference.batching.request import Event, QueueFull
from ftkit.inference.engine import Engine
from ftkit.serving.answers import pinned
from ftkit.serving.api import serving_app
from ftkit.serving.app import address_of, listen

CHAT, URL = "/v1/chat/completions", "http://127.0.0.1:8000"
QUESTION = [{"role": "user", "content": "Name a bird that can fly."}]
LONG = [{"role": "user", "content": "Read what follows, and say in a few words what it is about. " * 4}]
SETTINGS = ModelSettings("base", template="alpaca", dtype="float32")


def asked(client, messages=QUESTION, **fields):
    """The response to a greedy request of eight tokens, with these fields changed."""
    body = {"model": "base", "messages": messages, "temperature": 0, "max_tokens": 8, **fields}
    return client.post(CHAT, json=body)


def chat(client, *args, **fields) -> dict:
    """The one choice of an answer."""
    response = asked(client, *args, **fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]


def text(client, *args, **fields) -> str:
    return chat(client, *args, **fields)["message"]["content"]


def chunks(client, *args, **fields) -> list:
    """What comes of a stream, each as JSON, but for the end."""
    response = asked(client, *args, stream=True, **fields)
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    events = response.text.split("\n\n")
    assert events.pop() == "" and all(event.startswith("data: ") for event in events)
    return [event[6:] if event == "data: [DONE]" else json.loads(event[6:]) for event in events]


def prompt_ids(client, messages, **fields) -> list[int]:
    return asked(client, messages, return_token_ids=True, max_tokens=1, **fields).json()["prompt_token_ids"]


def test_the_official_client_reads_answers_whole_and_streamed(plain_batcher):
    import uvicorn
    from openai import NotFoundError, OpenAI

    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(serving_app(plain_batcher, "127.0.0.1"), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        client = OpenAI(base_url=f"{address_of(listener)}/v1", api_key="none", max_retries=0)
        assert [(one.id, one.parent) for one in client.models.list()] == [("base", None), ("first", "base")]
        fields = {"model": "base", "messages": QUESTION, "temperature": 0, "logprobs": True, "top_logprobs": 2}
        whole = client.chat.completions.create(max_tokens=20, **fields)
        expected = Engine.load(SETTINGS).answers([QUESTION], Sampling(20))[0]
        assert whole.choices[0].message.content == expected and whole.choices[0].finish_reason == "stop"
        usage = {"stream_options": {"include_usage": True}}
        parts = list(client.chat.completions.create(max_completion_tokens=20, stream=True, **usage, **fields))
        assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == expected
        assert parts[0].choices[0].delta.role == "assistant"
        assert parts[-1].usage.total_tokens == whole.usage.total_tokens
        with pytest.raises(NotFoundError, match="`nobody` does not exist") as caught:
            client.chat.completions.create(model="nobody", messages=QUESTION)
        assert caught.value.code == "model_not_found"
        server.should_exit = True
        thread.join()


def test_a_stream_has_role_texts_ends_usage_and_done(plain_client):
    *found, usage, done = chunks(plain_client, n=2, stream_options={"include_usage": True})
    assert done == "[DONE]" and usage["choices"] == [] and usage["usage"]["completion_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in found)
    for name in ("id", "created", "model", "object", "system_fingerprint"):
        assert len({chunk[name] for chunk in (*found, usage)}) == 1, name
    expected = text(plain_client)
    for index in range(2):
        own = [chunk["choices"][0] for chunk in found if chunk["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(one["delta"].get("content", "") for one in own) == expected
        assert [one["finish_reason"] for one in own] == [None] * (len(own) - 1) + ["stop"]


def test_usage_is_in_no_chunk_where_it_was_not_asked_for(plain_client):
    assert not any("usage" in chunk for chunk in chunks(plain_client)[:-1])


HONOURED = [  # what changes a greedy, endless answer of eight tokens, and how
    ({"temperature": 1.5, "seed": 1}, lambda plain, found: found != plain),
    ({"temperature": 1.5, "seed": 1, "top_k": 1}, lambda plain, found: found == plain),
    ({"temperature": 1.5, "seed": 1, "top_p": 1e-6}, lambda plain, found: found == plain),
    ({"temperature": 1.5, "seed": 1, "min_p": 1}, lambda plain, found: found == plain),
    ({"max_tokens": 3}, lambda plain, found: 0 < len(found) < len(plain)),
    ({"max_completion_tokens": 3}, lambda plain, found: 0 < len(found) < len(plain)),
    ({"max_tokens": 3, "max_completion_tokens": 8}, lambda plain, found: found == plain),
    ({"logit_bias": {"100": 100}}, lambda plain, found: len(set(found.split())) <= 2),
    (
        {"presence_penalty": 2, "frequency_penalty": 2, "max_tokens": 40},
        lambda plain, found: not found.startswith(plain),
    ),
    ({"repetition_penalty": 50.0}, lambda plain, found: found != plain),
    ({"add_generation_prompt": False}, lambda plain, found: found != plain),
    ({"model": "first"}, lambda plain, found: found != plain),
    ({"model": None}, lambda plain, found: found == plain),
    ({"response_format": {"type": "json_object"}}, lambda plain, found: found.startswith("{")),
]


@pytest.mark.parametrize(
    ("fields", "is_met"), HONOURED, ids=lambda value: next(iter(value)) if value and not callable(value) else ""
)
def test_a_field_has_its_effect(plain_client, fields, is_met):
    endless = {"ignore_eos": True}
    assert is_met(text(plain_client, LONG, **endless), text(plain_client, LONG, **(endless | fields)))


WITHOUT_EFFECT = {
    "user": "ann", "metadata": {"a": "b"}, "store": True, "reasoning_effort": "low", "verbosity": "low",
    "prompt_cache_key": "a", "service_tier": "auto", "safety_identifier": "b", "prompt_cache_retention": "24h",
    "stream_options": None, "tools": [], "tool_choice": "none", "stop": None, "functions": None, "logit_bias": {},
    "response_format": {"type": "text"}, "length_penalty": 1.0, "skip_special_tokens": True, "bad_words": [],
    "modalities": ["text"], "n": None, "temperature": 0.0,
}  # fmt: skip


def test_fields_without_effect_and_unknown_ones_change_nothing(plain_client, caplog):
    plain = chat(plain_client)
    assert chat(plain_client, **WITHOUT_EFFECT) == plain and not caplog.records
    assert chat(plain_client, of_nobody=1, **{"line\nfeed": 2}) == plain
    (record,) = [one for one in caplog.records if one.name == "ftkit.serving.schema"]
    assert "of_nobody" in record.getMessage() and "\n" not in record.getMessage()


REFUSED = [
    {"temperature": -1}, {"temperature": "hot"}, {"top_p": 2}, {"n": 0}, {"n": 129}, {"max_tokens": 0},
    {"stop": ["a", "b", "c", "d", "e"]}, {"stop": ""}, {"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 21},
    {"presence_penalty": 3}, {"logit_bias": {"999999999": 1}}, {"logit_bias": {"5": 101}}, {"min_p": 2},
    {"stop_token_ids": [-1]}, {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"tool_choice": "required"}, {"functions": [{"name": "f"}]}, {"response_format": {"type": "xml"}},
    {"use_beam_search": True}, {"length_penalty": 2}, {"bad_words": ["a"]}, {"allowed_token_ids": [1]},
    {"skip_special_tokens": False}, {"include_stop_str_in_output": True}, {"modalities": ["text", "audio"]},
    {"audio": {"voice": "a"}}, {"prompt_logprobs": 1}, {"chat_template": "{{ messages }}"}, {"seed": 1.5},
    {"messages": []}, {"messages": [{"role": "judge", "content": "a"}]}, {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", REFUSED, ids=lambda fields: ",".join(fields))
def test_what_would_change_the_answer_and_is_not_honoured_is_refused(plain_client, fields):
    response = asked(plain_client, **({"messages": QUESTION} | fields))
    error = response.json()["error"]
    assert response.status_code == 400 and error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert list(fields)[-1] in error["message"] or "form of answers" in error["message"]


def test_the_field_that_is_wrong_is_named_as_its_param(plain_client):
    for fields in ({"suffix": "."}, {"temperature": -1}, {"top_logprobs": 2}, {"stop": ""}):
        error = asked(plain_client, **fields).json()["error"]
        assert error["param"] == next(iter(fields)) and error["message"].startswith(f"{error['param']}: ")


def test_a_stop_string_is_not_in_the_answer_and_neither_is_half_of_one(plain_client):
    whole = text(plain_client, LONG, ignore_eos=True)
    stop = whole[len(whole) // 2 :][:4]
    found = chat(plain_client, LONG, ignore_eos=True, stop=["never", stop])
    assert found["message"]["content"] == whole[: whole.index(stop)].rstrip() and found["stop_reason"] == stop
    parts = chunks(plain_client, LONG, ignore_eos=True, stop=stop)[:-1]
    streamed = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in parts)
    assert streamed == found["message"]["content"] and found["finish_reason"] == "stop"


def test_several_answers_are_those_of_the_seeds_one_after_another(plain_client):
    drawn = {"temperature": 1.5, "messages": LONG}
    found = asked(plain_client, **drawn, n=3, seed=5).json()["choices"]
    assert [one["index"] for one in found] == [0, 1, 2]
    alone = [text(plain_client, **drawn, seed=seed) for seed in (5, 6, 7)]
    assert [one["message"]["content"] for one in found] == alone and len(set(alone)) > 1


def test_kept_tokens_of_a_prompt_are_at_most_all_of_them(plain_client):
    usage = asked(plain_client, LONG, n=3).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_log_probabilities_are_the_models_and_bytes_are_the_texts(plain_client, plain_batcher):
    found = asked(plain_client, logprobs=True, top_logprobs=3, return_token_ids=True).json()
    (choice,) = found["choices"]
    prompt, ids, content = found["prompt_token_ids"], choice["token_ids"], choice["logprobs"]["content"]
    with torch.no_grad():
        logits_TV = plain_batcher.model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits_TV, -1)
    for token, entry, row in zip(ids, content, expected, strict=True):
        assert entry["logprob"] == pytest.approx(float(row[token]), abs=1e-4)
        assert [one["logprob"] for one in entry["top_logprobs"]] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
    shown = bytes(byte for entry in content[:-1] for byte in entry["bytes"])  # without the end token
    assert shown.decode().strip() == choice["message"]["content"]
    streamed = [chunk["choices"][0] for chunk in chunks(plain_client, logprobs=True, top_logprobs=3)[:-1]]
    entries = [entry for one in streamed if one["logprobs"] for entry in one["logprobs"]["content"]]
    assert [entry["token"] for entry in entries] == [entry["token"] for entry in content]


def test_tokens_are_named_by_id_where_that_is_asked_for(plain_client):
    found = chat(plain_client, logprobs=True, return_token_ids=True, return_tokens_as_token_ids=True)
    names = [entry["token"] for entry in found["logprobs"]["content"]]
    assert names == [f"token_id:{token}" for token in found["token_ids"]]


@pytest.mark.parametrize(
    ("messages", "same"),
    [
        ([{"role": "developer", "content": "Be brief."}, *QUESTION], [{"role": "system", "content": "Be brief."}, *QUESTION]),
        ([{"role": "user", "content": [{"type": "text", "text": "Name"}, {"type": "text", "text": " it"}]}], [{"role": "user", "content": "Name it"}]),
        ([*QUESTION, {"role": "assistant", "content": None}, *QUESTION], [*QUESTION, {"role": "assistant", "content": ""}, *QUESTION]),
    ],
    ids=["developer", "parts", "null"],
)  # fmt: skip
def test_messages_of_two_forms_are_one_prompt(plain_client, messages, same):
    assert prompt_ids(plain_client, messages) == prompt_ids(plain_client, same)


def test_an_answer_that_was_begun_is_continued_with_its_white_space(plain_client):
    answer = text(plain_client, LONG, ignore_eos=True, max_tokens=12)
    begun = " ".join(answer.split(" ")[:3])
    talk, continued = (
        [*LONG, {"role": "assistant", "content": begun}],
        {"continue_final_message": True, "max_tokens": 3},
    )
    rest = text(plain_client, talk, **continued)
    assert rest.startswith(" ") and answer.startswith(begun + rest)
    assert text(plain_client, talk, echo=True, **continued) == begun + rest
    first = chunks(plain_client, talk, echo=True, **continued)[0]
    assert first["choices"][0]["delta"]["content"] == begun


def test_a_prompt_that_leaves_no_room_is_refused_with_its_numbers(plain_client, plain_batcher):
    response = asked(plain_client, [{"role": "user", "content": "bird " * plain_batcher.context}])
    error = response.json()["error"]
    assert response.status_code == 400 and error["code"] == "context_length_exceeded"
    assert f"maximum context length is {plain_batcher.context} tokens, and the prompt has" in error["message"]


def test_who_answered_is_in_fingerprint_and_header(plain_client):
    digests = {one["id"]: one["digest"] for one in plain_client.get("/v1/models").json()["data"]}
    assert len(set(digests.values())) == 2
    for name, digest in digests.items():
        for fields in ({}, {"stream": True}):
            response = asked(plain_client, model=name, **fields)
            assert response.headers["x-ftkit-version"] == digest and digest[:16] in response.text
            assert response.headers["x-request-id"] in response.text


class Faulty:
    """A batcher that answers by given events, and counts what is cancelled."""

    def __init__(self, batcher, *events: Event | Exception):
        self.registry, self.context, self.limits, self.events = (
            batcher.registry,
            batcher.context,
            batcher.limits,
            events,
        )
        self.stats, self.model, self.num_cancelled = batcher.stats, batcher.model, 0

    def submit(self, request, on_event):
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            on_event(event)
        return self

    def cancel(self):
        self.num_cancelled += 1

    def client(self) -> TestClient:
        return TestClient(serving_app(self, "127.0.0.1"), base_url=URL, raise_server_exceptions=False)


def in_flight(batcher) -> int:
    return sum(one["in_flight"] for one in batcher.registry.described())


def test_a_failure_within_a_stream_is_an_error_event_and_not_its_end(plain_batcher):
    faulty = Faulty(plain_batcher, Event("A crow"), Event(finish_reason="error", error="secret"))
    *_, part, last = chunks(faulty.client())
    assert part["choices"][0]["delta"] == {"content": "A crow"}
    assert last["error"]["type"] == "server_error" and "secret" not in str(last)
    response = asked(faulty.client())
    assert response.status_code == 500 and "secret" not in response.text and in_flight(plain_batcher) == 0


def test_too_many_requests_are_429_before_a_stream_begins(plain_batcher):
    response = asked(Faulty(plain_batcher, QueueFull("9 requests are open")).client(), stream=True)
    assert response.status_code == 429 and response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "queue_full" and in_flight(plain_batcher) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_cancels_its_answers(plain_batcher, stream):
    faulty = Faulty(plain_batcher, Event("A"))  # and then nothing more
    body = json.dumps({"messages": QUESTION, "stream": stream, "n": 2}).encode()
    scope = {
        "type": "http", "method": "POST", "path": CHAT, "query_string": b"", "scheme": "http", "http_version": "1.1",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")],
    }  # fmt: skip
    received = [{"type": "http.request", "body": body}]

    async def receive():
        if received:
            return received.pop()
        while not in_flight(plain_batcher):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    asyncio.run(asyncio.wait_for(serving_app(faulty, "127.0.0.1")(scope, receive, send), 10))
    assert faulty.num_cancelled == 2 and in_flight(plain_batcher) == 0


def test_a_version_that_is_read_for_nobody_any_more_is_let_go_of(plain_batcher):
    import contextlib

    may_go_on, reading, registry = threading.Event(), threading.Event(), plain_batcher.registry

    @contextlib.contextmanager
    def slow(name):
        reading.set()
        may_go_on.wait(10)
        with registry.pinned(name) as version:
            yield version

    async def ask():
        with contextlib.ExitStack() as pins:
            await pinned(SimpleNamespace(pinned=slow), "first", pins)

    async def leave():
        task = asyncio.ensure_future(ask())
        await asyncio.to_thread(reading.wait, 10)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        may_go_on.set()

    asyncio.run(asyncio.wait_for(leave(), 10))  # its end waits for the thread
    assert in_flight(plain_batcher) == 0
