"""`/v1/chat/completions` as the official client reads it, over the bundled base."""

import threading

import pytest

from ftkit.inference.asking import ModelSettings, Sampling
from ftkit.inference.batching.batcher import Batcher
from ftkit.inference.engine import Engine
from ftkit.serving.api import serving_app
from ftkit.serving.app import address_of, listen

QUESTION = [{"role": "user", "content": "Name a bird that can fly."}]
SETTINGS = ModelSettings("base", template="alpaca", dtype="float32")


@pytest.fixture(scope="module")
def client():
    import uvicorn
    from openai import OpenAI

    batcher = Batcher.load(SETTINGS)
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(serving_app(batcher, "127.0.0.1"), log_level="warning"))
        server.install_signal_handlers = lambda: None
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield OpenAI(base_url=f"{address_of(listener)}/v1", api_key="none", max_retries=0)
        server.should_exit = True
        thread.join()
    batcher.close()


def test_an_answer_is_that_of_generate_whole_and_streamed(client):
    expected = Engine.load(SETTINGS).answers([QUESTION], Sampling(20))[0]
    whole = client.chat.completions.create(model="base", messages=QUESTION, temperature=0, max_tokens=20)
    assert whole.choices[0].message.content == expected and whole.choices[0].finish_reason == "stop"
    chunks = list(
        client.chat.completions.create(
            model="base", messages=QUESTION, temperature=0, max_completion_tokens=20, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-2:] == [None, "stop"]
