"""The client of OpenAI-compatible servers, against one on loopback that times out, talks garbage, limits and dies."""

import email.utils
import re
import threading
import time

import pytest
from endpoint_stand_in import EndpointStandIn, Fault

from ftkit.config.errors import UserError
from ftkit.evaluation import endpoint as endpoint_module
from ftkit.evaluation.endpoint import Endpoint, ask_all, retry_after

QUESTION = [{"role": "user", "content": "6 x 7?"}]


@pytest.fixture
def server():
    with EndpointStandIn() as stand_in:
        yield stand_in


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
        "model": "judge", "messages": QUESTION, "temperature": 0.0, "max_tokens": 5, "seed": 0, "stream": False, "stop": ["\n"],
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
        (Fault(hang_seconds=3), "no whole answer within 1 s"),
        (Fault(drip=True), "no whole answer within 1 s"),
        (Fault(raw=b"<html>busy</html>"), "the answer is no whole JSON"),
        (Fault(raw=b'{"choices": [{"message": {"content": "4'), "the answer is no whole JSON"),
        (Fault(raw=b"[" * 100_000), "the answer is no whole JSON"),
        (Fault(raw=b"\xff\xfe\x00"), "the answer is no whole JSON"),
        (Fault(raw=b'{"choices": []}'), "the answer is no chat completion"),
        (Fault(raw=b'{"error": "overloaded"}'), "the answer is no chat completion"),
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
    with pytest.raises(UserError, match=f"no use asking on \\(status {status}\\)"):
        ask(server, num=100)
    assert len(server.requests) == endpoint_module.MAX_FAILURES_IN_A_ROW


@pytest.mark.parametrize("status", [400, 307])
def test_a_question_that_is_refused_is_not_asked_again_and_a_redirect_not_followed(server, status):
    server.behave = lambda number, body: Fault(status=status, headers={"Location": server.url + "/elsewhere"})
    replies = ask(server, num=10)
    assert {reply.failure for reply in replies} == {f"status {status}"} and len(server.requests) == 10


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
    with pytest.raises(UserError, match=r"127.0.0.1:\d+/v1: no use asking on \(no connection\); start the server"):
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
    with pytest.raises(UserError, match=r"no use asking on \((no connection|the connection broke)"):
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
        ("localhost:8000/v1", "is no server's address; give one such as http://"),
        ("ftp://host/v1", "is no server's address"),
        ("http://key:secret@host/v1", "an address holds no key; put it into the variable OPENAI_API_KEY"),
    ],
)
def test_an_address_that_is_none_is_refused(url, message):
    with pytest.raises(UserError, match=message):
        Endpoint(url, "judge")


def test_settings_out_of_range_are_refused():
    with pytest.raises(UserError, match="timeout_seconds, concurrency and max_tokens must be positive"):
        Endpoint("http://127.0.0.1:1/v1", "judge", timeout_seconds=0)


def test_a_server_that_never_says_a_word_ends_the_run(server):
    server.behave = lambda number, body: Fault(hang_seconds=1)
    with pytest.raises(UserError, match=r"no use asking on \(no whole answer within 0.1 s\); look at the server"):
        ask(server, num=1000, timeout_seconds=0.1, num_retries=0)
    assert len(server.requests) == endpoint_module.MAX_FAILURES_IN_A_ROW
