"""A stand-in of the Hub that the real client talks to, and folders to push.

Tests may import `hub_stand_in`, `go_template`, `llama_cpp` and `random_models`.
"""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.utils import _http

for name in ("hub_stand_in", "go_template", "llama_cpp", "random_models"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
hub_stand_in = sys.modules["hub_stand_in"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in that huggingface_hub takes for the Hub, with a token that may write; retries don't wait."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setenv("HF_TOKEN", hub_stand_in.WRITE_TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with hub_stand_in.HubStandIn() as server:
        address = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        yield server
    huggingface_hub.utils.close_session()


@pytest.fixture(scope="session")
def chat_folder(tiny_folder, tmp_path_factory):
    """The tiny model with a chat template."""
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer

    folder = tmp_path_factory.mktemp("push") / "my-model"
    shutil.copytree(tiny_folder, folder)
    tokenizer = load_tokenizer(folder)
    install_template(tokenizer, "chatml")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def pushed_folder(chat_folder, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(chat_folder, tmp_path / "my-model"))


@pytest.fixture(scope="session")
def adapter_folder(chat_folder, tmp_path_factory):
    """A LoRA adapter that changes something, with its tokenizer and the record of its base."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ftkit.model.adapters.files import record_base

    target = tmp_path_factory.mktemp("push") / "my-adapter"
    model = AutoModelForCausalLM.from_pretrained(chat_folder)
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(target)
    AutoTokenizer.from_pretrained(chat_folder).save_pretrained(target)
    record_base(target, chat_folder, str(chat_folder))
    return target
