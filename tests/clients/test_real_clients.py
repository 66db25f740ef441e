"""What people really ask a server with: openai 2 and 3, LangChain and LiteLLM, each in an environment of its own.

python tests/clients/make.py FOLDER
FTKIT_CLIENTS=FOLDER pytest -n 0 -m slow tests/clients
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
from clients_drivers import DRIVERS
from clients_make import python_of
from clients_servers import ftkit_serve, transformers_serve

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
KEY, ADMIN_KEY = "a-key", "another-key"
SLOTS, WAITING = 2, 2
# What transformers serve 5.23 does instead, with one client or all.
THEIR_LACKS = {
    "completion": "refuses fields that LangChain always sends",
    "stream_completion": "the same",
    "developer_is_system": "500 where the template does not know the role",
    "stop": "leaves the stop text in the answer",
    "seed": "ignores temperature and seed unless the model's own settings draw",
    "n": "ignored",
    "logprobs": "ignored",
    "logprobs_of_a_stream": "ignored",
    "logprobs_of_a_completion": "ignored, or refused",
    "logit_bias": "500",
    "unknown_field": "422",
    "json_schema": "ignored",
    "pydantic_class": "ignored",
    "tool_call": "tool_choice is ignored",
    "answer_to_a_tool": "500 where the template does not know the role",
    "models": "lists the Hub's cache, not what it serves",
    "unknown_model": "400",
    "refused_value": "ignored",
    "prompt_too_long": "answers beyond the model's context",
    "wrong_key": "asks for none",
    "full_queue": "takes any number",
    "token_ids": "422",
}
SHARED = {"chat", "usage", "greedy_twice", "max_completion_tokens", "stream", "stream_usage", "conversation", "text_parts",
          "several_at_once", "fields_without_effect"}  # fmt: skip


def outcomes(client: str, url: str, *flags: str) -> dict[str, dict]:
    """The outcome of each check of a client, by its name."""
    folder = os.environ.get("FTKIT_CLIENTS")
    python = python_of(Path(folder or "."), DRIVERS[client][0])
    if not folder or not python.exists():
        pytest.skip(f"needs {DRIVERS[client][0]}: python tests/clients/make.py FOLDER, and FTKIT_CLIENTS=FOLDER")
    command = [str(python), str(HERE / "checks.py"), client, f"{url}/v1", *flags]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{") :])
    print(found["client"])
    for one in found["results"]:
        print(f"  {one['check']:30} {one['outcome']:12} {one['detail']}")
    return {one["check"]: one for one in found["results"]}


def failed(found: dict[str, dict]) -> dict[str, str]:
    """The reason of each check that failed."""
    return {name: one["detail"] for name, one in found.items() if one["outcome"] == "failed"}


@pytest.fixture(scope="module")
def server(base_adapters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    flags = [
        "--model",
        "base",
        "--template",
        str(HERE / "alpaca_with_tools.jinja"),
        "--dtype",
        "float32",
        "--api_key",
        KEY,
    ]
    flags += ["--adapter", f"first={base_adapters['first']}", "--num_slots", str(SLOTS), "--max_waiting", str(WAITING)]
    with ftkit_serve(folder / "log", *flags, FTKIT_CACHE=str(folder / "cache")) as (url, _):
        yield url


@pytest.mark.parametrize("client", DRIVERS)
def test_a_client_gets_all_it_asks_for(client, server):
    flags = ["--model", "base", "--adapter", "first", "--key", KEY, "--slots", str(SLOTS + WAITING)]
    found = outcomes(client, server, *flags)
    assert not failed(found)
    assert len([one for one in found.values() if one["outcome"] == "passed"]) > 25


@pytest.fixture(scope="module")
def their_server(tmp_path_factory):
    """(address, model) of transformers serve with the bundled base as a Llama; it has no adapters."""
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer, local_model_folder
    from ftkit.model.weights.conversion import export_weights

    folder = tmp_path_factory.mktemp("transformers")
    model = export_weights(local_model_folder("base"), folder / "model", "llama")  # it takes no class but its own
    tokenizer = load_tokenizer(str(model))
    install_template(tokenizer, "alpaca")
    tokenizer.save_pretrained(model)
    with transformers_serve(str(model), folder / "home") as url:
        yield url, str(model)


@pytest.mark.parametrize("client", DRIVERS)
def test_what_transformers_serve_lacks_is_known(client, their_server):
    url, model = their_server
    found = outcomes(client, url, "--model", model)
    assert not failed(found).keys() - THEIR_LACKS.keys()
    assert all(found[name]["outcome"] == "passed" for name in SHARED)
