"""What is watched of a preference run: that it moves away from its reference, and not both answers downwards."""

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import TrainerCallback

from ftkit.config.errors import UserError
from ftkit.training.callbacks import tell

FALL_NATS = 1.0  # of an answer's log-probability; less is the noise of a batch
STUCK_UPDATES, SHORTEST_RUN = 10, 3  # with a learning rate above 0; of a shorter run at its end
STUCK_NATS = 1e-3  # that a whole answer's log-probability has moved at most; padding alone makes some 1e-5
NUM_ROWS_COMPARED = 1000


class BothFallCallback(TrainerCallback):
    """Warns once when both kinds of answers have become less likely than under the reference.

    Only their difference is in the loss, so a model can lower it while it unlearns the chosen answers too
    (arXiv:2402.13228). Counted twice in a row, of training or of held-out rows, since one batch may be an accident.
    names: of the two kinds. fix: what holds the wanted ones up.
    """

    def __init__(self, names: str, fix: str):
        self.names, self.fix = names, fix
        self.falls = {"": 0, "eval_": 0}
        self.warned = False

    def on_log(self, args, state, control, logs=None, **kwargs):
        for prefix in self.falls:
            rewards = [(logs or {}).get(f"{prefix}rewards/{name}") for name in ("chosen", "rejected")]
            if None in rewards:
                continue
            fell = max(rewards) < -FALL_NATS * args.beta
            self.falls[prefix] = self.falls[prefix] + 1 if fell else 0
            if self.falls[prefix] == 2 and not self.warned and state.is_world_process_zero:
                self.warned = True
                chosen, rejected = rewards
                tell(
                    f"warning: at step {state.global_step} {self.names} answers are both less likely than at "
                    f"the start (rewards {chosen:.3f} and {rejected:.3f}); to hold the first ones up, {self.fix}"
                )


class StuckCallback(TrainerCallback):
    """Names the cause when the answers are as likely as under the reference after some updates.

    A cause that no further update can change ends the run with UserError, in all processes; any other is a warning.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.moved_nats = 0.0  # the most that any batch has shown
        self.num_updates, self.last_step = 0, 0  # with a learning rate above 0
        self.last: dict = {}  # record of training
        self.is_done = False

    def on_log(self, args, state, control, logs=None, **kwargs):
        rewards = [(logs or {}).get(f"rewards/{name}") for name in ("chosen", "rejected")]
        if rewards == [None, None]:
            return
        found = [abs(reward) / args.beta for reward in rewards if reward is not None]
        self.moved_nats = max(self.moved_nats, *found)
        self.num_updates += (state.global_step - self.last_step) * bool(logs.get("learning_rate"))
        self.last, self.last_step = logs, state.global_step
        if self.num_updates >= STUCK_UPDATES:
            self.check(state)

    def on_train_end(self, args, state, control, **kwargs):
        if self.last and state.global_step >= SHORTEST_RUN:
            self.check(state)

    def check(self, state) -> None:
        """Look once; say why nothing has moved, or end the run."""
        if self.is_done:
            return
        self.is_done = True
        if self.moved_nats > STUCK_NATS:
            return
        reason, is_final = stuck_because(self.trainer, self.last, self.moved_nats)
        text = f"after {state.global_step} updates the answers are as likely as under the reference"
        text += " (loss 0.6931, as at the start)" if round(self.last.get("loss", 0.0), 4) == 0.6931 else ""
        if is_final:
            raise UserError(f"{text}: {reason}")
        if state.is_world_process_zero:
            tell(f"warning: {text}: {reason}")


def stuck_because(trainer, logs: dict, moved_nats: float) -> tuple[str, bool]:
    """Why a policy is where its reference is, with what to do, and whether no further update can change that.

    logs: the last record of training. moved_nats: the most that an answer's log-probability has moved.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if not trained:
        return "no weight is trained; give --use_peft or fewer --num_frozen_layers", True
    if isinstance(model, PeftModel) and is_switched_off(model):
        return "the adapter is switched off, so what is trained never acts", True
    if is_shared(trained, trainer.ref_model):
        return "the reference is the trained model itself; give it a copy of the weights", True
    rows = trainer.train_dataset
    if "rejected_ids" in (rows.column_names or ()) and all(
        row["chosen_ids"] == row["rejected_ids"] for row in rows.take(NUM_ROWS_COMPARED)
    ):
        return "chosen and rejected answers are equal in every row; let them differ", True
    if not logs.get("learning_rate"):
        return "the learning rate has been 0 so far; raise --learning_rate or lower --warmup_steps", False
    if logs.get("grad_norm") == 0:
        return "the gradient is exactly 0; look at what is trained in receipt.json", True
    rate = f"a learning rate of at most {trainer.args.learning_rate:g}"
    return f"{rate} has moved them by no more than {moved_nats:.1g} nats; raise --learning_rate", False


def is_switched_off(model: PeftModel) -> bool:
    """Whether no layer of an adapter acts."""
    layers = [one for one in model.modules() if isinstance(one, BaseTunerLayer)]
    return bool(layers) and all(one.disable_adapters or not one.active_adapters for one in layers)


def is_shared(trained: list, reference) -> bool:
    """Whether a reference model holds trained weights, so that it moves with them."""
    if reference is None:
        return False
    held = {weight.data_ptr() for weight in reference.parameters()}
    return any(weight.data_ptr() in held for weight in trained)
