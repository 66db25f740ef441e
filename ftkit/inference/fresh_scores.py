"""Scores of a saved reward model from a process that knows nothing but its folder: what anyone who loads it will get.

scores = scores_in_fresh_process("runs/reward", conversations, {"dtype": "float32"})
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.launch import without_launcher


def scores_in_fresh_process(folder: str, conversations: list[list[dict]], loading: dict) -> list[float]:
    """What `scores_here` gives in a new Python process, with as many threads and the same precision of products.

    Raises UserError, with the last line that it printed, where it fails.
    """
    import torch

    job = {
        "arguments": [folder, conversations, loading],
        "num_threads": torch.get_num_threads(), "precision": torch.get_float32_matmul_precision(),
    }  # fmt: skip
    environment = without_launcher()
    paths = [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    done = subprocess.run(
        [sys.executable, "-m", "ftkit.inference.fresh_scores"],
        input=json.dumps(job), capture_output=True, text=True, env=environment,
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").split("\n")[-1]
        raise UserError(f"{folder}: the saved model can't be read again ({reason}); the checkpoints are whole")
    return json.loads(done.stdout.strip().split("\n")[-1])


def scores_here(folder: str, conversations: list[list[dict]], loading: dict) -> list[float]:
    """The scores of conversations by a folder's reward model, in this process. loading: of `load_reward_model`."""
    from ftkit.inference.reward_model import load_reward_model

    return load_reward_model(folder, **loading).scores(conversations)


def main() -> None:
    """Do the job on stdin; the last line of stdout is the scores."""
    import torch

    from ftkit.config.quiet import quiet_libraries

    job = json.load(sys.stdin)
    quiet_libraries()
    torch.set_num_threads(job["num_threads"])
    torch.set_float32_matmul_precision(job["precision"])
    print("\n" + json.dumps(scores_here(*job["arguments"])))


if __name__ == "__main__":
    main()
