"""Training on rows' answers: the student held to what a teacher says of them, kept or asked again, and to the labels.

The denominator is the number of trained tokens of the whole update, over all batches and processes: never those of the
data set, never a mean of means.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from trl.models.utils import _ForwardRedirection

from ftkit.inference.scoring import IGNORE_INDEX, CompactScorer, choose_scorer, padded
from ftkit.model.fast.chunked_sum import chunked_sum
from ftkit.model.fast.loss_head import rows_at_a_time
from ftkit.training.distill.divergence import Loss, Top
from ftkit.training.distill.kept import Kept
from ftkit.training.run_trainer import RunMixin

# B batch, T tokens, N trained tokens, D hidden, V vocabulary, K top tokens

SUMS = ("loss", "divergence", "answer_loss")  # of `Loss.sums`, in its order


class RowCollator:
    """Batches of rows, padded on the right; padding is told by its place, so that an end token may be the pad token.

    kept: of the rows that have a "row" each, by number; None where a teacher is asked again, or there is none.
    """

    def __init__(self, pad_token_id: int, kept: Kept | None):
        self.pad_token_id, self.kept = pad_token_id, kept

    def __call__(self, rows: Sequence[dict]) -> dict[str, Tensor]:
        """input_ids, attention_mask, labels and shift_labels, (B, T); of what is kept teacher_ids and _log_probs."""
        ids_BT, mask_BT, labels_BT = padded(list(rows), self.pad_token_id, "cpu")
        labels_BT[:, 0] = IGNORE_INDEX  # nothing predicts the first token
        shifted_BT = torch.nn.functional.pad(labels_BT[:, 1:], (0, 1), value=IGNORE_INDEX)
        batch = {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT, "shift_labels": shifted_BT}
        if self.kept:
            tops = [self.kept.of(row["row"]) for row in rows]
            batch["teacher_ids"] = torch.cat([top.ids for top in tops])
            batch["teacher_log_probs"] = torch.cat([top.log_probs for top in tops])
        return batch


class Halves:
    """A model as a backbone and a head; where they can't be told apart, as its whole forward and nothing."""

    def __init__(self, model: Any, input_ids: Sequence[int], *, compact: bool = True):
        scorer = CompactScorer.of(model) if compact else None
        with torch.no_grad():
            found = choose_scorer(model, input_ids) if scorer else None
        self.model, self.compact = model, found if isinstance(found, CompactScorer) else None
        self.head = self.compact.head if self.compact else nn.Identity()

    def hidden(self, input_ids_BT: Tensor, attention_mask_BT: Tensor, kept_BT: Tensor) -> Tensor:
        """What the head turns into logits, at the kept places, (N, D)."""
        given = {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT, "use_cache": False}
        if self.compact:
            return self.compact.backbone(**given).last_hidden_state[kept_BT]
        logits_BTV = self.model(**given).logits
        return logits_BTV[:, -input_ids_BT.shape[1] :][kept_BT]  # soft prompts stand in front


class FTOfflineTrainer(RunMixin, Trainer):
    """Trains on what RowCollator gives.

    loss: see `Loss`. teacher: a model that is asked in each step; None where its answers are kept, or for labels alone.
    """

    loss_is_scaled_for_ga = True  # by the tokens of the whole update

    def __init__(self, *args, loss: Loss, teacher=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.loss, self.teacher = loss, None
        self.model_accepts_loss_kwargs = True  # so that the tokens of an update are counted
        self._total_train_tokens = 0
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self._forward_redirection = _ForwardRedirection()
        ids = min((row["input_ids"] for row in self.train_dataset), key=len)
        self.student = Halves(self.model, ids, compact=self.args.compact_loss_head)
        if teacher is not None:
            teacher = self.accelerator.prepare_model(teacher, evaluation_mode=True)
            self.teacher = Halves(teacher, ids)

    def put_compact_heads(self) -> None:
        """The head is read in chunks here, not by TRL's patch of the model."""
        self.has_compact_heads = bool(self.args.compact_loss_head)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of a batch, divided by the trained tokens of the whole update."""
        base = self.accelerator.unwrap_model(model)
        loss, sums_K = self._forward_redirection(model, base, self.summed, inputs)
        number = (inputs["shift_labels"] != IGNORE_INDEX).sum()
        self.count(inputs, loss, sums_K, number)
        if num_items_in_batch is None or not self.model.training:
            loss = loss / number.clamp(min=1)
        else:
            loss = loss / max(1, int(num_items_in_batch))
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes  # DDP averages what was divided by all processes' tokens
        return (loss, None) if return_outputs else loss

    def summed(self, inputs: dict) -> tuple[Tensor, Tensor]:
        """The loss, divergence and answer loss of a batch, summed over its trained tokens."""
        ids_BT, mask_BT, targets_BT = (inputs[name] for name in ("input_ids", "attention_mask", "shift_labels"))
        kept_BT = targets_BT != IGNORE_INDEX
        targets_N, top, teacher_ND = targets_BT[kept_BT], None, None
        with self.accelerator.autocast():
            if "teacher_ids" in inputs:
                top = Top(inputs["teacher_ids"], inputs["teacher_log_probs"])
            elif self.teacher:
                with torch.no_grad():
                    teacher_ND = self.teacher.hidden(ids_BT, mask_BT, kept_BT)
            hidden_ND = self.student.hidden(ids_BT, mask_BT, kept_BT)

            def score(logits_nV: Tensor, rows: slice) -> Tensor:
                said = None
                if top:
                    said = Top(*(part[rows] for part in top))
                elif teacher_ND is not None:
                    with torch.no_grad():
                        said = self.teacher.head(teacher_ND[rows])
                return self.loss.sums(logits_nV, targets_N[rows], said)

            size = rows_at_a_time(self.loss.num_tokens) if self.has_compact_heads else max(1, len(hidden_ND))
            return chunked_sum(hidden_ND, self.student.head, score, chunk_size=size)

    def count(self, inputs: dict, loss: Tensor, sums_K: Tensor, number: Tensor) -> None:
        """Take down the sums and counts of a batch, for the log."""
        mode = "train" if self.model.training else "eval"
        own = torch.cat([loss.detach()[None].double(), sums_K.double(), number[None].double(),
                         inputs["attention_mask"].sum()[None].double()])  # fmt: skip
        totals = self.accelerator.gather(own[None]).sum(dim=0).tolist()
        for name, value in zip((*SUMS, "number"), totals, strict=False):
            self._metrics[mode][name].append(value)
        if mode == "train":
            self._total_train_tokens += int(totals[-1])

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss of a batch of held-out rows."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the divergence from the teacher and the answer loss, in nats per token, and the tokens seen."""
        mode = "eval" if "eval_loss" in logs else "train"
        totals = {name: sum(values) for name, values in self._metrics[mode].items()}
        self._metrics[mode].clear()
        prefix, number = "eval_" * (mode == "eval"), totals.get("number")
        if number:
            means = {name: totals[name] / number for name in SUMS}
            if mode == "train":
                del means["loss"]  # which stays the mean of updates
            logs |= {f"{prefix}{name}": value for name, value in means.items()}
        logs["num_tokens"] = self.num_tokens_seen()
        super().log(logs, start_time)
