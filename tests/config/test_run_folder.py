"""A used folder is never overwritten, and run.yaml comes back as it was written."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.config.run_folder import check_output_dir, read_run_yaml, write_run_yaml


def test_a_new_or_empty_folder_is_free(tmp_path):
    check_output_dir(str(tmp_path / "new"), resume=False)
    check_output_dir(str(tmp_path), resume=False)


def test_a_used_folder_is_refused_with_both_ways_out(tmp_path):
    (tmp_path / "run.yaml").write_text("")
    with pytest.raises(
        UserError, match="already holds files; continue that run with --resume_from_checkpoint, or choose"
    ):
        check_output_dir(str(tmp_path), resume=False)
    check_output_dir(str(tmp_path), resume=True)


def test_a_file_or_nothing_to_resume_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_output_dir(str(tmp_path / "file"), resume=False)
    with pytest.raises(UserError, match="holds no run to resume"):
        check_output_dir(str(tmp_path / "new"), resume=True)


def test_run_yaml_round_trips(tmp_path):
    settings = {"learning_rate": 2e-4, "use_peft": True, "template": "alpaca", "lora_target_modules": ["q_proj"]}
    write_run_yaml(str(tmp_path), "sft", settings)
    assert read_run_yaml(str(tmp_path)) == settings
    assert (tmp_path / "run.yaml").read_text().startswith("# ftkit sft --config ")
    assert read_run_yaml(str(tmp_path / "none")) == {}


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]
