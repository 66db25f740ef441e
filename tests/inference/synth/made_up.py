"""A made-up writer: answers every prompt of synthesis by a rule, some badly, so that filters have work."""

import random
import re

from ftkit.data.index.passages import Passage
from ftkit.inference.completion import Reply

PLACES = ("Orla", "Benn", "Tarsk", "Ulm", "Vane", "Quill", "Rhone", "Sedge", "Pell", "Norr")
THINGS = ("ferry", "museum", "market", "library", "mill", "bridge", "school", "bakery", "tower", "station")


def passages(num: int = 20) -> list[Passage]:
    """Passages, of each of which a question can be asked that no other answers."""
    found = []
    for number in range(num):
        place, thing = PLACES[number % 10], THINGS[number // 10 % 10]
        text = (
            f"The {thing} of {place} opens at {number + 2} in the morning. It was built by people of the valley. "
            f"Tickets cost {3 * number + 5} crowns."
        )
        found.append(Passage(f"guide.md#{number + 1}", text, "guide.md", "Guide", f"{place}", 0, len(text)))
    return found


def written(prompt: str, seed: int) -> str:
    """A reply to a prompt, by what it asks for."""
    draw = random.Random(f"{seed} {prompt}")
    place, thing = draw.choice(PLACES), draw.choice(THINGS)
    if "Write one more task." in prompt or "Rewrite it as a new task" in prompt or "Imagine a person" in prompt:
        kinds = [f"Task 5: Describe the {thing} of {place} to a {draw.choice(THINGS)} keeper.", "ok", "", "As above."]
        return draw.choice(kinds[:1] * 3 + kinds)
    if "Ask a question that this sentence answers" in prompt:
        found = re.findall(r"The (\w+) of (\w+) opens", prompt)[0]
        sentence = prompt.rpartition("answers: ")[2]
        asked = "When does" if "opens" in sentence else "How much is"
        return draw.choice([f"{asked} the {found[0]} of {found[1]}?", "No question here."])
    if "Answer in a few words: " in prompt:
        text, _, question = prompt.rpartition("Answer in a few words: ")
        return re.search(r"at \d+ in the morning" if "When" in question else r"\d+ crowns", text)[0]
    if "Think step by step" in prompt:
        a, b = map(int, re.findall(r"\d+", prompt)[:2])
        return (
            f"There are {a} and {b} of them.\nTogether {a} + {b} make {a + b}.\n#### {a + b + draw.choice([0, 0, 1])}"
        )
    if "Reply with A, B or tie" in prompt:
        first, second = re.findall(r"<answer_[AB]>\n(.*?)\n</answer", prompt, flags=re.DOTALL)
        return "A" if len(first) > len(second) else "B"
    if "whole number from 0 to 100" in prompt:
        return str(min(100, 10 * len(re.search(r"<answer>\n(.*?)\n</answer>", prompt, flags=re.DOTALL)[1].split())))
    return draw.choice(
        [f"The {thing} of {place} is old and stands by the river.", f"It is in {place}.", "I cannot help."]
    )


class Writer:
    """Stands for a server: each reply depends on its own request alone. stops_at: raises there, as a kill does."""

    def __init__(self, stops_at: int | None = None):
        self.num_asked, self.stops_at = 0, stops_at

    def replies(self, requests, missing, limit):
        for place in missing:
            if self.num_asked == self.stops_at:
                raise KeyboardInterrupt
            self.num_asked += 1
            yield place, Reply(written(requests[place].messages[-1]["content"], requests[place].seed), "", 7, 3, "stop")


class BatchWriter(Writer):
    """Stands for a local model: a reply depends on its whole batch, which is answered whole."""

    def replies(self, requests, missing, limit):
        batch = hash_of(requests)
        for place, request in enumerate(requests):
            if self.num_asked == self.stops_at:
                raise KeyboardInterrupt
            self.num_asked += 1
            yield place, Reply(written(request.messages[-1]["content"], batch + place), "", 7, 3, "stop")


def hash_of(requests) -> int:
    """A number that follows from a batch."""
    return sum(len(str(request)) * (place + 1) for place, request in enumerate(requests)) + requests[0].seed
