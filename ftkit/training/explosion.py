"""Warns, once each, of a run that is finite and yet lost: its loss stays above its start, its gradient is 0.

A learning rate that is out of reason is said in the plan, before training.
"""

import logging

logger = logging.getLogger(__name__)

START_UPDATES = 5  # what the loss is at the start
# If nothing changed, all of so many losses would lie above all of the first once in C(20, 5) = 15,504 times.
LONG = 15
FAR = 3  # updates in a row at twice the start, and by FAR_NATS above it
FAR_NATS = 1.0
ZERO_UPDATES = 2  # one may be a batch of which no token is trained
# AdamW and its like move a weight by about the learning rate in each update, and weights lie mostly below 0.1.
LARGEST_RATE = 0.1
LARGEST_SOFT_PROMPT_RATE = 1.0  # its values are larger; 0.3 is published (arXiv:2104.08691)
LARGEST_SGD_RATE = 10.0  # whose whole step is as long as the rate times the clipped gradient's norm
SMALLEST_RATE = 1e-9  # float32 resolves a weight of 0.02 to 2e-9


class Explosion:
    """Watches loss and gradient norm of each update."""

    def __init__(self):
        self.first: list[float] = []
        self.num_above = self.num_far = self.num_zero = 0
        self.warned: set[str] = set()

    def watch(self, update: int, loss: float, norm: float) -> None:
        """Take in an update, of all processes, and warn where it is time to."""
        self.num_zero = self.num_zero + 1 if norm == 0 else 0
        if self.num_zero == ZERO_UPDATES:
            self.warn(
                "zero",
                f"the gradient is exactly 0 at update {update}, so nothing is learned: lower --learning_rate if the "
                "loss has risen, else look at what is trained in receipt.json",
            )
        if len(self.first) < START_UPDATES:
            self.first.append(loss)
            return
        start = sum(self.first) / len(self.first)
        self.num_above = self.num_above + 1 if loss > max(self.first) else 0
        self.num_far = self.num_far + 1 if loss > start + max(abs(start), FAR_NATS) else 0
        if self.num_above == LONG or self.num_far == FAR:
            self.warn(
                "loss",
                f"at update {update} the loss is {loss:.3f}, above its start ({start:.3f}) for "
                f"{max(self.num_above, self.num_far)} updates in a row; lower --learning_rate",
            )

    def warn(self, what: str, text: str) -> None:
        """Log a warning, the first time only."""
        if what not in self.warned:
            self.warned.add(what)
            logger.warning(text)


def rate_warning(rate: float, optimizer: str, *, is_soft_prompt: bool = False) -> str | None:
    """What is to be said of a peak learning rate that is out of reason; None for any other.

    optimizer: as --optim names it.
    """
    largest = LARGEST_SOFT_PROMPT_RATE if is_soft_prompt else LARGEST_RATE
    largest = LARGEST_SGD_RATE if optimizer == "sgd" else largest
    if rate > largest:
        return f"learning rate {rate:g} moves every weight by more than its size in each update; 1e-5 to 1e-3 is usual"
    if rate < SMALLEST_RATE:
        return f"learning rate {rate:g} is too small to move a weight; 1e-5 to 1e-3 is usual"
    return None
