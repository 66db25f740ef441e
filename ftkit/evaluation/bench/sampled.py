"""Items answered several times: one of the samples is chosen, and what each number of samples would be worth.

    Subject(engine, samples=Samples(8, temperature=0.7, chooser=Chooser("majority")))

Without a chooser an item's scores are the means over its samples.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ftkit.data.rows.thoughts import THOUGHT, split_thought
from ftkit.evaluation.bench.scores import SHARES
from ftkit.evaluation.bench.units import GenerationRun, cut_at_stop, mean, noted
from ftkit.evaluation.best_of import NUMBER, TEXT, Choice, Chooser, key_of
from ftkit.evaluation.results import Item, SampleCurve, mean_score
from ftkit.inference.asking import SEEDS, Sampling
from ftkit.metrics.samples import best_of_k, majority_of_k, sizes

SAMPLES = "samples"  # of an item, in its `extra`
ANY, MAJORITY, BEST = "any", "majority", "best"  # ways to choose one of k samples
SEED_STEP = 1_000_003  # between the seeds of two runs: more than there are items


@dataclass(frozen=True)
class Samples:
    """How often each item is answered, and which sample is its answer."""

    num: int
    temperature: float
    chooser: Chooser | None = None
    seed: int = 0


class SampledRun(GenerationRun):
    """As `GenerationRun`, with several samples of each answer."""

    def run(self, unit: list[int]) -> list[Item]:
        """The items of one unit, each from all of its samples."""
        samples, drawn = self.subject.samples, self.draw(unit)
        answers = [[self.answer_of(text) for text, _ in own] for own in drawn]
        choices: Sequence[Choice | None] = [None] * len(unit)
        if samples.chooser:
            asked = [self.asked(self.items[place]) for place in unit]
            chooser = dataclasses.replace(samples.chooser, vote_on=vote_on(self.task.metrics[0]))
            choices = chooser.choose(asked, answers)
        return [self.item(*parts) for parts in zip(unit, drawn, answers, choices, strict=True)]

    def draw(self, unit: list[int]) -> list[list[tuple[str, int | None]]]:
        """For each item of a unit its samples, as they came, with their numbers of tokens."""
        samples = self.subject.samples
        stop = [] if self.is_thinking else self.task.stop
        seed = (samples.seed * SEED_STEP + unit[0]) % SEEDS
        places = [place for place in unit for _ in range(samples.num)]
        if self.subject.endpoint:
            asked = [self.asked(self.items[place]) for place in places]
            endpoint = dataclasses.replace(
                self.subject.endpoint, temperature=samples.temperature, max_tokens=self.task.max_new_tokens,
                stop=tuple(stop),
            )  # fmt: skip
            replies = endpoint.replies(asked, [seed * samples.num + number for number in range(len(asked))])
            found = [(reply.text, reply.output_tokens) for reply in replies]
        else:
            found = self.subject.engine.counted_texts(
                [self.prompts[place] for place in places],
                Sampling(max_new_tokens=self.task.max_new_tokens, temperature=samples.temperature, seed=seed),
                is_plain=not self.by_template, batch_size=self.subject.batch_size, share_prefix=True, stop_strings=stop,
            )  # fmt: skip
        return [found[start : start + samples.num] for start in range(0, len(found), samples.num)]

    @cached_property
    def is_thinking(self) -> bool:
        """Whether the model thinks first, as its greedy answer to the first item shows: no stop text may end that."""
        return bool(self.task.stop) and split_thought(self.replies([0], [])[0])[0] is not None

    def answer_of(self, reply: str) -> str:
        """What is scored of a sample."""
        return cut_at_stop(split_thought(reply)[1], self.task.stop).strip()

    def item(self, place: int, drawn: list[tuple], answers: list[str], choice: Choice | None) -> Item:
        """One item from its samples."""
        item, main = self.items[place], self.task.metrics[0]
        scores = [self.scores_of(answer, item) for answer in answers]
        shown = choice.place if choice else 0
        own = scores[shown] if choice else {name: mean([one[name] for one in scores]) for name in self.task.metrics}
        thought = split_thought(drawn[shown][0])[0]
        extra = {} if thought is None else {THOUGHT: thought}
        extra[SAMPLES] = {
            "answers": answers, "scores": [one[main] for one in scores], "tokens": [number for _, number in drawn],
            "weights": choice.weights if choice else None, "scorer_tokens": choice.num_tokens if choice else 0,
        }  # fmt: skip
        return Item(item.item_id, own, item.prompts[0], answers[shown], item.reference, extra=noted(extra, item))


def vote_on(metric: str) -> str:
    """What must be the same for two samples of a task to say the same."""
    return NUMBER if metric == "numeric_match" else TEXT


def curve(items: Sequence[Item], metric: str, samples: Samples) -> SampleCurve:
    """What k samples of an item are worth in the main metric, for k = 1, 2, 4, ...; intervals are over the items."""
    found = [item.extra[SAMPLES] for item in items]
    ks, by = sizes(samples.num), vote_on(metric)
    scores = [one["scores"] for one in found]
    keys = [[key_of(answer, by) for answer in one["answers"]] for one in found]
    ways = {
        ANY: [[best_of_k(own, k) for own in scores] for k in ks],
        MAJORITY: [[majority_of_k(*pair, k) for pair in zip(keys, scores, strict=True)] for k in ks],
    }
    if samples.chooser and samples.chooser.way == BEST:
        ways[BEST] = [[best_of_k(one["scores"], k, one["weights"]) for one in found] for k in ks]
    written = [number for one in found for number in one["tokens"]]
    num_scored = sum(one["scorer_tokens"] for one in found)
    tokens = None if None in written else (sum(written) + num_scored) / len(written)
    return SampleCurve(
        ks, {name: [mean_score(values, is_share=metric in SHARES) for values in of_k] for name, of_k in ways.items()},
        None if tokens is None else [k * tokens for k in ks],
    )  # fmt: skip
