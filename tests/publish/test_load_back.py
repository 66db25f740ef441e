"""What was pushed is loaded by those who have only its name: by the load-back check, and without ftkit, trl or peft."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from hub_stand_in import READ_TOKEN, WRITE_TOKEN

from ftkit.config.errors import UserError
from ftkit.publish.hub import load_back
from ftkit.publish.hub.hub import push_folder

REPO = "owner/name"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")

STRANGER = """
import sys
for name in ("ftkit", "trl", "peft", "datasets", "accelerate", "bitsandbytes"):
    sys.modules[name] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
name, out, trust = sys.argv[1], sys.argv[2], {"trust_remote_code": True} if sys.argv[3] == "trust" else {}
tokenizer = AutoTokenizer.from_pretrained(name, **trust)
ids = tokenizer.apply_chat_template([{"role": "user", "content": "balm"}], add_generation_prompt=True, return_tensors="pt")
model = AutoModelForCausalLM.from_pretrained(name, **trust)
with torch.no_grad():
    torch.save({"ids": ids["input_ids"], "logits": model(**ids).logits}, out)
"""


def run_as_a_stranger(hub, tmp_path, trust: str) -> dict:
    """Load REPO by its name in a process that has no ftkit, trl or peft; return the ids and logits of a prompt."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "stranger"),
        "HF_TOKEN": READ_TOKEN,
    }  # fmt: skip
    command = [sys.executable, "-c", STRANGER, REPO, str(tmp_path / "seen.pt"), trust]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Do you wish to run" not in done.stdout
    return torch.load(tmp_path / "seen.pt", weights_only=True)


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["plain", pytest.param("ftgpt", marks=pytest.mark.slow)])
def test_a_stranger_with_torch_and_transformers_gets_the_same_logits(hub, pushed_folder, kind, tmp_path):
    from ftkit.model.loading import load_model
    from ftkit.model.weights.conversion import import_weights

    if kind == "ftgpt":
        import_weights(pushed_folder, tmp_path / "ftgpt")
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(pushed_folder / name, tmp_path / "ftgpt" / name)
        pushed_folder = tmp_path / "ftgpt"
    push_folder(pushed_folder, REPO, private=True, check=False)
    seen = run_as_a_stranger(hub, tmp_path, "trust" if kind == "ftgpt" else "plain")
    with torch.no_grad():
        expected = load_model(pushed_folder)(seen["ids"]).logits
    assert (seen["logits"] - expected).abs().max() <= 1e-6


@pytest.mark.processes
def test_the_load_back_check_finds_equal_files_and_logits(hub, pushed_folder):
    result = push_folder(pushed_folder, REPO)
    assert "loaded back in a fresh process without ftkit: 7 files equal by SHA-256, logits equal on" in result.check
    assert result.check.startswith(f"owner/name at {result.commit[:8]}") and result.check in result.report()


@pytest.mark.slow
def test_the_load_back_check_puts_an_adapter_on_its_base(hub, adapter_folder):
    assert "7 files equal by SHA-256, logits equal on" in push_folder(adapter_folder, REPO).check


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "embed_tokens"]], ids=["resized", "embedding"])
def test_an_adapter_of_a_padded_vocabulary_loads_on_its_plain_base(tiny_folder, tmp_path, targets):
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ftkit.model.adapters.embeddings import stored_vocabulary
    from ftkit.publish.hub.fresh_process import logits_of

    torch.manual_seed(1)
    trained = AutoModelForCausalLM.from_pretrained(tiny_folder)
    trained.resize_token_embeddings(320, mean_resizing=False)
    config = LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=targets, init_lora_weights=False)
    trained = get_peft_model(trained, config).eval()
    trained.save_pretrained(tmp_path / "a")
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "a")
    job = {"kind": "adapter", "base": str(tiny_folder), "vocabulary": stored_vocabulary(tmp_path / "a")}
    ids, found = logits_of(job | {"runs_code": False, "classifier": False, "num_labels": None}, tmp_path / "a", {})
    with torch.no_grad():
        assert torch.equal(found, trained(torch.tensor([ids])).logits[0]) and found.shape[-1] == 320


def test_what_cannot_be_run_here_is_compared_by_its_files(hub, adapter_folder, tmp_path):
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "model.gguf").write_bytes(b"GGUF")
    assert push_folder(exported, REPO).check.endswith("2 files equal by SHA-256; a .gguf file is not run here")
    adapter = shutil.copytree(adapter_folder, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/gone/base"}))
    assert push_folder(adapter, REPO).check.endswith("files equal by SHA-256; its base is not here, so it was not run")


@pytest.mark.parametrize("spoilt", ["model.safetensors", "tokenizer.json"])
def test_the_load_back_check_finds_a_commit_that_is_not_what_was_sent(hub, pushed_folder, spoilt):
    def spoil(method, path):
        if "/commit/" in path:
            repository = hub.repositories[REPO]
            content = repository.commits[repository.branches["main"]]
            content[spoilt] = content[spoilt][:-1] + bytes([content[spoilt][-1] ^ 1])

    hub.after_request = spoil
    with pytest.raises(UserError, match=f"1 files are not what was sent, such as {spoilt}; push again") as error:
        push_folder(pushed_folder, REPO)
    assert "\n" not in str(error.value) and WRITE_TOKEN not in str(error.value)


def test_a_fresh_process_that_hangs_is_ended(monkeypatch):
    job = {"repo_id": REPO, "commit": "0123456789"}
    monkeypatch.setattr(load_back.Path, "read_text", lambda *args, **kwargs: "import time; time.sleep(60)")
    with pytest.raises(
        UserError, match="at 01234567: was pushed but was not loaded in a fresh process within 1 seconds"
    ):
        load_back.run_fresh(job, None, timeout_seconds=1)


def test_a_commit_that_does_not_load_is_one_line(hub, pushed_folder):
    hub.fail = lambda method, path: 403 if "/resolve/" in path else None
    with pytest.raises(UserError, match="was pushed but does not load in a fresh process: ") as error:
        push_folder(pushed_folder, REPO)
    assert "\n" not in str(error.value) and WRITE_TOKEN not in str(error.value)


@pytest.mark.parametrize("auto_map", [{"AutoConfig": "other/repo--own.Own"}, {"AutoModel": "other/repo--own.Own"}])
def test_code_of_others_is_not_run_to_load_a_push_back(hub, pushed_folder, auto_map):
    path = pushed_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map, "model_type": "own"}))
    assert push_folder(pushed_folder, REPO).check.endswith("it needs code that is not ftkit's, so it was not run")
    assert not load_back.has_own_code(pushed_folder)
