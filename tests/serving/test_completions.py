"""`/v1/completions`: texts continued, in OpenAI's older form."""

import json

import pytest
import torch

PATH = "/v1/completions"
PROMPTS = ["A bird is", "Naïve café owners"]


def complete(client, prompt="A bird is", status=200, **fields) -> dict:
    """What comes of a greedy request of eight tokens, with these fields changed."""
    body = {"model": "base", "prompt": prompt, "temperature": 0, "max_tokens": 8, "ignore_eos": True, **fields}
    response = client.post(PATH, json=body)
    assert response.status_code == status, response.text
    return response.json()


def texts(client, *args, **fields) -> list[str]:
    return [one["text"] for one in complete(client, *args, **fields)["choices"]]


def streamed(client, *args, **fields) -> list[dict]:
    """The choices of a stream's chunks."""
    body = {"model": "base", "prompt": args[0], "temperature": 0, "max_tokens": 8, "ignore_eos": True, "stream": True}
    events = client.post(PATH, json=body | fields).text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event[6:])["choices"][0] for event in events[:-2]]


def test_a_prompt_is_a_text_token_ids_or_an_array_of_either(plain_client, plain_batcher):
    with plain_batcher.registry.pinned("base") as version:
        ids = [version.voice.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    expected = texts(plain_client, PROMPTS)
    assert [texts(plain_client, prompt)[0] for prompt in PROMPTS] == expected and all(expected)
    assert texts(plain_client, ids) == expected and texts(plain_client, ids[1]) == expected[1:]


def test_answers_come_prompt_by_prompt_with_their_own_tokens(plain_client):
    found = complete(plain_client, PROMPTS, n=2, return_token_ids=True)
    prompts = [one["prompt_token_ids"] for one in found["choices"]]
    assert prompts[0] == prompts[1] != prompts[2] == prompts[3]
    assert [one["index"] for one in found["choices"]] == [0, 1, 2, 3]
    assert all(len(one["token_ids"]) == 8 for one in found["choices"])
    assert found["usage"]["prompt_tokens"] == len(prompts[0]) + len(prompts[2])
    assert found["usage"]["completion_tokens"] == 32 and found["object"] == "text_completion"


def test_an_echoed_prompt_has_the_models_log_probabilities(plain_client, plain_batcher):
    """As lm-eval scores answers by a server."""
    (choice,) = complete(plain_client, PROMPTS[1], echo=True, logprobs=2, max_tokens=1, return_token_ids=True)[
        "choices"
    ]
    ids, found = choice["prompt_token_ids"], choice["logprobs"]
    with torch.no_grad():
        expected = torch.log_softmax(plain_batcher.model(torch.tensor([ids])).logits[0, :-1], -1)
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    rows = zip(ids[1:], expected, found["token_logprobs"][1:-1], found["top_logprobs"][1:-1], strict=True)
    for token, row, value, top in rows:
        assert value == pytest.approx(float(row[token]), abs=1e-4)
        assert sorted(top.values())[-2:] == pytest.approx(sorted(row.topk(2).values.tolist()), abs=1e-4)
        assert value in top.values()
    assert choice["text"].startswith(PROMPTS[1]) and len(found["tokens"]) == len(ids) + 1


def test_offsets_are_where_tokens_begin_in_the_text(plain_client):
    (choice,) = complete(plain_client, PROMPTS[1], echo=True, logprobs=0)["choices"]
    found = choice["logprobs"]
    ends = [*found["text_offset"][1:], len(choice["text"])]
    parts = [choice["text"][start:end] for start, end in zip(found["text_offset"], ends, strict=True)]
    assert [part for part, token in zip(parts, found["tokens"], strict=True) if "bytes:" not in token] == [
        token for token in found["tokens"] if "bytes:" not in token
    ]
    assert any("bytes:" in token for token in found["tokens"])  # an accent that is two tokens


@pytest.mark.parametrize(
    "fields", [{}, {"echo": True}, {"echo": True, "logprobs": 1}, {"logprobs": 1}, {"return_token_ids": True}]
)
def test_a_stream_is_the_whole_answer_in_parts(plain_client, fields):
    (whole,), parts = complete(plain_client, **fields)["choices"], streamed(plain_client, "A bird is", **fields)
    assert "".join(part["text"] for part in parts) == whole["text"]
    assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["length"]
    if "logprobs" in fields:
        for name, values in whole["logprobs"].items():
            assert [value for part in parts if part["logprobs"] for value in part["logprobs"][name]] == values
    if "return_token_ids" in fields:
        assert parts[0]["prompt_token_ids"] == whole["prompt_token_ids"]
        assert [token for part in parts for token in part.get("token_ids", ())] == whole["token_ids"]


def test_sixteen_tokens_come_where_no_number_is_given(plain_client):
    assert complete(plain_client, max_tokens=None)["usage"]["completion_tokens"] == 16


def test_an_answer_can_have_a_form_and_a_stop(plain_client):
    (found,) = complete(plain_client, structured_outputs={"choice": ["crow", "eel"]}, ignore_eos=False)["choices"]
    assert found["text"] in ("crow", "eel") and found["finish_reason"] == "stop"
    (whole,) = texts(plain_client)
    assert texts(plain_client, stop=whole[3:6]) == [whole[: whole.index(whole[3:6])]]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""}, {"prompt": []}, {"prompt": [10**9]}, {"prompt": [-1]}, {"prompt": None}, {"prompt": [["a"]]},
        {"prompt": [[]]}, {"best_of": 3}, {"suffix": "."}, {"logprobs": 21}, {"logprobs": -1}, {"max_tokens": 0},
        {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"prompt": ["a"] * 100, "n": 100},
        {"prompt": "bird " * 4000},
    ],
    ids=str,
)  # fmt: skip
def test_what_can_not_be_honoured_is_refused(plain_client, fields):
    error = complete(plain_client, **({"prompt": "A"} | fields), status=400)["error"]
    assert error["type"] == "invalid_request_error" and error["message"]
