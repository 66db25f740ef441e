"""The settings of fine-tuning to 1.58 bits, which `ftkit sft` and `ftkit pretrain` have.

Import this only after the flags were checked (`ftkit.config.parser`): its neighbours import TRL.
"""

from dataclasses import dataclass

from ftkit.config.settings.common import setting
from ftkit.config.settings.needs import Need, Needs


@dataclass
class TernaryArguments:
    """Linear layers of 1.58 bits; stands left of TrainerArguments."""

    ternary: bool = setting(
        False,
        "Train linear layers of 1.58 bits (BitNet): weights of -1, 0 and 1 times a scale, inputs of 8 bits. Embedding, "
        "head and norms stay.",
    )
    ternary_warmup: float = setting(
        0.5, "Updates, or share of the run below 1, in which --ternary goes there from full precision; 0: at once."
    )

    needs = Needs([
        Need(("ternary",), lambda asked: not asked.model.use_peft,
             "trains all weights, and --use_peft an adapter on weights that stay; drop one of them"),
        Need(("ternary",), lambda asked: not asked.model.num_frozen_layers,
             "rounds every layer, and frozen ones would not be trained for it; drop --num_frozen_layers, or this"),
        Need(("ternary_warmup",), lambda asked: asked.training.ternary, "needs --ternary; add it, or drop this"),
    ])  # fmt: skip
