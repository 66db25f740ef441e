"""Whether answers are sampled from the policy that is trained: their log-probabilities compared after every update.

Answers come from one path through the model (cached keys and values, evaluation mode) and are scored by another. Where
the two differ the loss is of another policy, which no number of a log shows; a run stops there, with the cause.
"""

import contextlib

import torch

from ftkit.config.errors import UserError
from ftkit.inference.generation import evaluation_mode

METRIC = "sampling/sampling_logp_difference"  # as TRL calls it


class SamplerCheck:
    """sampled_at: the update after which the answers were drawn, None where no log-probabilities are known."""

    def __init__(self, trainer):
        self.trainer, self.sampled_at = trainer, None

    def compare(self, inputs: dict, trained_BT: torch.Tensor) -> None:
        """Log how far the two are apart; raise UserError, in all processes, above --max_logp_difference.

        Only before the next update: after it they differ because something was learned.
        """
        trainer = self.trainer
        sampled_BT = inputs.get("sampling_per_token_logps")
        if sampled_BT is None or trainer.state.global_step != self.sampled_at:
            return
        mask_BT = inputs["completion_mask"].bool()
        apart = (trained_BT - sampled_BT).abs()[mask_BT]
        sums = torch.stack([apart.sum(), apart.new_tensor(float(apart.numel()))])
        largest = apart.max() if apart.numel() else apart.new_zeros(())
        if trainer.accelerator.num_processes > 1:
            sums = trainer.accelerator.reduce(sums, reduction="sum")
            largest = trainer.accelerator.gather(largest[None]).max()
        mean = (sums[0] / sums[1].clamp(min=1)).item()
        trainer._metrics["train"][f"{METRIC}/mean"].append(mean)
        trainer._metrics["train"][f"{METRIC}/max"].append(largest.item())
        if not mean <= trainer.args.max_logp_difference:
            raise UserError(
                f"at update {trainer.state.global_step + 1} sampled tokens have other log-probabilities in training: "
                f"{mean:.3g} nats apart on average (--max_logp_difference {trainer.args.max_logp_difference:g}); "
                f"{self.cause(inputs, sampled_BT, mask_BT)}"
            )

    def cause(self, inputs: dict, sampled_BT: torch.Tensor, mask_BT: torch.Tensor) -> str:
        """What makes them differ: the first change that brings them together."""
        trainer = self.trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        attempts = [
            ("dropout is on in training; pass --disable_dropout", evaluation_mode(model)),
            ("the precision: answers are sampled without autocast; pass --bf16 false", without_autocast()),
        ]
        if hasattr(model, "disable_adapter"):
            attempts.append(("answers were sampled without the adapter", model.disable_adapter()))
        for text, changed in attempts:
            with torch.no_grad(), changed:
                scored_BT = self.scored(model, inputs)
            if (scored_BT - sampled_BT).abs()[mask_BT].mean() <= trainer.args.max_logp_difference:
                return text
        return "answers were sampled from other weights, such as those of an earlier update (a stale step)"

    def scored(self, model, inputs: dict) -> torch.Tensor:
        """The log-probabilities of the sampled tokens, (B, T), as training computes them."""
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        width = inputs["completion_ids"].shape[1]
        return self.trainer._get_per_token_logps_and_entropies(model, ids, mask, width)[0]


@contextlib.contextmanager
def without_autocast():
    """Inside, nothing is cast."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
