"""Running totals of a run: what its batches really held, for the receipt at its end.

totals = BatchTotals(end_of_turn_id)
totals.add(inputs)          # of each training step
totals.as_dict(accelerator)
"""

import torch

from ftkit.data.tokens.tokenization import IGNORE_INDEX

NAMES = ("num_sequences", "num_tokens", "num_trained_tokens", "num_end_tokens_trained", "num_padding_tokens")


class BatchTotals:
    """Counts stay on the device until they are asked for, so that no step waits for them.

    end_of_turn_id: the token that closes an answer.
    """

    def __init__(self, end_of_turn_id: int):
        self.end_of_turn_id = end_of_turn_id
        self.counts: torch.Tensor | None = None

    def add(self, inputs: dict) -> None:
        """Count a batch: "input_ids" (B, T), "attention_mask" if padded, and "labels" or, of pairs, "completion_mask";
        without either the last token of each row is scored."""
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        if "labels" in inputs:
            trained = inputs["labels"] != IGNORE_INDEX
        elif "completion_mask" in inputs:
            trained = inputs["completion_mask"].bool()
        else:
            trained = mask.bool() & ~torch.nn.functional.pad(mask[:, 1:], (0, 1)).bool()
        num_tokens = mask.sum() if mask is not None else torch.tensor(ids.numel(), device=ids.device)
        num_ends = (trained & (ids == self.end_of_turn_id)).sum()
        num_sequences = torch.tensor(len(ids), device=ids.device)
        counts = torch.stack([num_sequences, num_tokens, trained.sum(), num_ends, ids.numel() - num_tokens])
        self.counts = counts if self.counts is None else self.counts + counts

    def as_dict(self, accelerator) -> dict[str, int]:
        """The totals of all processes, which must all call this."""
        counts = torch.zeros(len(NAMES), dtype=torch.long) if self.counts is None else self.counts
        summed = accelerator.reduce(counts.to(accelerator.device), reduction="sum")
        return dict(zip(NAMES, summed.tolist(), strict=True))
