"""A run of two processes in which the loss of the second, and only that, is NaN in the third update.

torchrun --nproc_per_node 2 tests/runs/not_finite_in_one_process.py sft ARGUMENTS
"""

import math
import os
import sys

from ftkit.config.parser import run
from ftkit.runs import lifecycle
from ftkit.runs.recipes import load_recipe

announce = lifecycle.announce


def announce_and_inject(run, method, trainer, *rest):
    announce(run, method, trainer, *rest)
    compute_loss = trainer.compute_loss

    def compute(*args, **kwargs):
        loss = compute_loss(*args, **kwargs)
        is_bad = trainer.state.global_step == 2 and os.environ["RANK"] == "1"
        return loss.detach() + math.nan + 0 * loss if is_bad else loss

    trainer.compute_loss = compute


if __name__ == "__main__":
    lifecycle.announce = announce_and_inject
    sys.exit(run(load_recipe(sys.argv[1]).main, sys.argv[2:]))
