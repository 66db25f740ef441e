"""The launch configurations in examples/accelerate mean to accelerate what their comments say."""

import os
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin, prepare_multi_gpu_env
from transformers import AutoModelForCausalLM

from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.modeling_ftgpt import FTGPTForCausalLM

FOLDER = Path(__file__).resolve().parents[1] / "examples/accelerate"


def launch_arguments(name: str):
    """What `accelerate launch --config_file FILE ftkit/sft.py` makes of the file."""
    arguments = launch_command_parser().parse_args(["--config_file", str(FOLDER / name), "ftkit/sft.py"])
    return _validate_launch_command(arguments)[0]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_reads_every_configuration(path):
    config = load_config_from_file(str(path))
    assert config.num_processes == (1 if path.stem == "one_gpu" else 2) and not config.use_cpu


@pytest.mark.parametrize(
    ("name", "multi_gpu", "fsdp"),
    [
        ("one_gpu.yaml", False, False),
        ("ddp.yaml", True, False),
        ("fsdp2.yaml", False, True),
    ],
)
def test_each_configuration_starts_its_strategy(name, multi_gpu, fsdp):
    arguments = launch_arguments(name)
    assert (arguments.multi_gpu, arguments.use_fsdp, arguments.use_deepspeed) == (multi_gpu, fsdp, False)
    assert len(list(FOLDER.glob("*.yaml"))) == 3


@pytest.mark.parametrize("kind", ["llama", "ftgpt"])
def test_fsdp2_wraps_the_decoder_layers_of_any_model(kind, tiny_folder, monkeypatch):
    for name, value in prepare_multi_gpu_env(launch_arguments("fsdp2.yaml")).items():
        if name not in os.environ:
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    if kind == "llama":
        model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    else:
        model = FTGPTForCausalLM(FTGPTConfig.llama(vocab_size=300, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2))  # fmt: skip
    plugin.set_auto_wrap_policy(model)
    (wrapped,) = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert wrapped is type(model.get_decoder().layers[0])
