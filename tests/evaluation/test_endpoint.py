"""The client of OpenAI-compatible servers, against one on loopback that times out, talks garbage, limits and dies."""

import asyncio
import email.utils
import json
import re
import threading
import time
from types import SimpleNamespace

import pytest
from endpoint_stand_in import EndpointStandIn, Fault

from ftkit.config.errors import UserError
from ftkit.inference import endpoint as endpoint_module
from ftkit.inference.completion import Reply, retry_after
from ftkit.inference.endpoint import Endpoint, GivenUp, ask_all

QUESTION = [{"role": "user", "content": "6 x 7?"}]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(server, num: int = 1, **settings) -> list:
    """Replies to `num` questions, in order."""
    settings = {"timeout_seconds": 2, "num_retries": 2, "concurrency": 1} | settings
    replies = dict(ask_all(Endpoint(server.url, "judge", **settings), [QUESTION] * num))
    return [replies[index] for index in range(num)]


def test_a_question_is_asked_as_openais_api_wants_it(server):
    (reply,) = ask(server, max_tokens=5, stop=("\n",))
    path, _, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "judge", "messages": QUESTION, "temperature": 0.0, "max_tokens": 5, "stream": False, "stop": ["\n"],
    }  # fmt: skip
    assert (reply.text, reply.failure, reply.input_tokens, reply.output_tokens) == ("ok", "", 7, 2)


def test_answers_come_back_in_the_order_of_the_questions_however_long_each_took(server):
    server.behave = lambda number, body: body["messages"][0]["content"]
    conversations = [[{"role": "user", "content": str(number)}] for number in range(12)]
    answers = Endpoint(server.url, "judge", concurrency=4).answers(conversations, max_tokens=3)
    assert answers == [str(number) for number in range(12)]
    assert 1 < server.most_at_once <= 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(hang_seconds=3), "no complete answer within 1 s"),
        (Fault(drip=True), "no complete answer within 1 s"),
        (Fault(raw=b"<html>busy</html>"), "the answer is not complete JSON"),
        (Fault(raw=b'{"choices": [{"message": {"content": "4'), "the answer is not complete JSON"),
        (Fault(raw=b"[" * 100_000), "the answer is not complete JSON"),
        (Fault(raw=b"\xff\xfe\x00"), "the answer is not complete JSON"),
        (Fault(raw=b'{"choices": []}'), "the answer is not a chat completion"),
        (Fault(raw=b'{"error": "overloaded"}'), "the answer is not a chat completion"),
        (Fault(raw=b'{"choices": [{"message": {"content": null}}]}'), "the answer has no text"),
        (Fault(half=True), r"the connection broke \(RemoteProtocolError\)"),
        (Fault(drop=True), r"the connection broke \((RemoteProtocolError|ReadError)\)"),
        (Fault(status=500), "status 500"),
        (Fault(status=429), "status 429"),
    ],
)
def test_a_fault_that_stays_is_tried_again_and_then_told(server, fault, reason):
    start = time.monotonic()
    server.behave = lambda number, body: fault if number < 2 else "42"
    reply, other = ask(server, num=2, timeout_seconds=1, num_retries=1)
    assert time.monotonic() - start < 8
    assert (reply.text, reply.num_attempts, len(server.requests)) == ("", 2, 3)
    assert re.fullmatch(reason, reply.failure) and other.text == "42"


@pytest.mark.parametrize("fault", [Fault(hang_seconds=4), Fault(drop=True), Fault(raw=b"?"), Fault(status=503)])
def test_a_fault_that_passes_costs_nothing_but_time(server, fault):
    server.behave = lambda number, body: fault if number == 0 else "42"
    (reply,) = ask(server)
    assert (reply.text, reply.failure, reply.num_attempts) == ("42", "", 2)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_asked_again_and_ends_the_run_after_a_few(server, status):
    server.behave = lambda number, body: Fault(status=status, headers={"Location": server.url + "/elsewhere"})
    with pytest.raises(UserError, match=f"no use asking further \\(status {status}\\)"):
        ask(server, num=100)
    assert len(server.requests) == endpoint_module.MAX_FAILURES_IN_A_ROW


def test_a_question_that_is_refused_is_not_asked_again_and_does_not_end_the_run(server):
    server.behave = lambda number, body: Fault(status=400) if number else "42"
    replies = ask(server, num=10)
    assert [reply.failure for reply in replies] == [""] + ["status 400"] * 9 and len(server.requests) == 10


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (
            b'{"error": {"message": "The model `judge`\\n does not exist", "param": null}}',
            ": The model `judge` does not exist",
        ),
        (b'{"object": "error", "message": "context is 512 tokens", "param": 7}', ": context is 512 tokens"),
        (b'{"detail": "not today"}', ": not today"),
        (b'{"error": "%s"}' % (b"long " * 100), ": " + "long " * 40),
        (b'{"error": "a\\u001b[31mb"}', ""),
        (b'{"error": ["?"]}', ""),
        (b"[1]", ""),
        (b"<html>no</html>", ""),
    ],
)
def test_the_servers_reason_is_shown_in_one_line(server, raw, reason):
    server.behave = lambda number, body: Fault(status=400, raw=raw)
    assert ask(server)[0].failure == "status 400" + reason


def test_settings_that_a_server_does_not_take_are_sent_as_it_takes_them(server, caplog):
    """As OpenAI's reasoning models answer."""

    def behave(number, body):
        for name in ("max_tokens", "seed"):
            if name in body:
                error = {"message": f"Unsupported parameter: '{name}'", "param": name, "code": "unsupported_parameter"}
                return Fault(status=400, raw=json.dumps({"error": error}).encode())
        return str(body["max_completion_tokens"])

    server.behave = behave
    replies = ask(server, num=3, temperature=1.0, max_tokens=5)
    assert [(reply.text, reply.num_attempts) for reply in replies] == [("5", 1)] * 3
    assert len(server.requests) == 5  # two settings were found out once
    assert [record.getMessage().split("/v1 ")[1] for record in caplog.records if record.name.startswith("ftkit")] == [
        "refuses max_tokens; sent from now on: max_completion_tokens",
        "refuses seed; sent from now on: none",
    ]


def test_a_setting_that_a_person_gave_is_not_left_out_but_the_reason_shown(server):
    error = {"message": "Unsupported value: 'temperature' does not support 0.0", "param": "temperature"}
    server.behave = lambda number, body: Fault(status=400, raw=json.dumps({"error": error}).encode())
    assert ask(server)[0].failure == "status 400: Unsupported value: 'temperature' does not support 0.0"
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed_and_says_where_it_points(server):
    location = "https://user:pw@elsewhere:81/v1/chat/completions?key=SECRET"
    server.behave = lambda number, body: Fault(status=308, headers={"Location": location})
    with pytest.raises(GivenUp, match=r"\(status 308\); it points to 'https://elsewhere:81/v1'; correct the address"):
        ask(server, num=100)
    assert len(server.requests) == endpoint_module.MAX_FAILURES_IN_A_ROW


@pytest.mark.parametrize(
    "fault",
    [Fault(status=429), Fault(status=500), Fault(status=400), Fault(raw=b'{"error": "no"}'), Fault(raw=b"<html>")],
)
def test_a_server_that_only_ever_fails_is_not_asked_to_the_end(server, fault):
    server.behave = lambda number, body: fault
    with pytest.raises(GivenUp, match="no use asking further"):
        ask(server, num=100, num_retries=0)
    assert len(server.requests) == endpoint_module.MAX_FAILURES_IN_A_ROW


@pytest.mark.parametrize("status", [520, 524, 529, 500, 408])
def test_a_status_that_passes_is_tried_again(server, status):
    server.behave = lambda number, body: "42" if number else Fault(status=status)
    assert ask(server)[0].text == "42"


@pytest.mark.parametrize("status", [501, 505, 422])
def test_a_status_that_stays_is_not_tried_again(server, status):
    server.behave = lambda number, body: Fault(status=status)
    assert ask(server)[0].failure == f"status {status}" and len(server.requests) == 1


def test_a_few_questions_that_failed_leave_the_others_answered(server):
    server.behave = lambda number, body: Fault(status=401)
    assert [reply.failure for reply in ask(server, num=4)] == ["status 401"] * 4


def test_no_secure_connection_is_not_called_a_server_that_is_not_there(server):
    address = server.url.replace("http:", "https:")
    with pytest.raises(UserError, match=r"no secure connection \(\w+\), 1 times; let SSL_CERT_FILE name a certificate"):
        Endpoint(address, "judge").answers([QUESTION], 3)


def finished(content, finish_reason: str | None = "stop", **rest) -> Fault:
    choice = {"message": {"content": content}, "finish_reason": finish_reason}
    return Fault(raw=json.dumps({"choices": [choice], **rest}).encode())


@pytest.mark.parametrize("content", ["10", None])
def test_an_answer_that_is_cut_off_says_so_and_is_not_asked_for_again(server, content):
    server.behave = lambda number, body: finished(content, "length")
    (reply,) = ask(server)
    assert (reply.text, reply.finish_reason, reply.failure) == (content or "", "length", "")
    assert len(server.requests) == 1


@pytest.mark.parametrize("usage", [None, {}, [1], {"prompt_tokens": "7"}, {"prompt_tokens": -1}])
def test_tokens_that_the_server_does_not_count_are_unknown(server, usage):
    server.behave = lambda number, body: finished("42", usage=usage)
    (reply,) = ask(server)
    assert (reply.text, reply.input_tokens, reply.output_tokens) == ("42", None, None)


def test_half_a_character_is_replaced(server):
    server.behave = lambda number, body: Fault(raw=b'{"choices": [{"message": {"content": "\\ud83d 42"}}]}')
    assert ask(server)[0].text == "? 42"


def test_a_rate_limit_is_waited_for_as_the_server_asks(server):
    server.behave = lambda number, body: Fault(status=429, headers={"Retry-After": "0.5"}) if number == 0 else "42"
    assert ask(server)[0].text == "42"
    assert 0.45 < server.times[1] - server.times[0] < 5


def test_a_wait_that_is_too_long_is_cut(server, monkeypatch):
    monkeypatch.setattr(endpoint_module, "MAX_WAIT_SECONDS", 0.2)
    server.behave = lambda number, body: Fault(status=429, headers={"Retry-After": "86400"}) if number == 0 else "42"
    start = time.monotonic()
    assert ask(server)[0].text == "42" and time.monotonic() - start < 10


def test_retry_after_is_read_as_seconds_or_as_a_date():
    assert retry_after("7") == 7.0
    assert retry_after(email.utils.formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert retry_after("Mon, 01 Jan 2001 00:00:00 GMT") == 0.0
    assert [retry_after(value) for value in (None, "", "soon", "nan", "1e999", "-5")] == [None] * 6


def test_waits_grow_from_retry_to_retry(server, monkeypatch):
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_SECONDS", 0.1)
    server.behave = lambda number, body: Fault(status=503)
    ask(server, num_retries=3)
    waits = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.05 and waits[2] >= 0.2


def test_too_long_an_answer_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(endpoint_module, "MAX_REPLY_BYTES", 1 << 20)
    server.behave = lambda number, body: Fault(raw=b" " * (2 << 20))
    assert ask(server, timeout_seconds=5)[0].failure == "more than 1 MiB came"


def test_a_server_that_is_not_there_ends_the_run_at_once():
    with EndpointStandIn() as gone:
        pass
    start = time.monotonic()
    with pytest.raises(UserError, match=r"127.0.0.1:\d+/v1: no use asking further \(no connection\); start the server"):
        ask(gone, num=100)
    assert time.monotonic() - start < 20


def test_a_server_that_dies_in_the_middle_keeps_the_answers_so_far_and_ends_the_run(server):
    def behave(number, body):
        if number == 6:
            threading.Thread(target=server.die).start()
        return "42"

    server.behave = behave
    found = []
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no use asking further \((no connection|the connection broke)"):
        for index, reply in ask_all(Endpoint(server.url, "judge", concurrency=2, num_retries=1), [QUESTION] * 200):
            found.append((index, reply.text))
    assert time.monotonic() - start < 20
    assert len([text for _, text in found if text == "42"]) >= 6 and len(found) < 200


def test_a_consumer_that_stops_early_leaves_no_request_behind(server):
    server.behave = lambda number, body: "42"
    replies = ask_all(Endpoint(server.url, "judge", concurrency=2), [QUESTION] * 500)
    next(replies)
    replies.close()
    time.sleep(0.3)
    num = len(server.requests)
    time.sleep(0.3)
    assert len(server.requests) == num < 500  # none came after the close
    assert not [thread for thread in threading.enumerate() if "work" in thread.name]


def test_a_cancellation_that_is_swallowed_ends_the_questions_all_the_same(server, monkeypatch):
    async def swallowing(attempt, timeout):
        try:
            return await asyncio.wait_for(attempt, timeout)
        except asyncio.CancelledError:
            return Reply(text="42")

    monkeypatch.setattr(endpoint_module, "asyncio", SimpleNamespace(**vars(asyncio) | {"wait_for": swallowing}))
    server.behave = lambda number, body: Fault(hang_seconds=0.01 if number else 0)
    replies = ask_all(Endpoint(server.url, "judge", concurrency=2), [QUESTION] * 100)
    next(replies)
    replies.close()
    assert len(server.requests) < 90


def test_a_consumer_that_stops_early_does_not_wait_for_a_silent_server(server):
    server.behave = lambda number, body: "42" if number == 0 else Fault(hang_seconds=8)
    replies = ask_all(Endpoint(server.url, "judge", timeout_seconds=60, concurrency=2), [QUESTION] * 50)
    next(replies)
    start = time.monotonic()
    replies.close()
    assert time.monotonic() - start < 5


def test_the_key_comes_from_the_environment_and_shows_nowhere(server, monkeypatch, caplog):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    caplog.set_level("DEBUG")
    server.behave = lambda number, body: Fault(status=400, raw=b'{"error": "bad key sk-very-secret"}')
    (reply,) = ask(server, api_key_variable="MY_KEY")
    assert server.requests[0][1]["Authorization"] == "Bearer sk-very-secret"
    assert "sk-very-secret" not in str(reply) + caplog.text


def test_a_key_that_the_server_repeats_in_its_answer_is_taken_out(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    server.behave = lambda number, body: "your key is sk-very-secret"
    assert ask(server, api_key_variable="MY_KEY")[0].text == "your key is [key]"
    monkeypatch.setenv("MY_KEY", "key")  # too short to be one
    server.behave = lambda number, body: "monkey"
    assert ask(server, api_key_variable="MY_KEY")[0].text == "monkey"


@pytest.mark.parametrize("key", ["sk-“quoted”", "ключ", "sk-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match="the variable MY_KEY holds a letter that no key has; copy the key again"):
        Endpoint("http://127.0.0.1:1/v1", "judge", api_key_variable="MY_KEY")


def test_each_question_may_have_its_own_seed(server):
    list(ask_all(Endpoint(server.url, "judge", temperature=0.7, top_p=0.5), [QUESTION] * 2, seeds=[7, 8]))
    assert sorted(body["seed"] for _, _, body in server.requests) == [7, 8]
    assert server.requests[0][2]["top_p"] == 0.5


def test_a_seed_that_was_asked_for_is_sent_at_temperature_0_too(server):
    ask(server, seed=7)
    assert server.requests[0][2]["seed"] == 7


def test_without_a_key_none_is_sent(server):
    ask(server)
    assert "Authorization" not in server.requests[0][1]


def test_one_answer_missing_of_many_is_an_error_for_who_needs_all(server):
    server.behave = lambda number, body: Fault(status=400)
    with pytest.raises(UserError, match="status 400, 1 times; run the command again to go on"):
        Endpoint(server.url, "judge").answers([QUESTION], 3)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000/v1", "is not a server's address; give one such as http://"),
        ("ftp://host/v1", "is not a server's address"),
        ("http://key:secret@host/v1", "an address holds no key; put it into the variable OPENAI_API_KEY"),
        ("htp://key:secret@host/v1", "an address holds no key"),
        ("http://host/v1?key=secret", 'without "\\?" or "#"; a key goes into OPENAI_API_KEY'),
        ("http://host/v1#secret", 'without "\\?" or "#"'),
        ("http://[::1/v1", "is not a server's address"),
        ("http://host:99999/v1", "is not a server's address"),
        ("http://two words/v1", "is not a server's address"),
        ("http://host\0/v1", "is not a server's address"),
    ],
)
def test_an_address_that_is_none_is_refused_and_no_secret_shown(url, message):
    with pytest.raises(UserError, match=message) as error:
        Endpoint(url, "judge")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("seconds", [0, float("nan"), float("inf")])
def test_settings_out_of_range_are_refused(seconds):
    with pytest.raises(UserError, match="timeout_seconds, concurrency and max_tokens must be positive"):
        Endpoint("http://127.0.0.1:1/v1", "judge", timeout_seconds=seconds)


def test_a_server_that_never_says_a_word_ends_the_run(server):
    server.behave = lambda number, body: Fault(hang_seconds=1)
    with pytest.raises(
        UserError, match=r"no use asking further \(no complete answer within 0.1 s\); look at the server"
    ):
        ask(server, num=1000, timeout_seconds=0.1, num_retries=0)
    assert len(server.requests) == endpoint_module.MAX_FAILURES_IN_A_ROW
