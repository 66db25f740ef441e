"""One model handed to transformers' own server; what that server lacks is refused by name."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from ftkit.commands.serve import main
from ftkit.config.errors import UserError

FLAGS = ["--backend", "transformers"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            ["--adapter", "a=runs/a"],
            "--adapter a: transformers' engine has no adapters; merge it: ftkit adapters merge",
        ),
        ([], "name the model: --model_name_or_path M"),
        (["--model", "base"], "base: is of ftkit's own class, which transformers' server does not load; ftkit export"),
        (["--model", "base", "--host", "0.0.0.0"], "--host 0.0.0.0: transformers' server asks nobody for a key"),
        (["--model", "base", "--num_slots", "2"], "--num_slots has no effect with --backend transformers"),
        (["--model", "base", "--api_key", "k"], "--api_key has no effect with --backend transformers"),
    ],
)
def test_what_that_server_lacks_is_refused_by_name(flags, reason):
    with pytest.raises(UserError, match=reason):
        main([*FLAGS, *flags])


def test_the_command_is_shown_and_takes_this_process(tiny_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    run = []
    monkeypatch.setattr(os, "execv", lambda path, words: run.append((path, words)))
    main([*FLAGS, "--model", str(tiny_folder), "--dtype", "float32", "--port", "8123"])
    (path, words), *_ = run
    assert path == sys.executable and words[3:] == [
        "serve", str(tiny_folder), "--continuous-batching", "--host", "127.0.0.1", "--port", "8123", "--dtype", "float32",
    ]  # fmt: skip
    assert "serve" in capsys.readouterr().out and (tmp_path / "hub").is_dir()


@pytest.mark.slow
def test_it_answers_by_continuous_batching(tmp_path):
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer, local_model_folder
    from ftkit.model.weights.conversion import export_weights

    folder = export_weights(local_model_folder("base"), tmp_path / "model", "llama")
    tokenizer = load_tokenizer(str(folder))
    install_template(tokenizer, "alpaca")
    tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "ftkit",
        "serve",
        *FLAGS,
        "--model",
        str(folder),
        "--dtype",
        "float32",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(words, env=os.environ | {"HF_HOME": str(tmp_path / "home")}, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert server.poll() is None
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
                body = {
                    "model": str(folder),
                    "messages": [{"role": "user", "content": "Name a bird."}],
                    "max_tokens": 8,
                }
                connection.request(
                    "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
                )
                answer = connection.getresponse()
                assert answer.status == 200 and json.loads(answer.read())["choices"][0]["message"]["content"]
                return
            time.sleep(1)
        raise AssertionError("no answer")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
