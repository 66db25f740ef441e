"""Running totals of batches, counted by hand."""

import torch
from accelerate import Accelerator

from ftkit.training.batch_totals import BatchTotals

LABELS = torch.tensor([[-100, 5, 9, -100], [-100, -100, 9, -100]])
IDS = torch.tensor([[4, 5, 9, 0], [4, 9, 9, 0]])


def test_batches_are_counted_with_their_padding():
    totals = BatchTotals(end_of_turn_id=9)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0]])
    totals.add({"input_ids": IDS, "labels": LABELS, "attention_mask": mask})
    totals.add({"input_ids": IDS[:1], "labels": LABELS[:1]})  # packed: no mask, no padding
    totals.add({"input_ids": IDS, "completion_mask": (LABELS != -100).long(), "attention_mask": mask})
    assert totals.as_dict(Accelerator(cpu=True)) == {
        "num_sequences": 5,
        "num_tokens": 6 + 4 + 6,
        "num_trained_tokens": 3 + 2 + 3,
        "num_end_tokens_trained": 2 + 1 + 2,
        "num_padding_tokens": 2 + 2,
    }


def test_a_run_without_a_step_has_zero_of_everything():
    assert set(BatchTotals(9).as_dict(Accelerator(cpu=True)).values()) == {0}
