"""Forms, tools, tokens, scores and counts over the bundled base, by a template that has a place for tools."""

import asyncio
import json
import re
import time

import pytest
from abuse_server import BASE, URL, chat_body
from starlette.testclient import TestClient

from ftkit.inference.asking import ModelSettings
from ftkit.inference.batching.batcher import Batcher
from ftkit.inference.batching.request import Limits
from ftkit.inference.log_likelihood import LikelihoodScorer, encode_question
from ftkit.serving.api import serving_app

CHAT = "/v1/chat/completions"
TEMPLATE = """
{%- if tools %}{{- '<|im_start|>system\\n' }}{% for tool in tools %}{{- (tool | tojson) + '\\n' }}{% endfor %}
{{- 'Write <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}{{- '<|im_start|>user\\n<tool_response>' + message.content + '</tool_response><|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' }}{% endfor %}
{{- eos_token if message.role == 'assistant' else '<|im_end|>\\n' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
ARGUMENTS = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": f"To {name}.", "parameters": ARGUMENTS}}
    for name in ("add", "look_up")
]
BIRD = {
    "type": "object",
    "properties": {"kind": {"enum": ["crow", "eel"]}, "legs": {"type": "integer", "minimum": 1, "maximum": 4}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def batcher(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "tools.jinja"
    path.write_text(TEMPLATE)
    running = Batcher.load(ModelSettings(BASE, template=str(path), dtype="float32"), Limits(num_slots=4, max_waiting=4))
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(batcher):
    with TestClient(serving_app(batcher, "127.0.0.1"), base_url=URL, raise_server_exceptions=False) as client:
        yield client


def chat(client, **fields) -> dict:
    answer = client.post(CHAT, json=chat_body(**{"max_tokens": 80, **fields}))
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def streamed(client, **fields) -> dict:
    """The choice that a stream adds up to."""
    found = {"content": "", "tool_calls": [], "finish_reason": None}
    text = client.post(CHAT, json=chat_body(**{"max_tokens": 80, "stream": True, **fields})).text
    assert text.endswith("data: [DONE]\n\n")
    for line in text.split("\n\n")[:-2]:
        (choice,) = json.loads(line.removeprefix("data: "))["choices"]
        found["content"] += choice["delta"].get("content") or ""
        found["tool_calls"] += choice["delta"].get("tool_calls", [])
        found["finish_reason"] = choice["finish_reason"]
    return found


FORMS = [
    ("a schema", {"response_format": {"type": "json_schema", "json_schema": {"name": "bird", "schema": BIRD, "strict": True}}}, lambda text: json.loads(text)["kind"] in ("crow", "eel") and 1 <= json.loads(text)["legs"] <= 4),
    ("vLLM's schema", {"structured_outputs": {"json": BIRD}}, lambda text: set(json.loads(text)) == {"kind", "legs"}),
    ("vLLM's former schema, as text", {"guided_json": json.dumps(BIRD)}, lambda text: set(json.loads(text)) == {"kind", "legs"}),
    ("an expression", {"structured_outputs": {"regex": "(crow|eel){2} [0-9]{3}"}}, lambda text: re.fullmatch("(crow|eel){2} [0-9]{3}", text)),
    ("a choice", {"guided_choice": ["a crow", "an eel"]}, lambda text: text in ("a crow", "an eel")),
]  # fmt: skip


@pytest.mark.parametrize("temperature", [0, 1.5])
@pytest.mark.parametrize(("fields", "is_met"), [row[1:] for row in FORMS], ids=[row[0] for row in FORMS])
def test_an_answer_has_the_form_that_is_asked_for(client, fields, is_met, temperature):
    whole = chat(client, temperature=temperature, seed=7, **fields)
    assert whole["finish_reason"] == "stop" and is_met(whole["message"]["content"]), whole
    part = streamed(client, temperature=temperature, seed=7, **fields)
    assert (part["content"], part["finish_reason"]) == (whole["message"]["content"], "stop")


def test_several_answers_have_forms_of_their_own(client):
    answer = client.post(
        CHAT, json=chat_body(n=3, max_tokens=80, temperature=2, seed=3, structured_outputs={"regex": "[a-z]{8}"})
    )
    texts = [choice["message"]["content"] for choice in answer.json()["choices"]]
    assert len(set(texts)) == 3 and all(re.fullmatch("[a-z]{8}", text) for text in texts)


CHOICES = [
    ("any tool", "required", {"add", "look_up"}),
    ("one tool", {"type": "function", "function": {"name": "look_up"}}, {"look_up"}),
]


@pytest.mark.parametrize(("choice", "names"), [row[1:] for row in CHOICES], ids=[row[0] for row in CHOICES])
def test_a_tool_that_must_be_called_is_called(client, choice, names):
    whole = chat(client, tools=TOOLS, tool_choice=choice)
    (call,) = whole["message"]["tool_calls"]
    assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] is None and "index" not in call
    assert call["function"]["name"] in names and 0 <= json.loads(call["function"]["arguments"])["a"] <= 9
    part = streamed(client, tools=TOOLS, tool_choice=choice)
    assert part["finish_reason"] == "tool_calls" and part["content"] == ""
    assert part["tool_calls"][0]["function"] == call["function"] and part["tool_calls"][0]["index"] == 0


def test_tools_are_in_the_prompt_unless_none_may_be_called(client):
    counts = [
        client.post("/tokenize", json={"messages": chat_body()["messages"], **fields}).json()["count"]
        for fields in ({}, {"tools": TOOLS})
    ]
    assert counts[1] > counts[0] + 50
    for choice, count in ((None, counts[1]), ("auto", counts[1]), ("none", counts[0])):
        usage = client.post(CHAT, json=chat_body(tools=TOOLS, tool_choice=choice)).json()["usage"]
        assert usage["prompt_tokens"] == count


def test_a_call_and_its_result_go_back_into_the_conversation(client):
    call = chat(client, tools=TOOLS, tool_choice="required")["message"]
    question = chat_body()["messages"]
    result = {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "4"}
    ids = client.post("/tokenize", json={"messages": [*question, call, result], "tools": TOOLS}).json()["tokens"]
    text = client.post("/detokenize", json={"tokens": ids}).json()["prompt"]
    name = call["tool_calls"][0]["function"]["name"]
    assert (
        f'<tool_call>\n{{"name": "{name}", "arguments": {{"a": ' in text and "<tool_response>4</tool_response>" in text
    )


def test_tokens_are_vllms_form(client, batcher):
    with batcher.registry.pinned(BASE) as version:
        expected = version.voice.tokenizer("A crow flies.")["input_ids"]
        texts = version.voice.tokenizer.convert_ids_to_tokens(expected)
    found = client.post("/tokenize", json={"model": BASE, "prompt": "A crow flies.", "return_token_strs": True}).json()
    assert found == {"count": len(expected), "max_model_len": batcher.context, "tokens": expected, "token_strs": texts}
    assert client.post("/detokenize", json={"model": BASE, "tokens": expected}).json() == {"prompt": "A crow flies."}


def test_a_score_is_the_likelihood_scorers(client, batcher):
    prompt, continuations = "The crow can ", ["fly.", "swim in the sea.", "x"]
    with batcher.registry.pinned(BASE) as version:
        tokenizer = version.voice.tokenizer
        question = encode_question(tokenizer, prompt, continuations)
        # the engine's thread has the model, so that it is scored there
        expected = batcher.do(lambda: LikelihoodScorer(batcher.model, 0).score([question], [])[0]).result()
    answer = client.post("/v1/score", json={"model": BASE, "prompt": prompt, "continuations": continuations}).json()
    assert [one["log_prob"] for one in answer["data"]] == pytest.approx(expected, abs=1e-4)
    assert [one["tokens"] for one in answer["data"]] == question.continuations
    assert all(one["log_prob"] == pytest.approx(sum(one["log_probs"])) for one in answer["data"])


def test_an_answers_score_is_that_of_its_log_probabilities(client):
    messages = chat_body()["messages"]
    whole = client.post(CHAT, json=chat_body(max_tokens=5, logprobs=True, ignore_eos=True)).json()["choices"][0]
    drawn = whole["logprobs"]["content"]
    text = "".join(one["token"] for one in drawn)
    scored = client.post("/v1/score", json={"messages": messages, "continuations": [text]}).json()["data"][0]
    if scored["num_tokens"] == len(drawn):  # the same tokens
        assert scored["log_probs"] == pytest.approx([one["logprob"] for one in drawn], abs=1e-4)


def test_counts_are_prometheus(client):
    before = client.get("/metrics").text
    chat(client, max_tokens=3)
    client.get("/v1/models/nobody")
    client.get("/secret/of/someone")
    client.request("BREW", "/v1/models")
    client.get("/v1/models", headers={"host": "evil.example"})
    after = client.get("/metrics")
    assert after.headers["content-type"].startswith("text/plain; version=0.0.4")

    def value(text: str, line: str) -> float:
        return next(
            (float(found.rpartition(" ")[2]) for found in text.split("\n") if found.startswith(line + " ")), 0.0
        )

    answered = 'ftkit_requests_total{method="POST",route="/v1/chat/completions",status="200"}'
    assert value(after.text, answered) == value(before, answered) + 1
    assert value(after.text, "ftkit_generated_tokens_total") == value(before, "ftkit_generated_tokens_total") + 3
    assert 'method="other",route="/v1/models",status="405"' in after.text and 'status="421"' in after.text
    assert 'route="other",status="404"' in after.text and "secret" not in after.text and "nobody" not in after.text
    for name in (
        "running",
        "waiting",
        "prefix_hit_rate",
        "models",
        "request_seconds_bucket",
        "first_byte_seconds_bucket",
    ):
        assert f"\nftkit_{name}" in after.text


def test_too_many_are_asked_to_come_again(client, batcher, monkeypatch):
    monkeypatch.setattr(batcher, "num_open", 8)
    for fields in ({}, {"stream": True}):
        answer = client.post(CHAT, json=chat_body(**fields))
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]["code"]) == (
            429,
            "1",
            "queue_full",
        )
    assert not [one for one in batcher.registry.described() if one["in_flight"]]


def test_an_answer_that_takes_too_long_frees_its_place(batcher):
    with TestClient(serving_app(batcher, "127.0.0.1", seconds=0.05), base_url=URL) as hasty:
        late = hasty.post(CHAT, json=chat_body(max_tokens=400, ignore_eos=True))
        assert (late.status_code, late.json()["error"]["code"]) == (408, "timeout")
        text = hasty.post(CHAT, json=chat_body(max_tokens=400, ignore_eos=True, stream=True)).text
        assert "timeout" in text and "[DONE]" not in text
    for _ in range(200):
        if not batcher.num_open:
            break
        time.sleep(0.02)
    assert not batcher.num_open and not [one for one in batcher.registry.described() if one["in_flight"]]


def test_health_is_the_engines(client, batcher, monkeypatch):
    assert client.get("/health").json() == {"status": "ok"} and client.head("/health").status_code == 200
    monkeypatch.setattr(batcher, "failure", RuntimeError("dead"))
    assert client.get("/health").status_code == 503 and "dead" not in client.get("/health").text


def test_a_connection_that_asks_nothing_or_reads_nothing_is_closed(monkeypatch):
    from ftkit.serving import patience

    monkeypatch.setattr(patience, "SECONDS_TO_ASK", 0.1)
    monkeypatch.setattr(patience, "SECONDS_TO_READ", 0.1)
    events = []

    class Transport(asyncio.Transport):
        def get_extra_info(self, name, default=None):
            return default

        def close(self):
            events.append("closed")

        def abort(self):
            events.append("aborted")

        def is_closing(self):
            return False

    async def connect(*parts: bytes, is_read: bool | None = None) -> list[str]:
        from uvicorn.server import ServerState

        from ftkit.serving.app import server_config

        events.clear()
        protocol = patience.patient_protocol()(server_config(lambda *_: None), ServerState(), {})
        protocol.connection_made(Transport())
        for part in parts:
            protocol.data_received(part)
            await asyncio.sleep(0.06)
        if is_read is not None:
            protocol.stop("asking")
            protocol.pause_writing()
            if is_read:
                protocol.resume_writing()
        await asyncio.sleep(0.15)
        return list(events)

    assert asyncio.run(connect()) == ["closed"]
    assert asyncio.run(connect(b"GET /health HTTP/1.1\r\n", b"A: b\r\n", b"C: d\r\n")) == ["closed"]
    assert asyncio.run(connect(is_read=False)) == ["aborted"] and asyncio.run(connect(is_read=True)) == []
