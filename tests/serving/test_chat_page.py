"""The page at / of a server: it holds all that it needs, and does by keys alone what it is for."""

import pytest
from browser import needs_browser, visit
from chat_stand_in import DIGESTS, FORGED, chat_routes
from starlette.testclient import TestClient

from ftkit.serving.app import local_app
from ftkit.serving.keys import Keys
from ftkit.serving.page import local_page
from ftkit.serving.routes.page import page_routes

KEY = "sk-page"


def app(asked: list):
    page = local_page("chat")
    routers = [page_routes(page), chat_routes(asked)]
    return local_app(routers, host="127.0.0.1", policy=page.policy, keys=Keys(KEY))


def test_the_page_asks_for_no_key_and_holds_nothing_from_elsewhere():
    client = TestClient(app([]), base_url="http://127.0.0.1:8100")
    answer = client.get("/")
    assert answer.status_code == 200 and "<title>Chat</title>" in answer.text
    assert client.get("/v1/models").status_code == 401
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    marks = ("http:", "https:", "src=", "url(", "@import", "/* style */", "/* script */", "innerHTML", "localStorage")
    assert not [mark for mark in marks if mark in answer.text]


@pytest.mark.processes
@needs_browser
def test_a_talk_by_keys_alone(tmp_path):
    asked: list = []
    found = visit(app(asked), "chat_page.mjs", tmp_path)
    seen = found["seen"]
    assert (found["requests"], found["violations"], max(found["overflows"])) == ([], [], 0)
    assert {line.partition("status of ")[2][:3] for line in found["complaints"]} == {
        "401",
        "400",
    }  # as the browser logs them
    assert seen["locked"] == "Nobody to ask: this server asks for a key."
    assert (seen["unlocked"], seen["kept"]) == ([False, False], [0, "", False])
    assert [card["name"] for card in seen["bird"]] == list(DIGESTS)
    assert [card["digest"] for card in seen["bird"]] == [digest[:16] for digest in DIGESTS.values()]
    assert [card["text"] for card in seen["bird"]] == ["A bird is an animal.", "A crow.", "A crow."]
    assert [card["note"].partition("; ")[2] for card in seen["bird"]] == ["", "", "the same text as first"]
    assert seen["tip"] == ['"A"', "25.0 %", '" crow"', "5.0 %"]
    assert (seen["moved"], seen["described"], seen["hovered"]) == (" is", "tip", '" crow"')
    assert (seen["end"], seen["hidden"]) == ("the answer ends", True)
    assert [(card["thought"], card["text"]) for card in seen["think"]] == [("Thought, 3 words", "4")] * 3
    assert (seen["markup"][0]["text"], seen["markup_elements"], seen["title"]) == (FORGED, 0, "Chat")
    assert seen["snow"][0]["text"] == "☃ falls"
    assert seen["empty"][0]["note"].startswith("empty answer, 1 token in ")
    assert seen["broken"][0]["note"] == "No whole answer: the server failed; its log says why."
    assert seen["full"][0]["note"].startswith("No whole answer: the prompt has 600 tokens")
    assert (seen["status"], seen["slow"], seen["focus"]) == (
        "Waiting for base, first, loud", ["stopped"] * 3, "question"
    )  # fmt: skip
    assert not seen["open"]
    assert seen["chosen"] == ["m0", "m1"]  # of a hundred: the base and one adapter, until others are chosen
    assert seen["filtered"] == ["m9", *(f"m9{digit}" for digit in range(10))]
    by_question = {(body["model"], body["messages"][-1]["content"]): body for body in asked}
    lines = by_question["first", "two\nlines"]
    assert [turn["content"] for turn in lines["messages"]] == ["bird", "A crow.", "two\nlines"]
    assert (lines["temperature"], lines["max_tokens"], lines["stream"]) == (0, 256, True)
    last = by_question["first", "last"]
    assert [turn["content"] for turn in last["messages"]] == ["Be brief.", "last"]
    assert (last["temperature"], last["max_tokens"]) == (0.7, 5)
    assert ("loud", "last") not in by_question and ("base", "last") in by_question
