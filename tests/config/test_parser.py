"""Flags override YAML; every mistake is one line with its place."""

import pytest

from ftkit.config.errors import UserError
from ftkit.config.flags import read_settings
from ftkit.config.parser import CommandParser, run, split_config
from ftkit.config.yaml_file import read_yaml_record
from ftkit.sft import RECIPE

REQUIRED = ["--model_name_or_path", "m", "--dataset_name", "d", "--output_dir", "out"]


def parse(argv):
    return RECIPE.parse(argv)


@pytest.mark.parametrize("form", [["--config", "FILE"], ["--config=FILE"]])
def test_a_flag_overrides_yaml_and_yaml_the_default(tmp_path, form):
    config = tmp_path / "c.yaml"
    config.write_text("learning_rate: 1e-3\nlora_r: 4\nuse_peft: true\n")
    argv = [part.replace("FILE", str(config)) for part in form]
    data, model, training, given, *_ = parse([*argv, *REQUIRED, "--lora_r", "8"])
    assert (training.learning_rate, model.lora_r, model.use_peft) == (1e-3, 8, True)
    assert {"learning_rate", "lora_r", "use_peft", "output_dir"} <= given
    assert "lora_alpha" not in given


def test_unknown_yaml_key_names_file_and_line(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("lora_r: 4\n\nlearnin_rate: 1\n")
    with pytest.raises(UserError, match=r'c\.yaml:3: unknown setting "learnin_rate"; did you mean learning_rate'):
        parse(["--config", str(config), *REQUIRED])


def test_repeated_yaml_key_is_refused(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("lora_r: 4\nlora_r: 8\n")
    with pytest.raises(UserError, match=r'c\.yaml:2: "lora_r" is set twice'):
        parse(["--config", str(config), *REQUIRED])


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [1\n", "not valid YAML"), ("- a\n", "expected `key: value`"), ("", "expected `key: value`")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, message):
    config = tmp_path / "c.yaml"
    config.write_text(content)
    with pytest.raises(UserError, match=message):
        parse(["--config", str(config), *REQUIRED])


def test_a_missing_config_file_is_one_line():
    with pytest.raises(UserError, match="nosuch.yaml: cannot be read"):
        parse(["--config", "nosuch.yaml", *REQUIRED])


def test_config_without_a_file_is_refused():
    with pytest.raises(UserError, match="--config needs a file"):
        split_config(["--config", "--lora_r"])


def test_a_value_of_the_wrong_type_names_the_flag():
    with pytest.raises(UserError, match="--max_length"):
        parse([*REQUIRED, "--max_length", "many"])


@pytest.mark.parametrize(
    ("argv", "value"), [(["--packing"], True), (["--packing", "false"], False), (["--no_packing"], False), ([], None)]
)
def test_undecided_booleans_take_a_bare_flag_a_value_or_no(argv, value):
    assert parse([*REQUIRED, *argv])[2].packing is value


def test_resume_takes_no_value_or_a_path():
    assert parse([*REQUIRED, "--resume_from_checkpoint"])[2].resume_from_checkpoint == "true"
    assert parse([*REQUIRED, "--resume_from_checkpoint", "x"])[2].resume_from_checkpoint == "x"


def test_run_gives_2_and_one_line_for_a_users_mistake(capsys):
    def command(argv):
        raise UserError("a.jsonl:3: reason; fix")

    assert run(command, []) == 2
    assert capsys.readouterr().err == "a.jsonl:3: reason; fix\n"


def test_run_lets_our_own_mistakes_through():
    def command(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(command, [])


def test_command_parser_refuses_unknown_flags_with_the_nearest():
    parser = CommandParser(prog="ftkit chat")
    parser.add_argument("--temperature", type=float)
    with pytest.raises(UserError, match="unknown argument --temperatur; did you mean --temperature"):
        parser.parse_args(["--temperatur", "1"])
    with pytest.raises(UserError, match="invalid float value"):
        parser.parse_args(["--temperature", "hot"])


def test_help_shows_only_defaults_that_say_something():
    parser = CommandParser(prog="ftkit x")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--output_dir", help="folder")
    parser.add_argument("--quick", action="store_true", help="less")
    text = " ".join(parser.format_help().split())
    assert "seed of the draw (default: 0)" in text
    assert text.count("(default:") == 1


def test_the_machine_of_a_first_versions_run_is_not_asked_for(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("# ftkit sft --config x\nuse_cpu: true\nmax_steps: 3\n")
    settings = read_settings(RECIPE.flags)
    assert read_yaml_record(str(path), settings).asked == {"max_steps": 3}
    path.write_text("use_cpu: true\n")  # a person's own file
    assert read_yaml_record(str(path), settings).asked == {"use_cpu": True}


@pytest.mark.parametrize("defined", ["--model", "--model_name_or_path"])
@pytest.mark.parametrize(
    "typed", [["--model", "M"], ["--model_name_or_path", "M"], ["--model=M"], ["--model-name-or-path", "M"]]
)
def test_the_models_flag_has_two_names_in_every_command(defined, typed):
    parser = CommandParser(prog="ftkit x")
    parser.add_argument(defined, help="the model")
    parser.add_argument("--output_dir")
    assert vars(parser.parse_args([*typed, "--output-dir", "o"])) == {defined[2:]: "M", "output_dir": "o"}
    assert "--model, --model_name_or_path M" in parser.format_help()


@pytest.mark.parametrize("typed", [["M"], ["--model", "M"], ["--model=M"], ["--model_name_or_path", "M"]])
def test_a_model_with_a_place_of_its_own_takes_the_flag_too(typed):
    parser = CommandParser(prog="ftkit x")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--format")
    assert vars(parser.parse_args(["--format", "f", *typed])) == {"model": "M", "format": "f"}


def test_a_trainers_model_is_recorded_under_its_own_name():
    argv = ["--model", "M", "--dataset_name", "d", "--output_dir", "out"]
    assert parse(argv).asked()["model_name_or_path"] == "M"
