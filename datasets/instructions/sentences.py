"""Families that rewrite, read or judge a whole sentence."""

from collections.abc import Callable, Iterator

from rows import Family, phrase, rank
from sentence_words import BAD, CITIES, GOOD, NAMES, OBJECTS, VERBS

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NUM_DRAWS = 600  # sentences drawn for a family, before it takes the number it needs

Keep = Callable[[str], bool]


def draws(family: str, keep: Keep, *pools: list[str]) -> Iterator[tuple]:
    """Tuples of one word from each pool, only words of the split, and a number that depends on the draw."""
    kept = [[word for word in pool if keep(word.lower())] for pool in pools]
    for number in range(NUM_DRAWS):
        words = [pool[rank(family, number, place) % len(pool)] for place, pool in enumerate(kept)]
        yield *words, rank(family, number, "number")


def third_person(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "ch", "sh")) else "s")


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" and not word.startswith("use") else "a"


def ending(number: int) -> str:
    """Nothing, or a place or time that makes the sentence longer."""
    return ["", " on " + DAYS[number // 8 % 7], " every " + DAYS[number // 8 % 7], " in the evening"][number % 4]


def row(phrasings: list[str], text: str, output: str) -> dict:
    return {"instruction": phrase(phrasings, text), "input": text, "output": output}


def past_sentence(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Put the sentence into the past tense.",
        "Rewrite this sentence in the simple past.",
        "Say that this happened before: use the past tense.",
    ]
    for name, verb, thing, _ in draws("past", keep, NAMES, list(VERBS), OBJECTS):
        yield row(phrasings, f"{name} {third_person(verb)} the {thing}.", f"{name} {VERBS[verb][0]} the {thing}.")


def question_sentence(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Turn the statement into a question.",
        "Rewrite this as a yes-or-no question.",
        "Ask whether this is so.",
    ]
    for name, verb, thing, number in draws("question", keep, NAMES, list(VERBS), OBJECTS):
        form, helper = (VERBS[verb][0], "Did") if number % 2 else (third_person(verb), "Does")
        yield row(phrasings, f"{name} {form} the {thing}.", f"{helper} {name} {verb} the {thing}?")


def negative_sentence(keep: Keep) -> Iterator[dict]:
    phrasings = ["Make the sentence negative.", 'Rewrite the sentence with "not".', 'Say the opposite with "not".']
    for name, verb, thing, number in draws("negative", keep, NAMES, list(VERBS), OBJECTS):
        form, helper = (VERBS[verb][0], "did") if number % 2 else (third_person(verb), "does")
        yield row(phrasings, f"{name} {form} the {thing}.", f"{name} {helper} not {verb} the {thing}.")


def passive_sentence(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Rewrite the sentence in the passive voice.",
        "Change this sentence to the passive.",
        "Make it passive.",
    ]
    for name, verb, thing, _ in draws("passive", keep, NAMES, list(VERBS), OBJECTS):
        yield row(phrasings, f"{name} {VERBS[verb][0]} the {thing}.", f"The {thing} was {VERBS[verb][1]} by {name}.")


def fix_capitals(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Correct the capital letters and end with a full stop.",
        "Write this as a proper sentence, with capitals and a full stop.",
        "Fix the capitalization and punctuation.",
    ]
    for name, verb, thing, city, number in draws("capitals", keep, NAMES, list(VERBS), OBJECTS, CITIES):
        text = f"{name} {VERBS[verb][0]} the {thing} in {city}" + (f" on {DAYS[number % 7]}" if number % 3 else "")
        yield row(phrasings, text.lower(), text + ".")


def count_words(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "How many words does this sentence have?",
        "Count the words of the sentence.",
        "Give the number of words.",
    ]
    for name, verb, thing, number in draws("count", keep, NAMES, list(VERBS), OBJECTS):
        start = ["", "then ", "after that ", "this time "][number // 32 % 4]
        text = f"{start}{name} {VERBS[verb][0]} the {thing}{ending(number)}."
        yield row(phrasings, text[0].upper() + text[1:], str(len(text.split())))


def sentence_type(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Is this a statement, a question or a command? The end mark is left out.",
        "Name the kind of sentence, whose end mark is missing: statement, question or command.",
    ]
    for name, verb, thing, number in draws("type", keep, NAMES, list(VERBS), OBJECTS):
        kinds = {
            "statement": [f"{name} {VERBS[verb][0]} the {thing}", f"{name} will {verb} the {thing}"],
            "question": [f"did {name} {verb} the {thing}", f"why did {name} {verb} the {thing}"],
            "command": [f"{verb} the {thing} for {name}", f"never {verb} the {thing}"],
        }
        kind = sorted(kinds)[number % 3]
        text = kinds[kind][number // 3 % 2]
        yield row(phrasings, text[0].upper() + text[1:], kind)


def sentiment(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Is this opinion positive or negative?",
        "Classify the review as positive or negative.",
        "Does the writer like it? Answer positive or negative.",
    ]
    for good, bad, thing, name, number in draws("sentiment", keep, GOOD, BAD, OBJECTS, NAMES):
        word, answer = (good, "positive") if number % 2 else (bad, "negative")
        text = [
            f"The {thing} is {word}.",
            f"What {article(word)} {word} {thing}!",
            f"{name} says that the {thing} is {word}.",
            f"I had {article(word)} {word} {thing} from them.",
        ][number // 2 % 4]
        yield row(phrasings, text, answer)


def extract_detail(keep: Keep) -> Iterator[dict]:
    questions = {
        "name": ["Who is it about? Answer with the name.", "Extract the name of the person."],
        "city": ["In which city is it? Answer with the city.", "Extract the name of the city."],
        "thing": ["Which thing has a price? Answer with one noun.", "Extract the thing with a price."],
        "price": ["How many dollars is it? Answer with the number.", "Extract the price as a number."],
        "day": ["On which day is it? Answer with the day.", "Extract the day of the week."],
    }
    for name, thing, city, number in draws("extract", keep, NAMES, OBJECTS, CITIES):
        price, day = 5 + number % 90, DAYS[number // 90 % 7]
        text = [
            f"On {day} {name} paid {price} dollars in {city} for {article(thing)} {thing}.",
            f"{name} of {city} wants {price} dollars for {article(thing)} {thing} by {day}.",
            f"By {day} {article(thing)} {thing} for {price} dollars goes from {city} to {name}.",
        ][number // 700 % 3]
        found = {"name": name, "city": city, "thing": thing, "price": str(price), "day": day}
        wanted = list(found)[number // 2100 % 5]
        yield row(questions[wanted], text, found[wanted])


SENTENCES = (
    past_sentence, question_sentence, negative_sentence, passive_sentence, fix_capitals, count_words, sentence_type,
    sentiment, extract_detail,
)  # fmt: skip


def families() -> dict[str, Family]:
    return {function.__name__: Family(function) for function in SENTENCES}
