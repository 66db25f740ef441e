"""The checksums see any changed bit, and a run names what should have moved and what should not."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ftkit.training.moved import MovedTensors, checksums, group_of, sum_of_bits

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.int8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1, 3, 8, 1001])
def test_a_changed_bit_of_any_element_shows(dtype, size):
    values = (torch.arange(size) % 100).to(dtype)
    before = sum_of_bits(values).item()
    for place in {0, size // 2, size - 1}:
        changed = values.clone()
        changed.view(torch.uint8).view(-1)[place * values.element_size()] ^= 1  # the lowest bit
        assert sum_of_bits(changed).item() != before
    assert sum_of_bits(values.clone()).item() == before


def test_views_count_as_what_they_show():
    values = torch.randn(7, 5)
    assert sum_of_bits(values.T.contiguous().T).item() == sum_of_bits(values.T).item()
    assert sum_of_bits(values[1:].view(-1)[1:]).item() == sum_of_bits(values[1:].reshape(-1)[1:].clone()).item()
    assert checksums([("scalar", torch.tensor(1.0)), ("none", torch.empty(0))])["none"] == 0


@pytest.mark.parametrize(("name", "group"), [
    ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", "lora_A"),
    ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight", "lora_B"),
    ("base_model.model.model.embed_tokens.lora_embedding_A.default", "lora_A"),
    ("base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector.default.weight", "magnitude"),
    ("base_model.model.score.modules_to_save.default.weight", "head"), ("lm_head.weight", "head"),
    ("model.embed_tokens.weight", "embeddings"), ("transformer.wte.weight", "embeddings"),
    ("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta.default", "embeddings"),
    ("value.score.weight", "value head"), ("module.value.score.bias", "value head"),
    ("value.trunk.layers.0.mlp.up_proj.weight", "value trunk"), ("value.trunk.embed_tokens.weight", "value trunk"),
    ("prompt_encoder.default.embedding.weight", "prompt"), ("model.layers.1.mlp.up_proj.weight", "layers"),
])  # fmt: skip
def test_groups_by_name(name, group):
    assert group_of(name) == group


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.lora_A, self.lora_B = nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)
        self.frozen = nn.Linear(4, 4, bias=False).requires_grad_(False)
        self.low = nn.Linear(4, 4, bias=False).to(torch.bfloat16)
        nn.init.zeros_(self.lora_B.weight)
        nn.init.ones_(self.low.weight)

    def forward(self, values):
        return self.frozen(values) + self.lora_B(self.lora_A(values)) + self.low(values.bfloat16()).float()


def trained(num_updates: int, *, rate: float = 0.05, warmup: int = 0, spoil=lambda model: None, caplog=None):
    """The report of a run of plain SGD, and its warnings. spoil: called after each update."""
    torch.manual_seed(0)
    model, moved, state = Small(), MovedTensors(), SimpleNamespace(is_world_process_zero=True)
    args = SimpleNamespace(world_size=1)
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=rate)
    moved.on_train_begin(args, state, None, model=model)
    for update in range(num_updates):
        optimizer.param_groups[0]["lr"] = 0.0 if update < warmup else rate
        optimizer.zero_grad()
        model(torch.ones(3, 4)).square().mean().backward()
        moved.on_pre_optimizer_step(None, state, None, optimizer=optimizer)
        optimizer.step()
        spoil(model)
        moved.on_step_end(args, state, None, model=model)
    moved.on_train_end(args, state, None, model=model)
    return moved.report, [record.getMessage() for record in caplog.records]


def test_all_that_is_trained_moves(caplog):
    report, warnings = trained(7, caplog=caplog)
    one = {"tensors": 1, "moved": 1}
    assert report == {
        "updates": 7,
        "groups": {"lora_A": one, "lora_B": one, "frozen": {"tensors": 1, "moved": 0}, "layers": one},
    }
    assert warnings == []


@pytest.mark.parametrize("num_updates", [1, 2])
def test_lora_a_may_stand_still_in_the_first_update(caplog, num_updates):
    report, warnings = trained(num_updates, caplog=caplog)
    assert report["groups"]["lora_A"]["moved"] == num_updates - 1
    assert warnings == []


def test_an_update_without_learning_rate_counts_for_nothing(caplog):
    report, warnings = trained(3, warmup=2, caplog=caplog)
    assert report["updates"] == 1
    assert warnings == []


def test_bfloat16_that_swallows_its_updates_is_named_once(caplog):
    report, (warning,) = trained(8, rate=1e-5, caplog=caplog)
    assert report["groups"]["layers"] == {"tensors": 1, "moved": 0}
    assert warning.startswith("layers: 1 of 1 tensors have not moved in 5 updates (bfloat16): low.weight; ")


def test_a_trained_tensor_without_gradient_is_named(caplog):
    def put_back(model):
        nn.init.zeros_(model.lora_B.weight)

    _, warnings = trained(6, spoil=put_back, caplog=caplog)
    assert [text.split(";")[0] for text in warnings if text.startswith("lora_B")] == [
        "lora_B: 1 of 1 tensors have not moved in 5 updates (float32): lora_B.weight"
    ]


def test_a_frozen_tensor_that_moves_is_named(caplog):
    report, (warning,) = trained(6, spoil=lambda model: model.frozen.weight.data.add_(1), caplog=caplog)
    assert report["groups"]["frozen"] == {"tensors": 1, "moved": 1}
    assert warning == "1 frozen tensors have moved: frozen.weight"


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog):
    caplog.set_level(logging.WARNING)
