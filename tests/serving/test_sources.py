"""`ftkit serve --index`: chats are answered from passages, which the client gets by number, once per answer."""

import json

import pytest
from starlette.testclient import TestClient

from ftkit.data.index.passages import Passage
from ftkit.inference.retrieval.index import Index
from ftkit.inference.retrieval.retriever import Retriever
from ftkit.serving.api import serving_app

BODY = {"model": "base", "messages": [{"role": "user", "content": "Who has backups?"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def client(plain_batcher, tmp_path_factory):
    passages = [Passage("a.md#1", "Plan B has backups.", "a.md", "Plans", "Plan B", 0, 19)]
    index = Index.build(tmp_path_factory.mktemp("index") / "x", passages)
    app = serving_app(plain_batcher, "127.0.0.1", retriever=Retriever(index))
    with TestClient(app, base_url="http://127.0.0.1:8000") as asking:
        yield asking


def test_an_answer_comes_with_its_sources(client, plain_client):
    found = client.post("/v1/chat/completions", json=BODY).json()
    (source,) = found["sources"]
    assert {name: source[name] for name in ("number", "id", "source", "heading", "text")} == {
        "number": 1, "id": "a.md#1", "source": "a.md", "heading": "Plan B", "text": "Plan B has backups.",
    }  # fmt: skip
    plain = plain_client.post("/v1/chat/completions", json=BODY).json()
    assert "sources" not in plain and plain["usage"]["prompt_tokens"] < found["usage"]["prompt_tokens"]


def test_a_stream_names_its_sources_once_in_the_first_part(client):
    lines = client.post("/v1/chat/completions", json={**BODY, "stream": True}).text.split("\n")
    parts = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [one["number"] for one in parts[0]["sources"]] == [1] and not any("sources" in part for part in parts[1:])


def test_a_question_without_a_passage_is_answered_without(client):
    body = {**BODY, "messages": [{"role": "user", "content": "zebra"}]}
    assert client.post("/v1/chat/completions", json=body).json()["sources"] == []
