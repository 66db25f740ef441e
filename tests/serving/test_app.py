"""The local app answers its own page and refuses all others; each answer says what a browser may do with it."""

import socket

import pytest
from starlette.testclient import TestClient
from voting import ballot

from ftkit.config.errors import UserError
from ftkit.evaluation.judge.votes import read_votes
from ftkit.serving import app as app_module
from ftkit.serving.app import address_of, check_installed, listen, local_app
from ftkit.serving.guards import MAX_BODY_BYTES
from ftkit.serving.local_names import is_loopback
from ftkit.serving.voting import voting_app

URL = "http://127.0.0.1:8100"
JSON = {"content-type": "application/json"}


@pytest.fixture
def votes(tmp_path):
    return tmp_path / "votes.jsonl"


@pytest.fixture
def client(votes):
    return TestClient(voting_app(ballot(votes), "127.0.0.1"), base_url=URL)


def message(answer) -> str:
    """The error of an answer, whose form OpenAI's clients read."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["message"]


def test_a_session_from_the_page_to_the_last_vote(client, votes):
    assert "Which answer is better?" in client.get("/").text
    shown = client.get("/api/pair").json()
    for number, vote in enumerate(("left", "right", "tie", "both_bad"), start=1):
        assert (shown["num_votes"], shown["number"]) == (number - 1, number)
        shown = client.post("/api/votes", json={"pair": shown["pair"], "vote": vote}).json()
    assert shown == {"num_votes": 4, "num_pairs": 4, "pair": None}
    assert [vote.winner for vote in read_votes(votes)] == ["a", "b", "tie", "both_bad"]
    assert client.get("/api/pair?number=2").json()["vote"] == "right"


def test_every_answer_keeps_the_page_to_itself(client):
    for answer in (
        client.get("/"),
        client.get("/api/pair"),
        client.get("/gone"),
        client.get("/", headers={"host": "x"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy and "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_holds_nothing_from_elsewhere(client):
    text = client.get("/").text
    assert not [
        mark for mark in ("http:", "https:", "src=", "url(", "@import", "/* style */", "innerHTML") if mark in text
    ]


REFUSED = [
    # what, method, path, headers, status, reason
    ("a name bound to this address", "GET", "/", {"host": "evil.example:8100"}, 421, "the Host of this request is not"),
    ("a name that begins as ours", "GET", "/", {"host": "localhost.evil.example"}, 421, "the Host of this request is not"),
    ("a user in the name", "GET", "/", {"host": "127.0.0.1@evil.example"}, 421, "the Host of this request is not"),
    ("another address", "GET", "/", {"host": "192.168.0.9:8100"}, 421, "the Host of this request is not"),
    ("no name", "GET", "/", {"host": ""}, 421, "the Host of this request is not"),
    ("a broken name", "GET", "/", {"host": "[::1"}, 421, "the Host of this request is not"),
    ("another site's form", "POST", "/api/votes", {"origin": "http://evil.example"}, 403, "this request comes from another"),
    ("a page without an origin", "POST", "/api/votes", {"origin": "null"}, 403, "this request comes from another site"),
    ("another port's page", "POST", "/api/votes", {"origin": "http://127.0.0.1:9999"}, 403, "this request comes from"),
    ("another site's page that reads", "GET", "/api/pair", {"origin": "http://evil.example"}, 403, "this request comes"),
    ("a form of another site", "POST", "/api/votes", {"sec-fetch-site": "cross-site"}, 403, "this request comes from"),
    ("a preflight", "OPTIONS", "/api/votes", {"origin": "http://evil.example"}, 403, "this request comes from another"),
    ("a form's type", "POST", "/api/votes", {"content-type": "text/plain"}, 415, "send JSON, with Content-Type"),
    ("no type", "POST", "/api/votes", {"content-type": ""}, 415, "send JSON, with Content-Type: application/json"),
    ("a huge body", "POST", "/api/votes", {"content-length": str(MAX_BODY_BYTES + 1)}, 413, "the body is larger than"),
    ("a length that is none", "POST", "/api/votes", {"content-length": "-1"}, 413, "the body is larger than 1,000,000"),
    ("an unknown address", "GET", "/docs", {}, 404, "Not Found"),
    ("another method", "PUT", "/api/votes", {}, 405, "Method Not Allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "status", "reason"), [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])  # fmt: skip
def test_a_request_that_is_not_the_pages_is_refused(client, votes, method, path, headers, status, reason):
    id = client.get("/api/pair").json()["pair"]
    body = None if method == "GET" else f'{{"pair": "{id}", "vote": "left"}}'
    answer = client.request(method, path, content=body, headers=JSON | headers)
    assert (answer.status_code, message(answer)[: len(reason)]) == (status, reason)
    assert not votes.exists()


@pytest.mark.parametrize("headers", [{}, {"origin": URL, "sec-fetch-site": "same-origin"}, {"host": "localhost:8100"}])
def test_the_pages_own_request_and_a_program_are_answered(client, headers):
    id = client.get("/api/pair").json()["pair"]
    assert client.post("/api/votes", json={"pair": id, "vote": "left"}, headers=headers).json()["num_votes"] == 1


def test_a_body_that_does_not_announce_its_size_is_cut_off(client, votes):
    answer = client.post("/api/votes", content=(b" " * 100_000 for _ in range(11)), headers=JSON)
    assert (answer.status_code, message(answer)) == (413, "the body is larger than 1,000,000 bytes")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ('{"pair": "x"', 400, "JSON decode error"),
        ("[]", 400, "Input should be a valid dictionary"),
        ('{"pair": "x"}', 400, "vote: Field required"),
        ('{"pair": "x", "vote": "first"}', 400, "vote: Input should be 'left', 'right', 'tie' or 'both_bad'"),
        ('{"pair": 7, "vote": "left"}', 400, "pair: Input should be a valid string"),
        ('{"pair": "x", "vote": "left", "voter": "eve"}', 400, "voter: Extra inputs are not permitted"),
        ('{"pair": "x", "vote": "left"}', 404, "there is no such pair; load the page again"),
    ],
)
def test_a_vote_that_is_none_is_refused_in_words(client, votes, body, status, reason):
    answer = client.post("/api/votes", content=body, headers=JSON)
    assert answer.status_code == status and reason in message(answer)
    assert not votes.exists()


@pytest.mark.parametrize(("number", "status"), [("0", 404), ("5", 404), ("x", 400), ("4", 200)])
def test_a_pair_is_asked_for_by_its_place(client, number, status):
    assert client.get(f"/api/pair?number={number}").status_code == status


def test_a_server_for_the_network_takes_addresses_and_its_own_name(votes):
    client = TestClient(voting_app(ballot(votes), "gpu.lan"), base_url="http://gpu.lan:8100")
    hosts = {"gpu.lan": 200, "192.168.0.9:8100": 200, "[fe80::1]:8100": 200, "evil.example": 421}
    assert {host: client.get("/", headers={"host": host}).status_code for host in hosts} == hosts
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "gpu.lan")] == [True] * 3 + [
        False
    ] * 2


def test_further_routes_get_the_same_guards_and_errors():
    from fastapi import APIRouter

    router = APIRouter()
    router.add_api_route("/v1/models", lambda: {"object": "list"})
    client = TestClient(local_app([router], host="localhost"), base_url="http://localhost:1")
    assert client.get("/v1/models").json() == {"object": "list"}
    assert client.get("/v1/models", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/openapi.json").status_code == 404


def test_a_port_in_use_is_one_line():
    with listen("127.0.0.1", 0) as one:
        port = one.getsockname()[1]
        assert address_of(one) == f"http://127.0.0.1:{port}"
        with pytest.raises(UserError, match=f"--host 127.0.0.1 --port {port}: Address already in use; choose another"):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match="--host nowhere.invalid --port 0: .*; choose another"):
        listen("nowhere.invalid", 0)
    assert isinstance(one, socket.socket)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(app_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the local server needs fastapi; pip install 'ftkit\[serve\]'"):
        check_installed()
