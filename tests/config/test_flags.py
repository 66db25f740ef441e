"""Flags are known without importing TRL, and exactly the ones the dataclasses define."""

import dataclasses
import subprocess
import sys

import pytest

from ftkit.config.errors import UserError
from ftkit.config.flags import flag_name, read_settings
from ftkit.sft import RECIPE


def test_flag_names_equal_the_fields_of_the_imported_dataclasses():
    from ftkit.config.settings.sft import SETTINGS

    fields = {item.name for cls in SETTINGS for item in dataclasses.fields(cls)}
    names = set(read_settings(RECIPE.flags))
    assert fields <= names
    assert {name for name in names - fields if not name.startswith("_")} == set()


def test_a_mistyped_flag_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match="unknown flag --learnin_rate; did you mean --learning_rate"):
        flag_name("--learnin_rate", read_settings(RECIPE.flags))


def test_abbreviations_are_refused():
    with pytest.raises(UserError, match="unknown flag"):
        flag_name("--learning_r", read_settings(RECIPE.flags))


def test_dashes_equals_signs_and_no_prefix_name_the_setting():
    names = {"use_peft", "packing", "max_length"}
    flags = ("--use-peft", "--max_length=3", "--no_packing", "--help")
    assert [flag_name(flag, names) for flag in flags] == ["use_peft", "max_length", "packing", "help"]


@pytest.mark.parametrize("arguments", [["--help"], ["sft", "--learnin_rate", "3"], ["nosuch"]])
def test_help_and_mistakes_need_no_torch(arguments):
    code = (
        "import sys; from ftkit.cli import dispatch; from ftkit.config.parser import run; "
        f"code = run(dispatch, {arguments!r}); "
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules), 'imported'; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr
    assert "Traceback" not in done.stderr
