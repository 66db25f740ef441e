"""The settings of `ftkit kto` beside TRL's."""

from dataclasses import dataclass

from trl import KTOConfig

from ftkit.config.errors import UserError
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import DPO_RATES

MOST_WEIGHT = 4 / 3  # of all wanted answers together, beside all unwanted ones: arXiv:2402.01306, equation 8


@dataclass
class LabelledAnswerArguments(DataArguments):
    """Rows with an answer and a label that says whether it is wanted."""

    dataset_format: str = setting(
        "auto",
        "Row format; those of pairs become two rows each.",
        choices=[
            "auto", "kto", "kto_messages", "kto_sharegpt", "kto_alpaca", "alpaca", "sharegpt", "prompt", "messages"
        ],
    )  # fmt: skip

    needs = Needs([
        Need(("allow_empty_mask",), never, "has no effect: a label needs its answer; drop it"),
        Need(("dataset_streaming",), never, "reads rows as they come, and kto mixes wanted and unwanted ones; drop it"),
    ])  # fmt: skip


@dataclass
class KTOArguments(TrainerArguments, KTOConfig):
    """TRL's KTOConfig with defaults for the hardware at hand."""

    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: 1e-6, with PEFT 1e-5; below 50 M parameters 1e-5, 1e-4."
    )
    desirable_weight: float | None = setting(
        None, "Weight of wanted answers. Default: as many times 1 as makes up for there being fewer of them."
    )
    undesirable_weight: float | None = setting(None, "Weight of unwanted answers. Default: alike.")

    learning_rates = DPO_RATES

    needs = Needs([
        Need(("precompute_ref_batch_size",), lambda asked: asked.training.precompute_ref_log_probs,
             "needs --precompute_ref_log_probs; add it, or drop this"),
        Need(("ref_model_mixup_alpha", "ref_model_sync_steps"), lambda asked: asked.training.sync_ref_model,
             "needs --sync_ref_model; add it, or drop this"),
        Need(("label_smoothing_factor",), never, "has no effect on labels of answers; drop it"),
        Need(("dataset_num_proc", "model_init_kwargs"), never,
             "has no effect: ftkit reads rows and model itself; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.beta <= 0:
            raise UserError(f"--beta is {self.beta:g}, so no answer would be wanted; give a number above 0")
        if self.loss_type != "kto":
            return
        if self.per_device_train_batch_size < 2:
            raise UserError(
                "--per_device_train_batch_size 1: the KL term pairs the rows of a batch; give 2 or more, or "
                "--loss_type apo_zero_unpaired"
            )
        if self.train_sampling_strategy != "sequential":
            raise UserError(
                f"--train_sampling_strategy {self.train_sampling_strategy}: the KL term pairs neighbours, which "
                "ftkit mixes by --seed; drop it"
            )

    def own_decisions(self, facts, reasons: dict) -> dict:
        """The weights of wanted and unwanted answers: those that are fewer weigh as much, all together, as the others.

        All wanted answers should weigh 1 to 4/3 times as much as the others (arXiv:2402.01306, equation 8).
        """
        wanted, unwanted = facts.mix
        asked = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
        weights = {name: 1.0 if weight is None else weight for name, weight in asked.items()}
        one_label = not wanted or not unwanted
        if one_label or None not in asked.values() or 1 <= share(facts.mix, weights) <= MOST_WEIGHT:
            return weights
        fewer = "desirable_weight" if wanted < unwanted else "undesirable_weight"
        open_one = fewer if asked[fewer] is None else next(name for name, weight in asked.items() if weight is None)
        ratio = share(facts.mix, weights)
        weights[open_one] *= 1 / ratio if open_one == "desirable_weight" else ratio
        reasons[open_one] = (
            f"{wanted:,} wanted and {unwanted:,} unwanted answers weigh the same, all together (arXiv:2402.01306)"
        )
        return weights


def share(mix: tuple[int, int], weights: dict) -> float:
    """How much more all wanted answers weigh than all unwanted ones."""
    return mix[0] * weights["desirable_weight"] / (mix[1] * weights["undesirable_weight"])


SETTINGS = (LabelledAnswerArguments, ModelArguments, KTOArguments)
