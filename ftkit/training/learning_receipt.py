"""The learning receipt: whether reinforcement learning can teach this model anything here, found before step 1.

    receipt = learning_receipt(groups, num_generations)        # groups: of each prompt its answers with their rewards
    check_learning(receipt)                                    # UserError where no group can teach

A group teaches by the differences between its rewards alone. pass@k is the unbiased estimate of Chen et al. 2021
(arXiv:2107.03374, equation 1): the share of prompts of which one of k answers has the highest reward that there is.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from ftkit.config.amounts import percent
from ftkit.config.errors import UserError

MOST_CUT = 0.5  # of the answers: then lengths are learnt, and little else
TOO_EASY = 0.9  # of the answers that have the highest reward
FEW_WITH_SPREAD = 0.2  # of the groups: then most of a run is spent on sampling
NUM_SHOWN = 3
SAME = 1e-6  # rewards that differ by less are equal

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """A sampled answer to a prompt. reward: the weighted sum, NaN where none was given."""

    prompt: str
    text: str
    reward: float
    is_ended: bool
    num_tokens: int


def pass_at_k(num_answers: int, num_right: int, k: int) -> float:
    """The chance that one of k of the answers, drawn without putting back, is right: unbiased for k new answers."""
    return 1.0 - comb(num_answers - num_right, k) / comb(num_answers, k)


def has_spread(rewards: Sequence[float]) -> bool:
    """Whether the rewards of a group differ; missing ones say nothing."""
    known = [reward for reward in rewards if not math.isnan(reward)]
    return len(known) > 1 and max(known) - min(known) > SAME


def learning_receipt(groups: Sequence[Sequence[Answer]], num_generations: int) -> dict:
    """What the groups say of the run, JSON-able. groups: as many answers of each prompt as are sampled in training."""
    answers = [answer for group in groups for answer in group]
    known = [answer.reward for answer in answers if not math.isnan(answer.reward)]
    top = max(known, default=0.0)
    scored = [[one.reward for one in group if not math.isnan(one.reward)] for group in groups]
    right = [(len(rewards), sum(top - reward <= SAME for reward in rewards)) for rewards in scored if rewards]
    at = {
        str(k): sum(pass_at_k(number, hits, min(k, number)) for number, hits in right) / max(1, len(right))
        for k in sorted({1, num_generations})
    }
    spread = [has_spread([one.reward for one in group]) for group in groups]
    return {
        "num_prompts": len(groups),
        "num_generations": num_generations,
        "mean_reward": sum(known) / max(1, len(known)),
        "highest_reward": top,
        "pass_at": at,
        "share_with_spread": sum(spread) / max(1, len(groups)),
        "share_cut": sum(not one.is_ended for one in answers) / max(1, len(answers)),
        "share_missing": 1 - len(known) / max(1, len(answers)),
        "mean_tokens": sum(one.num_tokens for one in answers) / max(1, len(answers)),
        "answers": [vars(one) | {"reward": None if math.isnan(one.reward) else one.reward} for one in shown(groups)],
    }


def shown(groups: Sequence[Sequence[Answer]]) -> list[Answer]:
    """Three answers for a person: the best, the worst and one between them, of different prompts where there are."""
    ranked = sorted(
        (answer for group in groups for answer in group if not math.isnan(answer.reward)), key=lambda one: one.reward
    )
    if not ranked:
        return [group[0] for group in groups[:NUM_SHOWN]]
    found: list[Answer] = []
    for pool in (reversed(ranked), ranked, ranked[len(ranked) // 2 :]):
        pool = list(pool)
        others = [one for one in pool if one.prompt not in {other.prompt for other in found}]
        found.append((others or pool)[0])
    return list({id(one): one for one in found}.values())


def check_learning(receipt: dict, *, may_start: bool = False) -> None:
    """Raise UserError where nothing can be learned; a warning where little can. may_start: warn only."""
    problem = why_not(receipt)
    if problem and not may_start:
        raise UserError(f"{problem}, or pass --start_anyway")
    if problem:
        logger.warning("%s", problem)
    elif receipt["pass_at"]["1"] > TOO_EASY and receipt["share_with_spread"] < 1 - TOO_EASY / 2:
        logger.warning(
            "too easy: %s of the answers have the highest reward already; give harder prompts",
            percent(receipt["pass_at"]["1"]),
        )
    elif receipt["share_with_spread"] < FEW_WITH_SPREAD:
        logger.warning(
            "only %s of the groups have rewards that differ, and the others teach nothing; raise --num_generations, "
            "or choose prompts that are answered rightly now and then",
            percent(receipt["share_with_spread"]),
        )


def why_not(receipt: dict) -> str:
    """Why nothing can be learned, and what to do; "" where something can."""
    if receipt["share_missing"] == 1:
        return "no answer got a reward: every one is missing; look at --rewards"
    if receipt["share_cut"] > MOST_CUT:
        return (
            f"{percent(receipt['share_cut'])} of the answers reach --max_completion_length without an end; raise it, "
            "or teach the model to end first (ftkit sft)"
        )
    if receipt["share_with_spread"] > 0:
        return ""
    if receipt["highest_reward"] - receipt["mean_reward"] > SAME:
        return "nothing to learn: no prompt's answers differ in their rewards; raise --num_generations or --temperature"
    known = f"every answer has the reward {receipt['mean_reward']:g}"
    if receipt["highest_reward"] <= 0:
        return f"RL cannot start here: {known}; SFT first (ftkit sft), until an answer is right now and then"
    return f"nothing to learn: {known}, so the task is too easy; give harder prompts"
