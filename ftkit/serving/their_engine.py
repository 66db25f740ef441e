"""The command that serves one model by transformers' own server and its continuous batching.

os.execv(*command(...)) where paged attention and CUDA graphs are worth more than adapters, keys and forms of answers.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.paste import command as shown
from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.loading import load_config, local_model_folder
from ftkit.serving.local_names import is_loopback


def serving_command(
    model: str | None, adapters: Mapping[str, str], *, host: str, port: int, dtype: str | None, trust_remote_code: bool
) -> list[str]:
    """The words of the command. Raises UserError for what that server lacks: adapters, keys, ftkit's own class."""
    if adapters:
        name, path = next(iter(adapters.items()))
        merge = shown("adapters", "merge", "--adapter", path, "--output_dir", f"{path}-merged")
        raise UserError(f"--adapter {name}: transformers' engine has no adapters; merge it: {merge}")
    if not is_loopback(host):
        raise UserError(f"--host {host}: transformers' server asks nobody for a key; leave --host out")
    if model is None:
        raise UserError("name the model: --model_name_or_path M")
    folder = local_model_folder(model)
    if isinstance(load_config(folder, trust_remote_code=trust_remote_code), FTGPTConfig):
        raise UserError(f"{model}: is of ftkit's own class, which transformers' server does not load; ftkit export it")
    Path(hub_cache()).mkdir(parents=True, exist_ok=True)  # without it, its /v1/models is an error
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder, "--continuous-batching"]
    words += ["--host", host, "--port", str(port), *(["--dtype", dtype] if dtype else [])]
    return [*words, *(["--trust-remote-code"] if trust_remote_code else [])]


def hub_cache() -> str:
    """Where huggingface_hub keeps what it downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return HF_HUB_CACHE
