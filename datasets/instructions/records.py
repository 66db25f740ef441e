"""Families that bring lists, records, dates, times and numbers into another form, or work something out."""

import json
from collections.abc import Iterator

from inflection import regular_plural
from rows import Family, alternate, phrase, rank, ranked
from sentence_words import CITIES, NAMES, OBJECTS, SURNAMES
from sentences import Keep, draws, row

MONTHS = "January February March April May June July August September October November December".split()
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# larger unit, smaller unit, how many of the smaller make one
UNITS = (
    ("days", "hours", 24), ("weeks", "days", 7), ("years", "months", 12), ("feet", "inches", 12), ("yards", "feet", 3),
    ("pounds", "ounces", 16), ("gallons", "quarts", 4), ("dozens", "pieces", 12),
)  # fmt: skip


def json_record(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Write this record as one line of JSON, numbers without quotes.",
        "Convert to a JSON object on one line; keep numbers as numbers.",
    ]
    for name, city, thing, number in draws("json", keep, NAMES, CITIES, OBJECTS):
        if number % 2:
            record = {"name": name, "town": city, "age": 18 + number // 2 % 60}
        else:
            record = {"item": thing, "owner": name, "price": 3 + number // 2 % 95}
        yield row(phrasings, "; ".join(f"{key}: {value}" for key, value in record.items()), json.dumps(record))


def three_things(family: str, keep: Keep) -> Iterator[list[str]]:
    for *things, _ in draws(family, keep, OBJECTS, OBJECTS, OBJECTS):
        if len(set(things)) == 3:
            yield things


def bulleted_list(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Write these words as a list, each on a line of its own after a hyphen.",
        "Turn the words into a list with one hyphen and one word a line.",
    ]
    for things in three_things("bullets", keep):
        yield row(phrasings, ", ".join(things), "\n".join(f"- {thing}" for thing in things))


def comma_line(keep: Keep) -> Iterator[dict]:
    phrasings = [
        'Write the words in one line, with commas and "and" before the last.',
        'Join the words into one phrase, with commas and with "and" before the last one.',
    ]
    for one, two, three in three_things("commas", keep):
        yield row(phrasings, f"{one}\n{two}\n{three}", f"{one}, {two}, and {three}")


def date_format(keep: Keep) -> Iterator[dict]:
    long = ["Write this date with the name of the month, like May 4, 1999.", "Spell out the month, as in May 4, 1999."]
    short = ["Write this date as year-month-day, like 1999-05-04.", "Write the date in figures, as in 1999-05-04."]
    for number in range(400):
        year, month, day = (low + rank("date", number, low) % size for low, size in ((1900, 150), (1, 12), (1, 28)))
        named, figures = f"{MONTHS[month - 1]} {day}, {year}", f"{year}-{month:02d}-{day:02d}"
        if keep(figures):
            yield row(long, figures, named) if number % 2 else row(short, named, figures)


def clock_format(keep: Keep) -> Iterator[dict]:
    to_twelve = ["Write this time with am or pm.", "Change the time from the 24-hour clock to am or pm."]
    to_day = ["Write this time on the 24-hour clock.", "Change the time to the 24-hour form, like 09:30 or 17:30."]
    for minute in ranked(range(24 * 60), "clock"):
        hour, rest = divmod(minute, 60)
        if hour % 12 and keep(f"{hour}:{rest}"):  # twelve o'clock is told in more than one way
            twelve, day = f"{hour % 12}:{rest:02d} {'am' if hour < 12 else 'pm'}", f"{hour:02d}:{rest:02d}"
            yield row(to_twelve, day, twelve) if rank("way", minute) % 2 else row(to_day, twelve, day)


def full_name(keep: Keep) -> Iterator[dict]:
    tasks = [
        (["Give the initials of this person, like J. S.", "Write only the initials, as in J. S."], "{f}. {l}."),
        (["Put the last name first, with a comma between.", "Write the name as in an index: last name, first name."],
         "{last}, {first}"),
        (["Make an address first.last@example.com of this name, in lower case.",
          "Write the mail address first.last@example.com for this person, in lower case."], "{mail}@example.com"),
    ]  # fmt: skip
    for first, last, number in draws("name", keep, NAMES, SURNAMES):
        phrasings, form = tasks[number % 3]
        mail = f"{first}.{last}".lower()
        yield row(phrasings, f"{first} {last}", form.format(f=first[0], l=last[0], first=first, last=last, mail=mail))


def sort_numbers(keep: Keep) -> Iterator[dict]:
    tasks = [
        (["Sort these numbers from small to large.", "Put the numbers in order, the smallest first."], sorted),
        (["Sort these numbers from large to small.", "Put the numbers in order, the largest first."],
         lambda numbers: sorted(numbers, reverse=True)),
        (["Which of these numbers is the largest?", "Give only the largest number."], lambda numbers: [max(numbers)]),
        (["Which of these numbers is the smallest?", "Give only the smallest number."], lambda numbers: [min(numbers)]),
    ]  # fmt: skip
    for draw in range(400):
        numbers = [rank("sort", draw, place) % (99 if draw % 3 else 999) + 1 for place in range(4)]
        text = ", ".join(map(str, numbers))
        phrasings, solve = tasks[draw % 4]
        if len(set(numbers)) == 4 and keep(text) and numbers != solve(numbers):
            yield row(phrasings, text, ", ".join(map(str, solve(numbers))))


def unit_conversion(keep: Keep) -> Iterator[dict]:
    phrasings = [
        "Convert {count} {large} to {small}.",
        "How many {small} are {count} {large}?",
        "Express {count} {large} in {small}.",
    ]
    cases = [[(large, small, size, count) for count in ranked(range(2, 41), large)] for large, small, size in UNITS]
    for large, small, size, count in alternate(*cases):
        if keep(f"{count} {large}"):
            instruction = phrase(phrasings, large, count, large=large, small=small, count=count)
            yield {"instruction": instruction, "input": "", "output": f"{count * size} {small}"}


def alphabet_letter(keep: Keep) -> Iterator[dict]:
    after = ["Which letter comes {n} places after {letter} in the alphabet?"]
    before = ["Which letter comes {n} places before {letter} in the alphabet?"]
    cases = [(place, step) for place in range(26) for step in range(-6, 7) if abs(step) > 1 and 0 <= place + step < 26]
    for place, step in ranked(cases, "alphabet"):
        if keep(f"{ALPHABET[place]} {step}"):
            asked = phrase(after if step > 0 else before, place, step, n=abs(step), letter=ALPHABET[place])
            yield {"instruction": asked, "input": "", "output": ALPHABET[place + step]}


def word_problem(keep: Keep) -> Iterator[dict]:
    for name, thing, number in draws("problem", keep, NAMES, [thing for thing in OBJECTS if regular_plural(thing)]):
        a, b, each = 12 + number % 60, 2 + number // 60 % 9, 2 + number % 12
        things = regular_plural(thing)
        text, answer = [
            (f"{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?", a + b),
            (f"{name} had {a} {things}, but {b} of them are gone. How many {things} are there now?", a - b),
            (f"{name} has {b} rooms with {each} {things} in each. How many {things} are there in all?", b * each),
            (f"Each of {b} people gets {each} {things}, which is all of them. How many {things} were there?", b * each),
        ][number // 540 % 4]
        yield row(["Solve the problem. Answer with the number only.", "Give only the number."], text, str(answer))


RECORDS = (
    json_record, bulleted_list, comma_line, date_format, clock_format, full_name, sort_numbers, unit_conversion,
    alphabet_letter, word_problem,
)  # fmt: skip


def families() -> dict[str, Family]:
    return {function.__name__: Family(function) for function in RECORDS}
