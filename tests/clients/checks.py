"""What every client must be able to do with a server; run in the client's own environment, prints JSON.

    ENVIRONMENT/bin/python tests/clients/checks.py openai-3 http://127.0.0.1:8000/v1 --model base --adapter a --key k

Models are small and untrained here: what is checked is the form of an answer and what must be true of any, not its
sense. Without --adapter the server has none.
"""

import argparse
import http.client
import json
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from counting import Counting  # noqa: E402
from drivers import DRIVERS, NotOffered  # noqa: E402

LONG = "Read what follows, and then say in a few words what it is about. " * 3  # answered at length by the bundled base
QUESTION = [{"role": "user", "content": LONG}]
GREEDY = {"temperature": 0, "max_tokens": 12}
DRAWN = {"temperature": 1.5, "max_tokens": 24}
ENDS = ("stop", "length")
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "sings": {"type": "boolean"}},
    "required": ["colour", "sings"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "count_birds",
        "description": "How many birds of a colour there are.",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
            "required": ["colour"],
            "additionalProperties": False,
        },
    },
}


@dataclass
class World:
    """A client before a server. slots: answers that the server writes or keeps waiting before it refuses more."""

    driver: object
    proxy: Counting
    model: str
    adapter: str | None
    slots: int
    key: str
    make: object

    def requests(self) -> list[tuple[str, int]]:
        """(path, status) of what was asked since the check began."""
        return list(self.proxy.asked)

    def refused(self, call) -> Exception:
        """The error that a call ends with; it must have a status."""
        try:
            call()
        except Exception as error:
            if getattr(error, "status_code", None) is None:
                raise
            return error
        raise AssertionError("was not refused")


def check_chat(world):
    reply = world.driver.chat(world.model, QUESTION, **GREEDY)
    assert reply.text and reply.finish_reason in ENDS, reply
    assert world.requests() == [("/v1/chat/completions", 200)]


def check_usage(world):
    prompt, completion, total = world.driver.chat(world.model, QUESTION, **GREEDY).usage
    assert prompt > 3 and 1 <= completion <= 12 and total == prompt + completion


def check_greedy_twice(world):
    one, other = (world.driver.chat(world.model, QUESTION, **GREEDY) for _ in range(2))
    assert one == other


def check_max_completion_tokens(world):
    reply = world.driver.chat(world.model, QUESTION, temperature=0, max_completion_tokens=3)
    assert reply.finish_reason == "length" and reply.usage[1] == 3, reply


def check_stream(world):
    whole = world.driver.chat(world.model, QUESTION, **GREEDY)
    found = world.driver.stream(world.model, QUESTION, **GREEDY)
    assert found.text.strip() == whole.text.strip() and found.finish_reason == whole.finish_reason, (found, whole)
    assert len([reason for reason in found.finish_reasons if reason]) == 1, found.finish_reasons
    assert len(found.finish_reasons) > 2, "it came in one piece"


def check_stream_usage(world):
    whole = world.driver.chat(world.model, QUESTION, **GREEDY)
    found = world.driver.stream(world.model, QUESTION, stream_options={"include_usage": True}, **GREEDY)
    assert found.usage == whole.usage, (found.usage, whole.usage)


def check_completion(world):
    reply = world.driver.complete(world.model, "A bird is", **GREEDY)
    assert reply.text and reply.finish_reason in ENDS and reply.usage[1] <= 12, reply


def check_stream_completion(world):
    whole = world.driver.complete(world.model, "A bird is", **GREEDY)
    assert world.driver.stream_completion(world.model, "A bird is", **GREEDY).text == whole.text


def check_conversation(world):
    talk = [{"role": "system", "content": "Be brief."}, *QUESTION, {"role": "assistant", "content": "A crow."}]
    reply = world.driver.chat(world.model, [*talk, {"role": "user", "content": "Another one."}], **GREEDY)
    assert reply.finish_reason in ENDS and reply.usage[0] > 20


def check_text_parts(world):
    parts = [{"role": "user", "content": [{"type": "text", "text": LONG}]}]
    assert (
        world.driver.chat(world.model, parts, **GREEDY).text == world.driver.chat(world.model, QUESTION, **GREEDY).text
    )


def check_developer_is_system(world):
    replies = [
        world.driver.chat(world.model, [{"role": role, "content": "Be brief."}, *QUESTION], **GREEDY)
        for role in ("developer", "system")
    ]
    assert replies[0] == replies[1]


def check_stop(world):
    whole = world.driver.chat(world.model, QUESTION, **GREEDY).text
    end = whole[len(whole) // 2 :][:3]
    reply = world.driver.chat(world.model, QUESTION, stop=[end], **GREEDY)
    assert end not in reply.text and whole.startswith(reply.text) and reply.finish_reason == "stop", (reply, end)
    assert world.driver.stream(world.model, QUESTION, stop=[end], **GREEDY).text.strip() == reply.text.strip()


def check_seed(world):
    texts = [world.driver.chat(world.model, QUESTION, seed=seed, **DRAWN).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2], texts


def check_n(world):
    reply = world.driver.chat(world.model, QUESTION, n=3, seed=1, **DRAWN)
    assert len(reply.texts) == 3 and len(set(reply.texts)) > 1 and all(reply.finish_reasons), reply


def check_several_at_once(world):
    alone = world.driver.chat(world.model, QUESTION, **GREEDY)
    replies = world.driver.many(world.model, [QUESTION] * 3, **GREEDY)
    assert [one.text for one in replies] == [alone.text] * 3


def check_logprobs(world):
    reply = world.driver.chat(world.model, QUESTION, logprobs=True, top_logprobs=2, **GREEDY)
    assert "".join(token for token, *_ in reply.logprobs).strip().startswith(reply.text.strip()[:5]), reply
    assert all(value <= 0 and num == 2 for _, value, num in reply.logprobs)
    assert len(reply.logprobs) == reply.usage[1]


def check_logprobs_of_a_stream(world):
    whole = world.driver.chat(world.model, QUESTION, logprobs=True, **GREEDY)
    found = world.driver.stream(world.model, QUESTION, logprobs=True, **GREEDY)
    assert found.finish_reason == whole.finish_reason  # lost by others where both are asked for
    assert found.logprobs and [token for token, *_ in found.logprobs] == [token for token, *_ in whole.logprobs]


def check_logprobs_of_a_completion(world):
    reply = world.driver.complete(world.model, "A bird is", logprobs=2, **GREEDY)
    assert len(reply.logprobs) == reply.usage[1] and all(value <= 0 and num >= 2 for _, value, num in reply.logprobs)


def check_logit_bias(world):
    reply = world.driver.chat(world.model, QUESTION, logit_bias={"100": 100}, **GREEDY)
    assert len(set(reply.text.split())) <= 2, reply  # the same token again and again


def check_penalties(world):
    plain = world.driver.chat(world.model, QUESTION, temperature=0, max_tokens=40)
    found = world.driver.chat(
        world.model, QUESTION, temperature=0, max_tokens=40, frequency_penalty=2, presence_penalty=2
    )
    assert found.text != plain.text and found.finish_reason in ENDS


def check_fields_without_effect(world):
    fields = {"user": "ann", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}
    plain = world.driver.chat(world.model, QUESTION, **GREEDY)
    assert world.driver.chat(world.model, QUESTION, **fields, **GREEDY).text == plain.text


def check_unknown_field(world):
    reply = world.driver.chat(world.model, QUESTION, extra_body={"not_known_to_anyone": 1}, **GREEDY)
    assert reply.text == world.driver.chat(world.model, QUESTION, **GREEDY).text


def check_json_schema(world):
    wanted = {"type": "json_schema", "json_schema": {"name": "bird", "schema": SCHEMA, "strict": True}}
    found = json.loads(
        world.driver.chat(world.model, QUESTION, response_format=wanted, temperature=0, max_tokens=64).text
    )
    assert set(found) == {"colour", "sings"} and found["colour"] in ("red", "blue"), found


def check_pydantic_class(world):
    from typing import Literal

    from pydantic import BaseModel

    class Bird(BaseModel):
        colour: Literal["red", "blue"]
        sings: bool

    assert isinstance(world.driver.structured(world.model, QUESTION, Bird), Bird)


def check_tool_call(world):
    asked = {"tools": [TOOL], "tool_choice": "required", "temperature": 0, "max_tokens": 64}
    reply = world.driver.chat(world.model, QUESTION, **asked)
    ((name, arguments),) = reply.tool_calls
    assert name == "count_birds" and json.loads(arguments)["colour"] in ("red", "blue"), reply
    assert reply.finish_reason == "tool_calls"
    found = world.driver.stream(world.model, QUESTION, **asked)
    assert found.tool_calls[0][0] == name and json.loads(found.tool_calls[0][1]) == json.loads(arguments)
    assert found.finish_reason == "tool_calls"


def check_answer_to_a_tool(world):
    call = {"id": "call_1", "type": "function", "function": {"name": "count_birds", "arguments": '{"colour": "red"}'}}
    talk = [
        *QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
    ]  # fmt: skip
    assert world.driver.chat(world.model, talk, tools=[TOOL], **GREEDY).finish_reason in (*ENDS, "tool_calls")


def check_models(world):
    found = world.driver.models()
    assert world.model in found and world.driver.model(world.model) == world.model
    if world.adapter:
        assert found[world.adapter] == world.model, found
    error = world.refused(lambda: world.driver.model("nobody"))
    assert error.status_code == 404 and is_a(error, "NotFoundError")


def check_adapter(world):
    if world.adapter is None:
        raise NotOffered("adapters")
    plain, own = (world.driver.chat(name, QUESTION, **GREEDY) for name in (world.model, world.adapter))
    assert plain.text != own.text and own.model in ("", world.adapter, f"openai/{world.adapter}"), own


def check_unknown_model(world):
    error = world.refused(lambda: world.driver.chat("nobody", QUESTION, **GREEDY))
    assert error.status_code == 404 and is_a(error, "NotFoundError") and "nobody" in str(error), error
    assert world.requests() == [("/v1/chat/completions", 404)]  # asked once


def check_refused_value(world):
    error = world.refused(lambda: world.driver.chat(world.model, QUESTION, temperature=-1, max_tokens=4))
    assert error.status_code == 400 and is_a(error, "BadRequestError") and "temperature" in str(error), error
    assert [status for _, status in world.requests()] == [400]


def check_prompt_too_long(world):
    long = [{"role": "user", "content": "bird " * 20_000}]
    error = world.refused(lambda: world.driver.chat(world.model, long, **GREEDY))
    assert error.status_code == 400 and len(world.requests()) == 1, error


def check_wrong_key(world):
    other = world.make(world.proxy.url, "wrong")
    error = world.refused(lambda: other.chat(world.model, QUESTION, **GREEDY))
    assert error.status_code == 401 and is_a(error, "AuthenticationError"), error
    assert [status for _, status in world.requests()] == [401]


def check_full_queue(world):
    """A client is refused while the server is full, and comes back by itself when there is room."""
    patient, hasty = (world.make(world.proxy.url, world.key, retries=num) for num in (8, 0))
    address = urlsplit(world.proxy.url)
    body = {"model": world.model, "messages": QUESTION, "max_tokens": 450, "ignore_eos": True, "stream": True}
    headers = {"content-type": "application/json", "authorization": f"Bearer {world.key}"}
    busy = []
    for _ in range(world.slots):
        connection = http.client.HTTPConnection(address.hostname, address.port)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        busy.append(connection)
    time.sleep(0.5)
    world.proxy.asked.clear()
    error = world.refused(lambda: hasty.chat(world.model, QUESTION, **GREEDY))
    assert error.status_code == 429 and is_a(error, "RateLimitError"), error
    assert world.requests() == [("/v1/chat/completions", 429)]
    threading.Timer(0.3, lambda: [connection.close() for connection in busy]).start()
    if not getattr(patient, "comes_back", True):
        time.sleep(2)
    assert patient.chat(world.model, QUESTION, **GREEDY).finish_reason in ENDS
    assert [status for _, status in world.requests()][-1] == 200


def check_token_ids(world):
    extra = {"extra_body": {"return_token_ids": True}}
    reply = world.driver.chat(world.model, QUESTION, **extra, **GREEDY)
    if reply.ids is None:
        raise NotOffered("what is beyond OpenAI's own fields")
    assert (len(reply.prompt_ids), len(reply.ids)) == reply.usage[:2]
    again = world.driver.complete(world.model, reply.prompt_ids, **extra, **GREEDY)
    shared = min(len(again.ids), len(reply.ids)) - 1
    assert shared > 0 and again.ids[:shared] == reply.ids[:shared] and again.prompt_ids == reply.prompt_ids


def is_a(error: Exception, name: str) -> bool:
    """Whether an error is of a class that its client documents under this name."""
    return name in [kind.__name__ for kind in type(error).__mro__]


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


def run(world: World, name: str) -> dict:
    """The outcome of one check."""
    world.proxy.asked.clear()
    try:
        CHECKS[name](world)
    except NotOffered as error:
        return {"check": name, "outcome": "not offered", "detail": str(error)}
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"[:1500]
        place = traceback.extract_tb(error.__traceback__)
        line = next((one.lineno for one in reversed(place) if one.filename == __file__), 0)
        return {"check": name, "outcome": "failed", "detail": f"checks.py:{line}: {detail}"}
    return {"check": name, "outcome": "passed", "detail": ""}


def main() -> None:
    """Run the checks that were asked for, all without --only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", choices=DRIVERS)
    parser.add_argument("url", help="up to and with /v1")
    parser.add_argument("--model", default="base")
    parser.add_argument("--adapter")
    parser.add_argument("--key", default="none")
    parser.add_argument("--slots", type=int, default=4, help="requests before the server answers 429")
    parser.add_argument("--only", nargs="*", choices=CHECKS)
    args = parser.parse_args()
    proxy, make = Counting(args.url), DRIVERS[args.client][1]
    world = World(make(proxy.url, args.key), proxy, args.model, args.adapter, args.slots, args.key, make)
    results = [run(world, name) for name in args.only or CHECKS]
    json.dump({"client": world.driver.title, "results": results}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
