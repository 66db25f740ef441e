"""What a launcher (torchrun, accelerate, mpirun) asked for, and whether it came; only here are its variables read."""

import os
from collections.abc import Mapping

from ftkit.config.errors import UserError

# torchrun and accelerate, Intel MPI and MPICH, Open MPI, MVAPICH; in the order that accelerate looks
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
LOCAL_RANKS = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
NO_DEEPSPEED = (
    "is not supported; FSDP2 splits weights too: accelerate launch --config_file examples/accelerate/fsdp2.yaml"
)


def check_world(environ: Mapping[str, str] = os.environ, *, use_cpu: bool = False) -> None:
    """Raise UserError when several processes or sharded weights were asked for and would not come.

    On a CPU, `accelerate launch --num_processes 2` starts one process, which sees MASTER_ADDR but no WORLD_SIZE
    (accelerate 1.15), and FSDP becomes plain data parallelism. DeepSpeed is refused everywhere: nothing tests it.
    """
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environ
    if by_accelerate and "MASTER_ADDR" in environ and not any(name in environ for name in WORLD_SIZES):
        raise UserError(
            "several processes were asked for and accelerate started one; on a CPU launch with "
            "torchrun --nproc_per_node N or accelerate launch --multi_gpu --num_processes N "
            "(for one process: --num_processes 1, and no MASTER_ADDR in the environment)"
        )
    if world_size(environ) > 1 and "MASTER_ADDR" not in environ:
        raise UserError(
            "several processes were started and don't know where to meet; set MASTER_ADDR to the machine of the first, "
            "such as mpirun -x MASTER_ADDR=127.0.0.1 for one machine"
        )
    if asks("ACCELERATE_USE_DEEPSPEED", environ):
        raise UserError(f"DeepSpeed {NO_DEEPSPEED}")
    if sharding(environ) and (use_cpu or not has_accelerator()):
        raise UserError(
            "FSDP was asked for on a CPU: every process would hold the whole model; "
            "launch with examples/accelerate/ddp.yaml or torchrun --nproc_per_node N"
        )


def has_accelerator() -> bool:
    """Whether torch sees a device other than the CPU."""
    import torch

    return torch.accelerator.is_available()


def world_size(environ: Mapping[str, str] = os.environ) -> int:
    """Number of processes in this run."""
    return _first_of(WORLD_SIZES, environ, 1)


def rank(environ: Mapping[str, str] = os.environ) -> int:
    """Number of this process among all of the run, from 0."""
    return _first_of(RANKS, environ, 0)


def local_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Number of this process among those of this machine, from 0."""
    return _first_of(LOCAL_RANKS, environ, 0)


def local_world_size(environ: Mapping[str, str] = os.environ) -> int:
    """Number of processes on this machine."""
    return _first_of(LOCAL_SIZES, environ, 1)


def _first_of(names: tuple[str, ...], environ: Mapping[str, str], default: int) -> int:
    """The first variable that holds a number from 0: torch takes -1 for no launcher."""
    numbers = (int(environ[name]) for name in names if name in environ)
    return next((number for number in numbers if number >= 0), default)


def is_first_process(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one that writes, of all that a launcher started."""
    return rank(environ) == 0


def without_launcher(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a process that belongs to no run of several."""
    own = {*RANKS, *WORLD_SIZES, *LOCAL_RANKS, *LOCAL_SIZES, "MASTER_ADDR", "MASTER_PORT"}
    return {name: value for name, value in environ.items() if name not in own}


def is_lone_child_of_accelerate(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether `accelerate launch` started this process, and no other beside it by way of torchrun."""
    return "ACCELERATE_MIXED_PRECISION" in environ and "TORCHELASTIC_RUN_ID" not in environ


def sharding(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether accelerate was asked to split the weights, by FSDP."""
    return asks("ACCELERATE_USE_FSDP", environ)


def asks(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a variable of accelerate is on."""
    return environ.get(name, "false").lower() in ("1", "true")


def threads_are_chosen(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the person set OMP_NUM_THREADS: torchrun and accelerate set it to 1 for the processes they start.

    The launcher is the parent process, so what the person chose is in its environment.
    """
    if "OMP_NUM_THREADS" not in environ:
        return False
    if "TORCHELASTIC_RUN_ID" not in environ and "ACCELERATE_MIXED_PRECISION" not in environ:
        return True
    import psutil

    try:
        return "OMP_NUM_THREADS" in psutil.Process(os.getppid()).environ()
    except (psutil.Error, OSError):
        return True
