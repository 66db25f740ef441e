"""Held-out work is done once in all, whatever the number of processes, and comes back in order."""

from types import SimpleNamespace

import pytest
import torch

from ftkit.training.callbacks import SampleCallback
from ftkit.training.sharing import shared


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_item_is_done_by_one_process_and_all_get_all_in_order(count, monkeypatch):
    items, done = list(range(5)), []

    def work(part):
        done.append(list(part))
        return [item * item for item in part]

    def gather(parts, own):  # what the other processes would send
        for index in range(count):
            parts[index] = [item * item for item in items[index::count]]
        assert parts[1] == own

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    accelerator = SimpleNamespace(num_processes=count, process_index=min(1, count - 1))
    assert shared(accelerator, items, work) == [0, 1, 4, 9, 16]
    assert done == [items if count == 1 else items[1::count]]


@pytest.mark.parametrize(("is_first", "in_all", "answers"), [(True, False, 1), (False, False, 0), (False, True, 1)])
def test_samples_are_answered_by_the_first_process_unless_the_weights_are_sharded(tmp_path, is_first, in_all, answers):
    asked = []
    questions = [{"prompt": "a", "reference": "b"}]
    callback = SampleCallback(str(tmp_path), questions, lambda model: asked.append(1) or ["c"], in_all_processes=in_all)
    callback.on_evaluate(None, SimpleNamespace(is_world_process_zero=is_first, global_step=1), None)
    assert len(asked) == answers
    assert (tmp_path / "samples.jsonl").exists() == is_first
