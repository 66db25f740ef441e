"""A typo of a bundled name and a Hub out of reach are answered at once, without a library's retries."""

import socket

import pytest

from ftkit.config.errors import UserError
from ftkit.config.hub_access import UNREACHABLE, go_offline_where_unreachable, refuse_typo, takes_connections
from ftkit.config.parser import run


@pytest.fixture
def online(monkeypatch):
    """As if nobody had asked for offline mode, with a Hub on a port that nobody listens on."""
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["instuctions", "spamm", "corpuss"])
def test_a_typo_of_a_bundled_data_set_asks_no_hub(name, online, capsys):
    from ftkit.commands.data.data import main

    assert run(main, ["check", name]) == 2
    printed = capsys.readouterr().err
    assert f'bundled dataset is called "{name}"; did you mean' in printed and printed.count("\n") == 1


@pytest.mark.parametrize("name", ["smollm", "smolm2", "smollm-2", "bas"])
def test_a_typo_of_a_bundled_model_asks_no_hub(name, online):
    from ftkit.model.loading import local_model_folder

    with pytest.raises(UserError, match=f'bundled model is called "{name}"; did you mean "(smollm2|base)"'):
        local_model_folder(name)


@pytest.mark.parametrize("name", ["gpt2", "distilgpt2", "bert-base-uncased", "imdb", "squad"])
def test_names_of_the_hub_are_no_typos(name):
    refuse_typo(name, ("base", "smollm2", "spam", "corpus", "reasoning"), "model")


def test_a_hub_that_cannot_be_reached_is_one_line_without_retries(online, capfd):
    from ftkit.model.loading import local_model_folder

    with pytest.raises(UserError, match="not found on the Hub .the Hub can't be reached from here"):
        local_model_folder("someone/something")
    assert "Retry" not in capfd.readouterr().err
    assert go_offline_where_unreachable() == UNREACHABLE


def test_a_server_that_listens_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert takes_connections(f"http://127.0.0.1:{server.getsockname()[1]}")
