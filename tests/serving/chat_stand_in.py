"""What /v1/models and /v1/chat/completions say to the page, without a model; as a stream of OpenAI's form."""

import asyncio
import json
import math

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse

DIGESTS = {"base": "b" * 64, "first": "f" * 64, "loud": "c" * 64}
FORGED = "<img src=x onerror=\"document.title='forged'\"><b>bold</b>"
ANSWERS = {  # to each question, by model: tokens
    "bird": {"base": ["A", " bird", " is", " an", " animal", "."], "first": ["A", " crow", "."], "loud": ["A", " crow", "."]},
    "think": {"*": ["<think>", "\n", "two", " and", " two", "\n", "</think>", "\n\n", "4"]},
    "markup": {"*": [FORGED[:9], FORGED[9:]]},
    "snow": {"*": [" ", "\ufffd", "\ufffd", " falls"]},
    "slow": {"*": ["tick "] * 2000},
    "empty": {"*": []},
}  # fmt: skip
SNOW = ["", "", "☃", " falls"]  # what may be sent of the tokens: never half of a character


def chat_routes(asked: list) -> APIRouter:
    """The routes; `asked` gets each request."""
    router = APIRouter()

    @router.get("/v1/models")
    def models() -> dict:
        data = [
            {"id": name, "object": "model", "parent": None if name == "base" else "base", "digest": digest}
            for name, digest in DIGESTS.items()
        ]
        return {"object": "list", "data": data}

    @router.post("/v1/chat/completions")
    async def chat(request: Request):
        body = await request.json()
        asked.append(body)
        question = body["messages"][-1]["content"]
        if question == "full":
            raise HTTPException(400, "the prompt has 600 tokens and the model's context only 512")
        by_model = ANSWERS.get(question, {"*": ["Yes", "."]})
        tokens = by_model.get(body["model"], by_model.get("*", []))
        return StreamingResponse(stream(body["model"], question, tokens), media_type="text/event-stream")

    async def stream(model: str, question: str, tokens: list[str]):
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        head["system_fingerprint"] = DIGESTS[model][:16]

        def chunk(delta: dict, logprobs, reason=None) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
            return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

        yield chunk({"role": "assistant", "content": ""}, None)
        for place, token in enumerate([*tokens, "<|im_end|>"]):
            share = 0.9 if place % 2 else 0.25
            top = [{"token": token, "logprob": math.log(share)}, {"token": " crow", "logprob": math.log(0.05)}]
            logprobs = {"content": [{"token": token, "logprob": math.log(share), "top_logprobs": top}]}
            text = (SNOW[place] if question == "snow" and place < 4 else token) if place < len(tokens) else ""
            yield chunk({"content": text} if text else {}, logprobs, "stop" if place == len(tokens) else None)
            await asyncio.sleep(0.01 if question == "slow" else 0)
            if question == "broken" and place == 0:
                yield f"data: {json.dumps({'error': {'message': 'the server failed; its log says why'}})}\n\n"
                return
        yield "data: [DONE]\n\n"

    return router
