"""Who competes in a bake-off, and what is known of each: what it answered and what it costs, or why it did not run.

OUT/NAME/results.json, items/   what it answered: a run of `ftkit bench`, which `ftkit compare` reads
OUT/NAME/costs.json             what making it and asking it took
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.evaluation.results import FILE
from ftkit.evaluation.verdict.pairing import Run, read_run

COSTS = "costs.json"
ANSWERS = "answers"  # the task of the held-out rows
FORGETTING = "forgetting"  # the probe of what training was not about
WITH_PASSAGE, WITHOUT_PASSAGE = "with the passage", "without the passage"  # tasks of one that was trained to quote
QUOTED = "quoted"  # of an item, in its `extra`: whether all that it quotes is in its passages
SCHEMA = 1


@dataclass(frozen=True)
class Contestant:
    """One way to have a question answered. name: its folder, and how the command line calls it.

    is_trained: whether weights are. searches: whether passages of documents stand in front of a question.
    """

    name: str
    title: str
    is_trained: bool = False
    searches: bool = False


# The simplest first: to make, to ship, and to keep.
CONTESTANTS = {
    one.name: one
    for one in (
        Contestant("prompt", "prompt alone"),
        Contestant("few_shot", "few-shot"),
        Contestant("retrieval", "retrieval", searches=True),
        Contestant("soft_prompt", "soft prompt", is_trained=True),
        Contestant("lora", "LoRA", is_trained=True),
        Contestant("qlora", "QLoRA", is_trained=True),
        Contestant("full", "full fine-tune", is_trained=True),
        Contestant("raft", "retrieval + RAFT", is_trained=True, searches=True),
    )
}


@dataclass
class Costs:
    """What a contestant takes. minutes: to make it, training and index. training_memory_gib: the peak of that; None
    where nothing is trained. memory_gib: the peak of answering. megabytes: to ship beside the base, or instead of it.
    prompt_tokens, answer_tokens, seconds: of an answer, the mean. epochs: passes over the rows.
    found: share of the questions of which a passage that was found holds the answer. quoted: share of the answers whose
    quotes are in the passages word for word, None where nobody quotes.
    """

    minutes: float
    memory_gib: float
    megabytes: float
    prompt_tokens: float
    answer_tokens: float
    seconds: float
    training_memory_gib: float | None = None
    epochs: float | None = None
    found: float | None = None
    quoted: float | None = None
    schema: int = SCHEMA

    def of_thousand(self, price_per_hour: float) -> float:
        """What a thousand answers cost, one batch after the other, on a machine of this price."""
        return 1000 * self.seconds / 3600 * price_per_hour


@dataclass
class Entry:
    """A contestant that ran, with what it answered and takes."""

    contestant: Contestant
    run: Run
    costs: Costs

    @property
    def title(self) -> str:
        """What it is called."""
        return self.contestant.title

    @property
    def task(self):
        """The TaskResult of the held-out questions."""
        return self.run.results.tasks[ANSWERS]

    @property
    def score(self):
        """The Score of its answers by the metric that decides."""
        return self.task.scores[self.task.main_metric]


@dataclass
class LeftOut:
    """A contestant that did not run, and why."""

    contestant: Contestant
    reason: str

    @property
    def title(self) -> str:
        """What it is called."""
        return self.contestant.title


def read_entry(folder: str | Path, contestant: Contestant) -> Entry:
    """What OUT/NAME holds of a contestant that ran. Raises UserError for what can't be read."""
    own = Path(folder) / contestant.name
    raw = read_object(own / COSTS, "delete it, and give the same command again")
    try:
        costs = msgspec.convert(raw, Costs)
    except msgspec.ValidationError as error:
        raise UserError(f"{own / COSTS}: not as a bake-off writes it ({error}); delete it") from error
    if costs.schema != SCHEMA:
        raise UserError(f"{own / COSTS}: schema {costs.schema} is not known; upgrade ftkit")
    return Entry(contestant, read_run(own / FILE), costs)
