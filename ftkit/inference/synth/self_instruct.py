"""Self-instruct: a model is shown some tasks, writes another, and answers it.

Source: Wang et al. 2023, arXiv:2212.10560; the pool of examples grows with what is kept.
"""

from collections.abc import Sequence

from ftkit.inference.synth import prompts
from ftkit.inference.synth.items import Ask, Draft, Dropped, Item, Material, Steps, Way, conversation, user
from ftkit.inference.synth.replies import cleaned, first_part

NUM_EXAMPLES, NUM_OWN = 4, 1  # tasks that are shown; of which so many may be synthetic
TASK_TOKENS = 80


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """A task after examples that are drawn from the seeds and from what is kept."""
    draw = material.draw(number)
    own = draw.sample(range(len(kept)), min(NUM_OWN, len(kept)))
    places = draw.sample(range(len(material.seeds)), min(NUM_EXAMPLES - len(own), len(material.seeds)))
    seeds = [material.seeds[place] for place in places]
    examples = [seed.text for seed in seeds] + [kept[place].question for place in own]
    draw.shuffle(examples)
    return Item({"seeds": [seed.source for seed in seeds], "rows": own}, steps(examples))


def steps(examples: list[str]) -> Steps:
    """Ask for a task, then for its answer."""
    shown = "\n\n".join(f"Task: {' '.join(example.split())}" for example in examples)
    (reply,) = yield Ask([user(prompts.NEW_TASK.format(examples=shown))], way=Way(TASK_TOKENS), may_be_cut=True)
    return (yield from answered(first_part(reply)))


def answered(task: str) -> Steps:
    """The draft of a task and the model's own answer to it; also of the other kinds that make tasks."""
    if not task:
        raise Dropped("no task in the reply")
    (reply,) = yield Ask([user(task)])
    answer = cleaned(reply)
    return Draft(task, answer, {"messages": conversation(task, answer)})
