"""The settings of `ftkit dpo` beside TRL's."""

from dataclasses import dataclass

from trl import DPOConfig

from ftkit.config.settings.common import DataArguments, ModelArguments, TrainerArguments, setting
from ftkit.config.settings.needs import Need, Needs, never
from ftkit.config.settings.rates import DPO_RATES

SMOOTHED = ("exo_pair", "robust", "aot", "aot_unpaired")  # losses with --label_smoothing


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
    before_after: bool | None = setting(
        None, "Answer held-out rows before and after training. Default: where it costs under a tenth of the run."
    )

    learning_rates = DPO_RATES

    needs = Needs([
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


SETTINGS = (PreferenceDataArguments, ModelArguments, DPOArguments)
