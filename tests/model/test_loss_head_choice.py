"""Which kernel scores the head: named, or the fastest one measured, once for each shape."""

from types import SimpleNamespace

import pytest
import torch
from trl.trainer import utils as trl_utils

if not hasattr(trl_utils, "add_fused_lm_head"):
    pytest.skip("TRL before 1.16 has no head to take over", allow_module_level=True)

from ftkit.model.fast import head_kernels  # noqa: E402
from ftkit.model.fast.head_kernels import HeadShape, fastest_kernel, seconds_of, settle_kernel  # noqa: E402

SHAPE = HeadShape(torch.device("cpu"), 16, 300, torch.float32, True, True, ("log_probs", "entropy"))


def trainer_on(device: str, trained: bool = True):
    head = torch.nn.Linear(16, 300, bias=False).requires_grad_(trained)
    accelerator = SimpleNamespace(
        device=torch.device(device), mixed_precision="bf16", is_main_process=True, num_processes=1
    )
    return SimpleNamespace(
        accelerator=accelerator, model=SimpleNamespace(get_output_embeddings=lambda: head), args=SimpleNamespace()
    )


def timer(**seconds):
    calls = []

    def measure(kernel, shape):
        calls.append(kernel)
        return seconds[kernel]

    return measure, calls


@pytest.mark.parametrize(
    ("seconds", "best"), [({"trl": 1.0, "compact": 2.0}, "trl"), ({"trl": 2.0, "compact": 1.0}, "compact")]
)
def test_the_faster_kernel_is_taken_and_logged_once(seconds, best, caplog):
    measure, calls = timer(**seconds)
    plenty = lambda: 2**40  # noqa: E731
    with caplog.at_level("INFO"):
        assert [fastest_kernel(SHAPE, measure, plenty) for _ in range(3)] == [best] * 3
    assert sorted(calls) == ["compact", "trl"]
    (message,) = caplog.messages
    assert message.startswith(f"loss head: {best} (") and f"FTKIT_LOSS_HEAD={best}" in message


def test_nothing_is_timed_where_memory_is_short():
    measure, calls = timer(trl=2.0, compact=1.0)
    assert fastest_kernel(SHAPE, measure, lambda: 2 * SHAPE.num_bytes - 2) == "trl" and not calls
    assert SHAPE.num_bytes > SHAPE._replace(trained=False).num_bytes > 16 * 300 * 4


def test_a_named_kernel_is_never_timed(monkeypatch):
    monkeypatch.setattr(head_kernels, "fastest_kernel", None)
    assert settle_kernel("trl", trainer_on("cuda"), {"FTKIT_LOSS_HEAD": "compact"}) == "trl"
    assert settle_kernel("auto", trainer_on("cuda"), {"FTKIT_LOSS_HEAD": "compact"}) == "compact"
    assert [settle_kernel("auto", trainer_on(device), {}) for device in ("cpu", "mps")] == ["compact"] * 2


def test_auto_on_a_gpu_times_the_models_own_shape(monkeypatch):
    shapes = []
    monkeypatch.setattr(head_kernels, "fastest_kernel", lambda shape: shapes.append(shape) or "trl")
    assert settle_kernel("auto", trainer_on("cuda", trained=False), {}) == "trl"
    assert shapes == [HeadShape(torch.device("cuda"), 16, 300, torch.bfloat16, False, False, ("log_probs", "entropy"))]


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match='unknown loss head kernel "liger"; allowed: auto, compact, trl'):
        settle_kernel("auto", trainer_on("cpu"), {"FTKIT_LOSS_HEAD": "liger"})


@pytest.mark.parametrize("kernel", head_kernels.KERNELS)
def test_every_kernel_can_be_timed(kernel):
    assert seconds_of(kernel, SHAPE) > 0
