"""What people really ask a server with: openai 2 and 3, LangChain and LiteLLM, each in an environment of its own.

python tests/clients/make.py FOLDER
FTKIT_CLIENTS=FOLDER pytest -n 0 -m slow tests/clients
"""

import json
import os
import shutil
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
# What transformers serve 5.23 does instead, by check. Those of "many" are refused as unexpected or unused fields.
THEIR_LACKS = {
    "stream": "one piece holds many tokens",
}


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
    flags = ["--model", "base", "--template", "alpaca", "--dtype", "float32", "--api_key", KEY]
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
    """(address, model) of transformers serve with the bundled base; it has no adapters."""
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer, local_model_folder

    folder = tmp_path_factory.mktemp("transformers")
    model = shutil.copytree(local_model_folder("base"), folder / "model")
    tokenizer = load_tokenizer(str(model))
    install_template(tokenizer, "alpaca")
    tokenizer.save_pretrained(model)
    with transformers_serve(str(model), folder / "home") as url:
        yield url, str(model)


@pytest.mark.parametrize("client", DRIVERS)
def test_what_transformers_serve_lacks_is_known(client, their_server):
    url, model = their_server
    found = outcomes(client, url, "--model", model)
    wrong = failed(found)
    assert not wrong.keys() - THEIR_LACKS.keys()
