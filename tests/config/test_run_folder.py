"""run.yaml comes back as it was written."""

import json

import pytest

from ftkit.config.errors import UserError
from ftkit.config.files import write_json
from ftkit.config.run_folder import RunRecord, read_record, read_run_yaml, write_run_yaml


def test_run_yaml_round_trips(tmp_path):
    asked = {"learning_rate": 2e-4, "use_peft": True, "template": "alpaca", "lora_target_modules": ["q_proj"]}
    decided = {
        "learning_rate": 2e-4,
        "dtype": "bfloat16",
        "save_total_limit": None,
        "reasons": {"dtype": "bf16 is fast"},
    }
    write_run_yaml(str(tmp_path), RunRecord("sft", asked, decided, {"device": "cpu"}))
    record = read_record(tmp_path)
    assert (record.command, record.asked, record.decided, record.is_edited) == ("sft", asked, decided, False)
    assert read_run_yaml(tmp_path) == asked | {"dtype": "bfloat16"}
    assert (tmp_path / "run.yaml").read_text().startswith("# ftkit sft --config ")
    assert read_run_yaml(tmp_path / "none") == {} and read_record(tmp_path / "none") is None


@pytest.mark.parametrize("sign", "\n\r\f\x85\u2028\u2029", ids=lambda sign: f"U+{ord(sign):04X}")
def test_a_text_in_run_yaml_may_hold_every_line_end(tmp_path, sign):
    asked = {"document_separator": f"é{sign}x", "dataset_name": sign}
    write_run_yaml(str(tmp_path), RunRecord("pretrain", asked, {}))
    assert read_record(tmp_path).asked == asked


def test_a_run_yaml_that_somebody_changed_is_known(tmp_path):
    write_run_yaml(str(tmp_path), RunRecord("sft", {"lora_r": 4}, {"dtype": "float32"}))
    path = tmp_path / "run.yaml"
    path.write_text(path.read_text().replace("lora_r: 4", "lora_r: 8"))
    assert read_record(tmp_path).is_edited


def test_the_flat_file_of_the_first_version_is_read(tmp_path):
    (tmp_path / "run.yaml").write_text("# ftkit sft --config x\nlora_r: 4\n")
    assert read_run_yaml(tmp_path) == {"lora_r": 4} and read_record(tmp_path).decided == {}


def test_a_later_schema_is_refused_by_name(tmp_path):
    (tmp_path / "run.yaml").write_text("schema: 3\nasked: {}\n")
    with pytest.raises(UserError, match="run.yaml:1: schema 3 is not known; this ftkit reads 2 and 1"):
        read_record(tmp_path)


@pytest.mark.parametrize("content", [b"asked: [", b"asked:\n  name: f\xfcr\n", b"- a\n"])
def test_a_damaged_run_yaml_is_one_line_wherever_it_is_read(tmp_path, content):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(UserError, match="run.yaml: not settings as a run writes them .*; restore it or delete it"):
        read_run_yaml(tmp_path)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]
