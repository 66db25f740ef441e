"""Fine-tuning to 1.58 bits: which layers, and how they get there from full precision."""

from transformers import PreTrainedModel, TrainerCallback

from ftkit.model.fast.bit_linear import Strength
from ftkit.model.weights.ternary import make_ternary


def warmup_updates(warmup: float, num_updates: int) -> int:
    """Updates in which layers go from full precision to 1.58 bits. warmup: their number, or a share of the run."""
    return round(warmup * num_updates if warmup < 1 else min(warmup, num_updates))


def go_ternary(run, model: PreTrainedModel) -> None:
    """Give a model layers of 1.58 bits where --ternary asks for them, and note it for the plan."""
    training = run.settings.training
    if not getattr(training, "ternary", False):
        return
    strength, count = make_ternary(model)
    steps = 0 if strength.evaluation else warmup_updates(training.ternary_warmup, run.num_updates)
    way = f"from full precision over {steps} updates" if steps else "from the first update on"
    run.notes.append(f"ternary    {count} linear layers of 1.58 bits, inputs of 8 bits, {way}; the others stay")


class WarmIn(TrainerCallback):
    """Lets layers go from full precision to 1.58 bits over the first updates, in equal steps.

    Evaluations before the first update see the model as it was, later ones as it would be saved: of 1.58 bits.
    """

    def __init__(self, strength: Strength, warmup: float):
        self.strength, self.warmup = strength, warmup

    def on_step_begin(self, args, state, control, **kwargs):
        steps = warmup_updates(self.warmup, state.max_steps)
        self.strength.training = min(1.0, (state.global_step + 1) / steps) if steps else 1.0
        self.strength.evaluation = 1.0

    def on_train_end(self, args, state, control, **kwargs):
        self.strength.training = self.strength.evaluation = 1.0
