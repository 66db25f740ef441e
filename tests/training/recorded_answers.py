"""Answers that are the same for the same call, in the place of sampled ones, and the prompts that they are to."""

import random

from trl import GRPOTrainer

LONGEST = 12
HEADING = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{}\n\n### Response:\n"
)
PROMPTS = [
    f"Write {one}." for one in ("a cat", "the garden", "river", "a blue bottle", "stone", "cloud", "two candles")
]


def recorded(vocabulary: int, end_id: int):
    """A stand-in for a trainer's sampling: answers of 2 to LONGEST tokens, the longest of them cut."""
    calls = [0]

    def generate(self, prompt_ids, *args, **kwargs):
        calls[0] += 1
        found = []
        for place, ids in enumerate(prompt_ids):
            drawn = random.Random(1000 * calls[0] + place + sum(ids))
            length = drawn.randint(2, LONGEST)
            answer = [drawn.randrange(300, vocabulary // 2) for _ in range(length)]
            found.append(answer if length == LONGEST else [*answer[:-1], end_id])
        self.sampled_logps = None
        return (found, None) if isinstance(self, GRPOTrainer) else found

    return generate
