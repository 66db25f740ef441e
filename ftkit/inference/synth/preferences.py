"""Preferences: a better and a worse answer to a question of the seeds.

best-of-n    of several answers, the one that the judge scores highest, and the lowest
judge        two answers, and the judge prefers one of them in both orders
corruption   the answer that stands beside the question, and the same made worse by a rule; no model is asked
"""

from collections.abc import Generator, Sequence

from ftkit.inference.judging import Answered, pair_prompt, parse_choice, parse_score, prompt_text, score_prompt
from ftkit.inference.synth.corruption import corrupted
from ftkit.inference.synth.items import JUDGE, Ask, Draft, Dropped, Item, Material, Seed, Steps, user
from ftkit.inference.synth.replies import cleaned

BEST, JUDGED, CORRUPTED = WAYS = ("best-of-n", "judge", "corruption")
MIN_DISTANCE = 20  # points of 100 between the best answer and the worst


def item(number: int, material: Material, kept: Sequence[Draft]) -> Item:
    """A pair of answers to one seed."""
    seed, way = material.visit(number, material.seeds), material.settings["pairs"]
    origin = {"seeds": [seed.source], "pairs": way}
    if way == CORRUPTED:
        name, worse = corrupted(seed.answer, material.draw(number))
        return Item(origin | {"corruption": name}, corrupted_steps(seed, worse))
    if way == JUDGED:
        return Item(origin, judged_steps(seed))
    return Item(origin, best_steps(seed, material.settings["num_samples"]))


def corrupted_steps(seed: Seed, worse: str) -> Steps:
    """The pair of an answer and its worse form."""
    yield from ()  # nothing is asked
    if not worse:
        raise Dropped("no rule changes the answer", seed.answer)
    return pair(seed, seed.answer, worse)


def judged_steps(seed: Seed) -> Steps:
    """Ask for two answers, then the judge in both orders."""
    first, second = yield from two_answers(seed, 2)
    rows = [Answered(prompt_text(seed.turns), answer) for answer in (first, second)]
    orders = [user(pair_prompt(*rows)), user(pair_prompt(*reversed(rows)))]
    choices = [parse_choice(reply) for reply in (yield Ask(orders, who=JUDGE))]
    known = [choice for choice in choices if choice is not None]
    if len(known) < len(orders):
        raise Dropped("the judge's reply is no choice")
    there, back = known
    if there + back != 1 or there == 0.5:
        raise Dropped("a tie, or the judge contradicts itself", first)
    return pair(seed, *((first, second) if there == 1 else (second, first)))


def best_steps(seed: Seed, num_samples: int) -> Steps:
    """Ask for answers, then for a score of each."""
    answers = yield from two_answers(seed, num_samples)
    asked = [user(score_prompt(Answered(prompt_text(seed.turns), answer))) for answer in answers]
    replies = yield Ask(asked, who=JUDGE)
    scores = [parse_score(reply) for reply in replies]
    scored = [(score, place) for place, score in enumerate(scores) if score is not None]
    if len(replies) < len(answers) or len(scored) < 2:
        raise Dropped("the judge's reply is no score")
    (best, chosen), (worst, rejected) = max(scored, key=lambda one: one[0]), min(scored, key=lambda one: one[0])
    if best - worst < MIN_DISTANCE:
        raise Dropped(f"best and worst are less than {MIN_DISTANCE} points apart", answers[chosen])
    return pair(seed, answers[chosen], answers[rejected])


def two_answers(seed: Seed, num: int) -> Generator[Ask, list[str], list[str]]:
    """Ask for answers; return those that differ. Dropped where there are not two."""
    replies = yield Ask([seed.turns] * num)
    answers = list(dict.fromkeys(filter(None, map(cleaned, replies))))
    if len(answers) < 2:
        raise Dropped("no two answers that differ", *answers)
    return answers


def pair(seed: Seed, chosen: str, rejected: str) -> Draft:
    """The row of a better and a worse answer."""
    columns = {"prompt": seed.turns, "chosen": chosen, "rejected": rejected}
    return Draft(seed.text, chosen, columns, is_new=False)
