"""`ftkit serve`: what its flags may be; the server itself is tested in tests/serving."""

import subprocess
import sys

import pytest

from ftkit.commands.serve import LIMITS, main, serve_parser
from ftkit.config.errors import UserError
from ftkit.inference.batching.request import Limits

REFUSED = [
    (["--port", "65536"], "--port is 65536; give a number from 0 to 65535"),
    (["--num_slots", "0"], "--num_slots is 0; give at least 1"),
    (["--max_waiting", "-1"], "--max_waiting is -1; give at least 0"),
    (["--max_length", "1"], "--max_length is 1; give at least 2"),
    (["--prefix_gib", "nan"], "--prefix_gib is nan; give 0 or more GiB"),
    (["--adapter_gib", "-1"], "--adapter_gib is -1.0; give 0 or more GiB"),
    (["--max_seconds", "0"], "--max_seconds is 0.0; give a number of seconds above 0"),
    (["--host", "0.0.0.0"], "give --api_key"),
    (["--api_key", "a", "--admin_key", "a"], "--admin_key is the same as --api_key"),
    (["--registry", "nowhere", "--admin_key", "a"], "--registry nowhere: no such folder"),
    (["--registry", "."], "--registry .: nobody may load from it; give --admin_key too"),
    (["--adapter", "base=x"], '"base" is the model without adapters'),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_what_no_server_can_do_is_refused_before_anything_is_loaded(flags, message, monkeypatch):
    for name in ("FTKIT_API_KEY", "FTKIT_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as caught:
        main(["--model_name_or_path", "base", *flags])
    assert message in str(caught.value)


def test_a_model_must_be_named():
    with pytest.raises(UserError, match="name a model"):
        main([])


def test_limits_are_those_of_the_engine_where_no_flag_is_given():
    args = serve_parser().parse_args(["--model_name_or_path", "base"])
    assert Limits(**{name: getattr(args, name) for name in LIMITS}) == Limits()


def test_help_and_refusals_import_no_torch():
    code = "import sys; from ftkit.commands.serve import serve_parser; serve_parser(); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
