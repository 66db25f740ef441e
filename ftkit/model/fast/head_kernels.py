"""Which kernel scores the LM head: ours (ftkit.model.fast.chunked_log_probs) or TRL's fused head, by timing on a GPU.

Liger's fused linear cross-entropy is no candidate: it gives a loss alone, and every TRL trainer asks at least the
entropy of each token beside it. The choice was tried with injected timers only, not yet on a GPU.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import torch

from ftkit.model.fast.chunked_log_probs import HeadSettings, LinearHead, chunked_log_probs

# N rows, D hidden, V vocabulary

logger = logging.getLogger(__name__)

KERNELS = ("compact", "trl")
VARIABLE = "FTKIT_LOSS_HEAD"  # names the kernel, so that a run repeats
NUM_ROWS = 512  # timed; enough to fill a GPU, small beside the weight
TRITON_DEVICES = ("cuda", "xpu")  # elsewhere TRL's head scores ignored positions too
TRLS_TILE = 32768  # columns of the vocabulary; as in trl.trainer.utils


class HeadShape(NamedTuple):
    """What the speed of a head depends on; `uniform_rows` and `outputs` as in HeadSettings."""

    device: torch.device
    hidden_size: int
    vocab_size: int
    dtype: torch.dtype
    trained: bool
    uniform_rows: bool
    outputs: tuple[str, ...] = ("log_probs", "entropy")

    @property
    def num_bytes(self) -> int:
        """Memory that timing takes: the weight, its gradient in float32 and as returned, some tiles."""
        weight = self.hidden_size * self.vocab_size * (self.dtype.itemsize + 8 * self.trained)
        return weight + 8 * NUM_ROWS * min(self.vocab_size, TRLS_TILE)


def settle_kernel(kernel: str, trainer, environ: Mapping[str, str] = os.environ) -> str:
    """Return `kernel`; for "auto" the one FTKIT_LOSS_HEAD names, else the faster one, without Triton "compact".

    The first process measures for all. Raises ValueError for an unknown name.
    """
    accelerator = trainer.accelerator
    kernel = environ.get(VARIABLE, "auto") if kernel == "auto" else kernel
    if kernel not in ("auto", *KERNELS):
        raise ValueError(f'unknown loss head kernel "{kernel}"; allowed: auto, {", ".join(KERNELS)}')
    if kernel != "auto":
        return kernel
    if accelerator.device.type not in TRITON_DEVICES:
        return "compact"
    weight = trainer.model.get_output_embeddings().weight
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, weight.dtype)
    uniform_rows = weighs_rows_alike(trainer)
    shape = HeadShape(accelerator.device, *reversed(weight.shape), dtype, weight.requires_grad, uniform_rows)
    choice = [fastest_kernel(shape) if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        torch.distributed.broadcast_object_list(choice)
    return choice[0]


def weighs_rows_alike(trainer) -> bool:
    """Whether the trainer's loss is a mean over tokens: SFT's; its dft and the losses of the others are not."""
    return getattr(trainer.args, "loss_type", None) == "nll"


@lru_cache
def fastest_kernel(shape: HeadShape, seconds: Callable | None = None, free_bytes: Callable | None = None) -> str:
    """Time each kernel on synthetic rows, once for each shape, and log the choice; TRL's, untimed, if memory is short.

    seconds(kernel, shape) times one forward and backward; free_bytes() is the device's free memory.
    """
    if shape.num_bytes > (free_bytes or _free_bytes)() // 2:
        logger.info("loss head: trl, not timed for lack of free memory")
        return "trl"
    times = {name: (seconds or seconds_of)(name, shape) for name in KERNELS}
    best = min(times, key=times.get)
    timings = ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in times.items())
    logger.info("loss head: %s (%s per %d rows); %s=%s repeats it", best, timings, NUM_ROWS, VARIABLE, best)
    return best


def _free_bytes() -> int:
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


def seconds_of(kernel: str, shape: HeadShape) -> float:
    """Fastest of three forward and backward passes, after one to warm up."""
    device, dtype = shape.device, shape.dtype
    hidden_ND = torch.ones(NUM_ROWS, shape.hidden_size, device=device, dtype=dtype, requires_grad=True)
    weight_VD = torch.ones(shape.vocab_size, shape.hidden_size, device=device, dtype=dtype, requires_grad=shape.trained)
    targets = torch.arange(NUM_ROWS, device=device) % shape.vocab_size
    upstream = torch.linspace(0.5, 0.5 if shape.uniform_rows else 1.5, NUM_ROWS, device=device)
    settings = HeadSettings(shape.outputs, uniform_rows=shape.uniform_rows)
    times = []
    for _ in range(4):
        hidden_ND.grad = weight_VD.grad = None
        start = time.perf_counter()
        if kernel == "trl":
            from trl.kernels import ChunkedLogProbFunction  # since TRL 1.16

            scored = ChunkedLogProbFunction.apply(
                hidden_ND, weight_VD, None, targets, 1.0, TRLS_TILE, None, 1.0, shape.outputs
            )
        else:
            scored = chunked_log_probs(hidden_ND, LinearHead(weight_VD), targets, settings)
        scored[0].backward(upstream.to(scored[0].dtype))
        hidden_ND.grad[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times[1:])
