"""`--help` fits a screen, shows true defaults, and imports nothing heavy."""

import dataclasses
import shlex
import subprocess
import sys

import pytest

from ftkit.cli import COMMANDS, WITH_ACTIONS, dispatch
from ftkit.commands.adapters.adapters import ACTIONS as ADAPTER_ACTIONS
from ftkit.commands.data.data import ACTIONS as DATA_ACTIONS
from ftkit.config.errors import UserError
from ftkit.config.flags import UNKNOWN, flag_name, is_flag, read_settings
from ftkit.config.help_pages import RULES, SHOWN, fixed_default
from ftkit.config.settings.needs import plain
from ftkit.runs.recipes import TRAINERS, load_recipe
from ftkit.training.decided import Decided

PAGES = [
    *([name] for name in COMMANDS),
    *(["data", action] for action in DATA_ACTIONS),
    *(["adapters", action] for action in ADAPTER_ACTIONS),
    ["classify", "--predict", "FILE"],
    ["reward", "--predict", "FILE"],
]
GIVEN = {
    "sft": [],
    "dpo": [],
    "kto": [],
    "reward": [],
    "grpo": ["--rewards", "json"],
    "ppo": ["--rewards", "json"],
    "distill": ["--teacher", "t"],
    "classify": [],
    "embed": [],
    "pretrain": ["--tokenizer", "t"],
}


def page(*argv: str, capsys) -> str:
    """What a command line with --help prints."""
    with pytest.raises(SystemExit) as end:
        dispatch(list(argv))
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_help_fits_a_screen_and_holds_examples(words, capsys):
    lines = page(*words, "--help", capsys=capsys).splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith(f"usage: ftkit {words[0]}")
    assert max(map(len, lines)) <= 120
    examples = [line for line in lines[1:] if line.strip().startswith(f"ftkit {words[0]} ")]
    assert examples, "write commands to paste into the module's text, and give the parser examples=__doc__"


def test_help_of_every_command_imports_no_library():
    code = (
        "import sys\nfrom ftkit.cli import dispatch\n"
        f"for words in {PAGES!r}:\n"
        "    try: dispatch([*words, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'numpy'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TRAINERS)
def test_every_fixed_default_that_help_shows_is_the_runs(name):
    settings = read_settings(load_recipe(name).flags)
    argv = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "out", *GIVEN[name]]
    asked = load_recipe(name).parse(argv)
    run = asked.training.configured({"bf16": False, "use_cpu": True})
    parts = {item.name: part for part in (asked.data, asked.model, run) for item in dataclasses.fields(part)}
    shown = {name: setting for name, setting in settings.items() if fixed_default(setting) is not None}
    assert len(shown) > 40
    for name, setting in shown.items():
        value = plain(getattr(parts[name], name))
        value = "none" if value == [] else value  # of --report_to
        unpacked = setting.default[0] if isinstance(setting.default, list) else setting.default  # as TRL does
        assert value in (setting.default, unpacked), name


@pytest.mark.parametrize("name", TRAINERS)
def test_what_is_decided_is_shown_as_its_rule(name):
    settings = read_settings(load_recipe(name).flags)
    fixed = {"max_steps", "load_best_model_at_end", "metric_for_best_model", "greater_is_better", "lr_scheduler_type"}
    decided = {item.name for item in dataclasses.fields(Decided)} & set(settings)
    assert decided - fixed <= set(RULES)
    assert {one.name for one in settings.values() if one.default is UNKNOWN} <= {*RULES, "output_dir"}


@pytest.mark.parametrize("name", TRAINERS)
def test_help_all_shows_every_setting(name, capsys):
    printed = page(name, "--help", "all", capsys=capsys)
    missing = [setting for setting in read_settings(load_recipe(name).flags) if f"  --{setting}" not in printed]
    assert not missing


@pytest.mark.parametrize(
    ("word", "shown", "hidden"),
    [
        ("lr", "--learning_rate", "--lora_r "),
        ("checkpoint", "--save_steps", "--lora_r "),
        ("lora", "--lora_target_modules", "--seed"),
        ("batch-size", "--per_device_train_batch_size", "--seed"),
    ],
)
def test_help_of_a_word_shows_the_settings_about_it(word, shown, hidden, capsys):
    printed = page("sft", "--help", word, capsys=capsys)
    assert shown in printed and hidden not in printed


def test_help_beside_other_flags_is_the_page(capsys):
    shown = page("sft", "--help", "--model", "M", capsys=capsys)
    assert shown == page("sft", "--model", "M", "--help", capsys=capsys) == page("sft", "--help", capsys=capsys)


def test_help_of_a_word_that_nothing_is_about_is_refused():
    with pytest.raises(UserError, match='no setting of ftkit sft is about "zebra"'):
        dispatch(["sft", "--help", "zebra"])
    with pytest.raises(UserError, match='no flag of ftkit bench is about "zebra"'):
        dispatch(["bench", "--help", "zebra"])


def test_help_of_a_word_for_other_commands(capsys):
    printed = page("generate", "--help", "output", capsys=capsys)
    assert "--output_file" in printed and "--top_k" not in printed


@pytest.mark.parametrize("words", [["sft"], ["data", "check"], ["bench"]], ids=" ".join)
def test_help_as_a_command_is_the_same(words, capsys):
    assert page("help", *words, capsys=capsys) == page(*words, "--help", capsys=capsys)


def test_switches_that_help_turns_off_do_not_carry_the_text_of_turning_on(capsys):
    printed = page("sft", "--help", "all", capsys=capsys)
    assert "--no_use_peft" not in printed  # off already
    assert "--packing, --no_packing" in printed  # one entry, one text


def test_every_shown_setting_is_some_trainers():
    known = set().union(*(read_settings(load_recipe(name).flags) for name in TRAINERS))
    later = {"columns"}
    assert {name for rows in SHOWN.values() for name, _, _ in rows} - later <= known


@pytest.mark.parametrize("name", TRAINERS)
def test_the_examples_of_a_page_have_flags_that_the_command_has(name, capsys):
    lines = page(name, "--help", capsys=capsys).splitlines()
    examples = [shlex.split(line) for line in lines if line.startswith(("  ftkit", "  accelerate"))]
    assert len(examples) == 3
    for words in examples:
        if "--predict" not in words:
            settings = read_settings(load_recipe(name).flags)
            assert all(flag_name(word, settings) for word in words if is_flag(word) and word != "--config")


def test_commands_with_actions_are_listed():
    assert {"data", "adapters"} == set(WITH_ACTIONS)
