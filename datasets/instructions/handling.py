"""Families that handle given words and numbers: capital letters, picking, sorting, spelling out."""

from rows import Family, alternate, phrase, rank, ranked

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen".split()
)
MAX_UPPER_CASE_LENGTH = 6  # longer words are many tokens in capitals
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def everyday_words(sources) -> list[str]:
    """Common nouns, verbs and adjectives of 3 to 8 letters."""
    words = {word for letter in "nva" for word in sources.common(letter, 15) if len(word) <= 8}
    return sorted(words)


def upper_case(sources) -> Family:
    phrasings = [
        "Write this word in capital letters.",
        "Convert the word to upper case.",
        "Rewrite the word with all letters capitalized.",
    ]

    def rows(keep):
        for word in ranked(filter(keep, everyday_words(sources)), "upper"):
            if len(word) > MAX_UPPER_CASE_LENGTH:
                continue
            yield {"instruction": phrase(phrasings, "upper", word), "input": word, "output": word.upper()}

    return Family(rows)


def word_lists(words: list[str], size: int, salt: str) -> list[list[str]]:
    """Lists of `size` words with different first letters; each word is used at most twice."""
    lists = []
    for turn in range(2):
        order = ranked(words, salt, turn)
        for start in range(0, len(order) - size + 1, size):
            group = order[start : start + size]
            if len({word[0] for word in group}) == size:
                lists.append(group)
    return lists


def pick_word(sources) -> Family:
    tasks = [
        (0, ["What is the first word of this list?", "Give only the first word of the list."]),
        (-1, ["What is the last word of this list?", "Give only the last word of the list."]),
    ]

    def rows(keep):
        for group in word_lists(list(filter(keep, everyday_words(sources))), 4, "pick"):
            position, phrasings = tasks[rank("which", *group) % 2]
            instruction = phrase(phrasings, "pick", *group)
            yield {"instruction": instruction, "input": ", ".join(group), "output": group[position]}

    return Family(rows)


def sort_words(sources) -> Family:
    phrasings = [
        "Sort these words alphabetically.",
        "Put the words in alphabetical order.",
        "Order these words from A to Z.",
    ]

    def rows(keep):
        for group in word_lists(list(filter(keep, everyday_words(sources))), 3, "sort"):
            if group != sorted(group):
                instruction = phrase(phrasings, "sort", *group)
                yield {"instruction": instruction, "input": ", ".join(group), "output": ", ".join(sorted(group))}

    return Family(rows)


def spell_number(number: int) -> str:
    """0 to 999 in American English: 215 is "two hundred fifteen"."""
    hundreds, rest = divmod(number, 100)
    words = [f"{ONES[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        words.append(TENS[rest // 10] + (f"-{ONES[rest % 10]}" if rest % 10 else ""))
    elif rest or not hundreds:
        words.append(ONES[rest])
    return " ".join(words)


def number_words(sources) -> Family:
    phrasings = ["Write this number in words.", "Spell out the number.", "How is this number written in words?"]
    numbers = alternate(ranked(range(10, 100), "number"), ranked(range(100, 1000), "number"))

    def rows(keep):
        for number in numbers:
            if keep(str(number)):
                yield {"instruction": phrase(phrasings, number), "input": str(number), "output": spell_number(number)}

    return Family(rows)


def families(sources) -> dict[str, Family]:
    return {function.__name__: function(sources) for function in (upper_case, pick_word, sort_words, number_words)}
