"""The settings of `ftkit dpo` beside TRL's."""

from dataclasses import dataclass, field

from trl import DPOConfig

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import DPO_RATES

# Losses of TRL's trainer, and those that need no reference (`ftkit.training.reference_free`).
LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
REFERENCE_FREE = ("orpo", "cpo", "simpo")
SMOOTHED = ("exo_pair", "robust", "aot", "aot_unpaired", "cpo", "simpo")  # losses with --label_smoothing
BETA, SIMPO_BETA = 0.1, 2.0  # TRL's default; of Llama-3-Base in the SimPO paper, arXiv:2405.14734, with a gamma of 1.0


def needs_reference(asked) -> bool:
    """Whether the answers are held against a reference."""
    return not asked.training.is_reference_free


@dataclass
class PreferenceDataArguments(DataArguments):
    """Rows with a chosen and a rejected answer."""

    dataset_format: str = setting("auto", "Row format.", choices=["auto", "alpaca", "prompt", "messages"])

    needs = Needs([Need(("allow_empty_mask",), never, "has no effect: a pair has two answers; drop it")])


@dataclass
class DPOArguments(TrainerArguments, DPOConfig):
    """TRL's DPOConfig with defaults for the hardware at hand."""

    learning_rate: float | None = setting(
        None, "Peak learning rate. Default: 1e-6, with PEFT 1e-5; below 50 M parameters 1e-5, 1e-4."
    )
    loss_type: list[str] = field(
        default_factory=lambda: ["sigmoid"],
        metadata={
            "help": "Loss of a pair. Without a reference: orpo, cpo, simpo. With one, or several with --loss_weights: "
            "sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, "
            "apo_down, discopop, sft, sigmoid_norm (normalised by length)."
        },
    )
    beta: float | None = setting(
        None, "How strongly the answers are held to the reference; scale of the loss without one. "
        "Default: 0.1, of simpo 2.0."
    )  # fmt: skip
    cpo_alpha: float | None = setting(
        None, "Weight of the chosen answers' own loss beside cpo and simpo. Default: 1.0, of simpo 0."
    )
    simpo_gamma: float = setting(1.0, "Margin that simpo asks for, in units of beta times nats per token.")
    before_after: bool | None = setting(
        None, "Answer held-out rows before and after training. Default: where it costs under a tenth of the run."
    )

    learning_rates = DPO_RATES
    sequences_per_row = 2

    needs = Needs([
        Need(("cpo_alpha",), lambda asked: asked.training.loss_type in (["cpo"], ["simpo"]),
             "belongs to --loss_type cpo and simpo; drop it"),
        Need(("simpo_gamma",), lambda asked: asked.training.loss_type == ["simpo"],
             "belongs to --loss_type simpo; drop it"),
        Need(("precompute_ref_log_probs", "sync_ref_model", "f_divergence_type", "ld_alpha", "use_weighting"),
             needs_reference, "has no effect with --loss_type orpo, cpo and simpo, which know no reference; drop it"),
        Need(("precompute_ref_log_probs",), lambda asked: not asked.data.dataset_streaming,
             "scores all rows before training, and --dataset_streaming reads them as they come; drop one of them"),
        Need(("truncation_mode",), lambda asked: asked.training.truncation_mode == "keep_start",
             "would cut the prompt; use keep_start"),
        Need(("precompute_ref_batch_size",), lambda asked: asked.training.precompute_ref_log_probs,
             "needs --precompute_ref_log_probs; add it, or drop this"),
        Need(("ref_model_mixup_alpha", "ref_model_sync_steps"), lambda asked: asked.training.sync_ref_model,
             "needs --sync_ref_model; add it, or drop this"),
        Need(("discopop_tau",), lambda asked: "discopop" in asked.training.loss_type,
             "belongs to --loss_type discopop; drop one of them"),
        Need(("f_alpha_divergence_coef",), lambda asked: asked.training.f_divergence_type == "alpha_divergence",
             "belongs to --f_divergence_type alpha_divergence; drop one of them"),
        Need(("label_smoothing",), lambda asked: not set(SMOOTHED).isdisjoint(asked.training.loss_type),
             f"has no effect on this --loss_type; those with labels are {', '.join(SMOOTHED)}"),
        Need(("label_smoothing_factor",), never,
             "has no effect on pairs; use --label_smoothing"),
        Need(("dataset_num_proc", "padding_free", "model_init_kwargs"), never,
             "has no effect: ftkit reads rows and model itself, and TRL pads pairs; drop it"),
    ])  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        self.loss_type = [self.loss_type] if isinstance(self.loss_type, str) else self.loss_type
        for name in self.loss_type:
            if name not in (*LOSSES, *REFERENCE_FREE):
                hint = did_you_mean(name, (*LOSSES, *REFERENCE_FREE))
                raise UserError(f'unknown --loss_type "{name}"{hint}; allowed: {", ".join((*LOSSES, *REFERENCE_FREE))}')
        alone = [name for name in self.loss_type if name in REFERENCE_FREE]
        if alone and len(self.loss_type) > 1:
            raise UserError(f"--loss_type {alone[0]} is a whole loss of its own; give it alone")
        if self.beta is not None and self.beta <= 0:
            raise UserError(f"--beta is {self.beta:g}, so no answer would be preferred; give a number above 0")

    @property
    def is_reference_free(self) -> bool:
        """Whether the loss needs no reference."""
        return self.loss_type[0] in REFERENCE_FREE

    def own_decisions(self, facts, reasons: dict) -> dict:
        """beta and cpo_alpha where nobody chose them."""
        is_simpo = self.loss_type == ["simpo"]
        beta = (SIMPO_BETA if is_simpo else BETA) if self.beta is None else self.beta
        alpha = (0.0 if is_simpo else 1.0) if self.cpo_alpha is None else self.cpo_alpha
        return {"beta": beta, "cpo_alpha": alpha}


SETTINGS = (PreferenceDataArguments, ModelArguments, DPOArguments)
