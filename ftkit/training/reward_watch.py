"""What to look for while rewards are trained: one warning each, once, and the held-out reward at each evaluation."""

import logging
import math
from collections.abc import Sequence

from accelerate.utils import gather_object
from transformers import TrainerCallback

from ftkit.config.amounts import percent
from ftkit.inference.generation import evaluation_mode
from ftkit.metrics.intervals import bootstrap_interval
from ftkit.training.rewards import columns_of, score, total, weights_of

LOW_ENTROPY = 0.1  # of what it was at the start
HIGH_KL = 10.0  # nats per answer token are beyond any use
MOST_CUT, MOST_EQUAL = 0.5, 0.8  # shares of the answers, and of the groups
LENGTH_FACTOR = 1.5  # answers became so much longer, or shorter, while the reward rose
FIRST = 3  # log lines that are the start
EVAL_PROMPTS = 64  # held-out prompts asked at an evaluation
EVAL_SEED = 17

logger = logging.getLogger(__name__)


class NoExplosion:
    """In the place of `ftkit.training.explosion`: the loss of a policy gradient is about 0 whatever is learned."""

    def __init__(self):
        self.first: list[float] = []

    def watch(self, update: int, loss: float, norm: float) -> None:
        """Nothing: RewardWatch looks at the rewards."""


class RewardWatch(TrainerCallback):
    """Warns of a policy that collapses, drifts, learns lengths alone, or has nothing left to learn."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.start: dict[str, list[float]] = {}
        self.warned: set[str] = set()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not logs or "reward" not in logs or not state.is_world_process_zero:
            return
        now = {
            "reward": logs["reward"], "entropy": logs.get("entropy"), "length": logs.get("completions/mean_length"),
            "kl": logs.get("kl"), "cut": logs.get("completions/clipped_ratio"),
            "spread": logs.get("groups_with_spread"),
        }  # fmt: skip
        now = {name: value for name, value in now.items() if value is not None}
        for name, value in now.items():
            if len(self.start.setdefault(name, [])) < FIRST:
                self.start[name].append(value)
        for what, text in self.problems(now):
            if what not in self.warned:
                self.warned.add(what)
                logger.warning("at update %d %s", state.global_step, text)

    def problems(self, now: dict[str, float]) -> list[tuple[str, str]]:
        """What is wrong with the latest numbers: (its name, what is said)."""
        start = {name: sum(values) / len(values) for name, values in self.start.items()}
        found = []
        if "entropy" in now and now["entropy"] < LOW_ENTROPY * start["entropy"]:
            found.append((
                "entropy", f"the entropy is {now['entropy']:.3g} nats per token, from {start['entropy']:.3g}: the "
                f"answers are nearly always the same; lower --learning_rate, or raise {self.trainer.kl_flags}",
            ))  # fmt: skip
        if now.get("kl", 0.0) > HIGH_KL:
            found.append((
                "kl", f"the KL to the start is {now['kl']:.3g} nats per token; raise {self.trainer.kl_flags} or lower "
                "--learning_rate",
            ))  # fmt: skip
        if now.get("cut", 0.0) > MOST_CUT:
            found.append((
                "cut", f"{percent(now['cut'])} of the answers reach --max_completion_length; raise it, or reward "
                "shorter ones (--rewards ... length:-N)",
            ))  # fmt: skip
        if now.get("spread", 1.0) < 1 - MOST_EQUAL:
            found.append((
                "spread", f"{percent(1 - now['spread'])} of the groups have rewards that are all equal, and teach "
                "nothing; give other prompts, or raise --num_generations",
            ))  # fmt: skip
        factor = now.get("length", 1.0) / max(start.get("length", 1.0), 1e-9)
        is_other = factor > LENGTH_FACTOR or factor < 1 / LENGTH_FACTOR
        if (
            is_other
            and now["reward"] > start["reward"]
            and not any("length" in one.name for one in self.trainer.rewards)
        ):
            found.append((
                "length", f"answers have {now['length']:.1f} tokens, from {start['length']:.1f}, while the reward "
                "rose: maybe it pays for the length; look at samples.jsonl",
            ))  # fmt: skip
        return found


class RewardEvaluationMixin:
    """Trainer part: an evaluation answers held-out prompts by `sample_ids(prompts_ids, num_samples, seed)`.

    eval_rows, held_out: the prompts, tokenized, and their rows as read. kl_flags: what holds the policy to its start.
    """

    eval_rows: Sequence[dict] = ()
    held_out: Sequence[dict] = ()
    kl_flags = "--beta"

    def evaluate(self, *args, metric_key_prefix: str = "eval", **kwargs):
        """The mean reward of one sampled answer to each held-out prompt, with its interval."""
        measures = {f"{metric_key_prefix}_{name}": value for name, value in eval_measures(self).items()}
        with evaluation_mode(self.model):  # which TRL asks whether the numbers are of training
            self.log(measures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measures)
        return measures


def eval_measures(trainer) -> dict[str, float]:
    """Of one sampled answer to each of some held-out prompts: the mean reward, its interval, and the share cut."""
    count, own = trainer.accelerator.num_processes, trainer.accelerator.process_index
    asked = list(trainer.eval_rows)[:EVAL_PROMPTS]
    mine, found = asked[own::count], []
    if mine:
        groups = trainer.sample_ids([row["prompt_ids"] for row in mine], 1, trainer.args.seed + EVAL_SEED)
        rows = [trainer.held_out[row["place"]] for row in mine]
        rewards = scored(trainer.rewards, rows, [group[0].text for group in groups])
        found = [(reward, group[0].is_ended, len(group[0].ids)) for reward, group in zip(rewards, groups, strict=True)]
    if count > 1:
        found = gather_object(found)
    known = [reward for reward, _, _ in found if not math.isnan(reward)]
    if not known:
        return {}
    low, high = bootstrap_interval(known) if len(set(known)) > 1 else (known[0], known[0])
    return {
        "reward": sum(known) / len(known), "reward_low": low, "reward_high": high,
        "share_cut": sum(not ended for _, ended, _ in found) / len(found),
        "mean_length": sum(length for _, _, length in found) / len(found),
    }  # fmt: skip


def scored(rewards, rows: list[dict], texts: list[str]) -> list[float]:
    """The weighted sum of each answer's rewards, NaN where it has none. rows: of `ftkit.data.rows.prompts`."""
    found = score(rewards, [row["prompt"] for row in rows], texts, columns_of(rows))
    return total(found, weights_of(rewards)).tolist()
