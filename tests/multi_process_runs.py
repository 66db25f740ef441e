"""Several command lines of ftkit's trainers, one after the other in the same processes: imports are paid once.

    torchrun --nproc_per_node 2 tests/multi_process_runs.py JOBS.json [FSDP2.yaml]

JOBS.json is a list of {"command": "sft", "argv": [...]}; {"copy": [FROM, TO]} copies a folder in between; with "recorded"
the answers that are trained on depend on the prompt alone, and not on which process samples. With an
accelerate configuration for FSDP2 the CPU passes for an accelerator, so that accelerate shards over it as over GPUs.
"""

import contextlib
import importlib
import json
import os
import random
import shutil
import sys
from pathlib import Path

import torch


def main(path: str, fsdp_config: str | None = None) -> None:
    if fsdp_config:
        shard_on_cpus(fsdp_config)
    close = torch.distributed.destroy_process_group
    torch.distributed.destroy_process_group = lambda *_: None  # each run closes it; gloo opens once only
    for job in json.loads(Path(path).read_text()):
        if "copy" in job:
            if os.environ["RANK"] == "0":
                shutil.copytree(*job["copy"])
            torch.distributed.barrier()
        else:
            with recorded_answers() if job.get("recorded") else contextlib.nullcontext():
                importlib.import_module(f"ftkit.{job['command']}").main(job["argv"])
    close()


@contextlib.contextmanager
def recorded_answers():
    """Inside, a prompt is answered with tokens drawn by its own and the sampling's seed, the same in any process."""
    from ftkit.inference.sampling import Sample
    from ftkit.training.sampled import SampledMixin

    def answers(self, prompts, num_samples, seed):
        found = []
        for ids in prompts:
            drawn = random.Random(seed + sum(ids))
            lengths = [drawn.randint(2, self.max_completion_length) for _ in range(num_samples)]
            own = [[drawn.randrange(20, 200) for _ in range(length - 1)] + self.eos_token_ids[:1] for length in lengths]
            found.append([Sample(ids, "", [0.0] * len(ids), True) for ids in own])
        return found

    def trained(self, inputs):
        output = generate(self, inputs)
        self.check.sampled_at = None  # recorded answers have no log-probabilities
        return output

    sample, generate = SampledMixin.sample_ids, SampledMixin._generate_and_score_completions
    SampledMixin.sample_ids, SampledMixin._generate_and_score_completions = answers, trained
    try:
        yield
    finally:
        SampledMixin.sample_ids, SampledMixin._generate_and_score_completions = sample, generate


def shard_on_cpus(config: str) -> None:
    """Make accelerate, which turns FSDP off on CPUs, keep it; `config` says how it shards."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, prepare_multi_gpu_env

    from ftkit.config import launch

    arguments = launch_command_parser().parse_args(["--config_file", config, "ftkit/sft.py"])
    environ = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    os.environ.update({name: value for name, value in environ.items() if name.startswith(("ACCELERATE_", "FSDP_"))})
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    partial_init, init = PartialState.__init__, AcceleratorState.__init__
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    PartialState.__init__ = lambda self, cpu=False, **_: partial_init(self)
    AcceleratorState.__init__ = lambda self, mixed_precision=None, cpu=False, **rest: init(
        self, mixed_precision, **rest
    )
    launch.check_world = lambda **_: None  # it refuses FSDP on CPUs


if __name__ == "__main__":
    main(*sys.argv[1:])
