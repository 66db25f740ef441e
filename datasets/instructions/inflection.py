"""Families about forms of one word: past tense, participle, -ing form, plural, adverb, comparative."""

import re

import curated
from rows import Family, alternate, ranked, word_pairs

VOWELS = "aeiou"
CONCRETE = (5, 6, 18)  # WordNet's lexicographer files for animals, made things and people
PHRASINGS = {
    "past_tense": [
        'What is the past tense of the verb "{word}"?',
        'Give the simple past form of "{word}".',
        'Put the verb "{word}" into the past tense.',
        'Write the past tense of "{word}".',
    ],
    "ing_form": [
        'What is the -ing form of the verb "{word}"?',
        'Write the present participle of "{word}".',
        'Add -ing to the verb "{word}".',
    ],
    "past_participle": [
        'What is the past participle of the verb "{word}"?',
        'Give the past participle of "{word}".',
        'Complete with the right form of "{word}": I have ... before.',
    ],
    "plural": [
        'What is the plural of "{word}"?',
        'Write the plural form of the noun "{word}".',
        'How do you write "{word}" when there are two or more?',
    ],
    "adverb": [
        'Which adverb is made from the adjective "{word}"?',
        'Turn the adjective "{word}" into an adverb.',
        'Write the adverb that belongs to "{word}".',
    ],
    "comparative": [
        'What is the comparative of "{word}"?',
        'Give the comparative form of the adjective "{word}".',
        'Complete with the right form of "{word}": this one is ... than that one.',
    ],
}


def doubles(verb: str, sources) -> bool | None:
    """Whether the last consonant doubles before -ing and -ed; None where British and American English differ."""
    if not re.fullmatch(f"[a-z]*[^{VOWELS}][{VOWELS}y][^{VOWELS}wxy]|[a-z]*qu[{VOWELS}][^{VOWELS}wxy]", verb):
        return False
    if len(re.findall(f"[{VOWELS}y]+", verb)) == 1:
        return True
    if verb.endswith("l"):
        return None
    return verb in sources.doubling_verbs or verb in curated.STRESSED_END


def regular_past(verb: str, sources) -> str | None:
    if doubles(verb, sources) is None or verb.endswith("c"):
        return None
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    return verb + (verb[-1] if doubles(verb, sources) else "") + "ed"


def ing_form(verb: str, sources) -> str | None:
    if doubles(verb, sources) is None or verb.endswith(("c", "inge", "age", "ye", "oe")):
        return None
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if doubles(verb, sources) else "") + "ing"


def regular_plural(noun: str) -> str | None:
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in VOWELS:
        return noun[:-1] + "ies"
    return None if noun.endswith(("o", "f", "fe", "man")) else noun + "s"


def plain_last(pairs: list[tuple[str, str]], ending: str) -> list[tuple[str, str]]:
    """Pairs where a spelling rule applies and pairs that only add the ending, in turn: rules are worth more."""
    changed = [pair for pair in pairs if pair[1] != pair[0] + ending]
    return alternate(changed, [pair for pair in pairs if pair[1] == pair[0] + ending])


def common_verbs(sources) -> list[str]:
    verbs = [verb for verb in sources.common("v") if sources.is_mainly(verb, "v") and verb not in curated.UNSURE_VERB]
    return ranked(verbs, "verbs")


def irregular_forms(sources, position: int) -> list[tuple[str, str]]:
    """Verb and past tense (position 0) or past participle (1), where all variants of the package agree."""
    table = sources.irregular_verbs
    return [
        (verb, table[verb][0][position])
        for verb in common_verbs(sources)
        if verb in table and len({forms[position] for forms in table[verb]}) == 1
    ]


def regular_forms(sources) -> list[tuple[str, str]]:
    pairs = [
        (verb, regular_past(verb, sources))
        for verb in common_verbs(sources)
        if verb not in sources.irregular_verbs and sources.wordnet.first_sense[verb, "v"][1] >= 12
    ]
    return [pair for pair in pairs if pair[1]]


def past_forms(sources, position: int) -> list[tuple[str, str]]:
    """Irregular verbs, regular ones where a spelling rule applies, and plain -ed, in turn."""
    irregular, regular = irregular_forms(sources, position), regular_forms(sources)
    changed = [pair for pair in regular if pair[1] != pair[0] + "ed"]
    return alternate(irregular, changed, [pair for pair in regular if pair not in changed])


def past_tense(sources) -> list[tuple[str, str]]:
    return past_forms(sources, 0)


def past_participle(sources) -> list[tuple[str, str]]:
    return past_forms(sources, 1)


def ing_forms(sources) -> list[tuple[str, str]]:
    verbs = [verb for verb in common_verbs(sources) if sources.wordnet.first_sense[verb, "v"][1] >= 6]
    return plain_last([(verb, ing_form(verb, sources)) for verb in verbs if ing_form(verb, sources)], "ing")


def plural(sources) -> list[tuple[str, str]]:
    irregular = [
        (noun, plural)
        for noun, plural in ranked(sources.plurals.items(), "plural")
        if sources.is_common(noun, "n", 1)
        and (noun not in curated.UNSURE_PLURAL or noun in curated.SURE_PLURAL)
        and (noun != plural or noun in curated.SAME_IN_PLURAL)
    ]
    regular = [
        (noun, regular_plural(noun))
        for noun in ranked(sources.common("n", 5), "plural")
        if sources.wordnet.sense(noun, "n").lexical_file in CONCRETE
        and sources.is_mainly(noun, "n")
        and not (noun.endswith("s") and (noun[:-1], "n") in sources.wordnet.first_sense)
        and sources.wordnet.parts_of_speech[noun] <= {"n", "v"}
        and noun not in sources.plurals
        and noun not in curated.NOT_COUNTABLE | curated.UNSURE_PLURAL
        and regular_plural(noun)
    ]
    changed = [pair for pair in regular if pair[1] != pair[0] + "s"]
    return alternate(irregular, changed, [pair for pair in regular if pair not in changed])


def adverb(sources) -> list[tuple[str, str]]:
    """Adjective and the -ly adverb that WordNet derives from it."""
    adverbs = {}
    for word in ranked(sources.common("r", 2), "adverb"):
        if word.endswith("ly"):
            for adjective in sources.wordnet.lexical_targets(word, "r", "\\"):
                if sources.is_common(adjective, "a", 2) and adjective[:2] == word[:2]:
                    adverbs.setdefault(adjective, word)
    return plain_last([pair for pair in adverbs.items() if pair[0] not in curated.UNSURE_ADVERB], "ly")


def comparative(sources) -> list[tuple[str, str]]:
    pairs = ranked(curated.COMPARATIVES.items(), "comparative")
    return [pair for pair in pairs if (pair[0], "a") in sources.wordnet.first_sense]


def families(sources) -> dict[str, Family]:
    made = {
        "past_tense": past_tense, "past_participle": past_participle, "ing_form": ing_forms, "plural": plural,
        "adverb": adverb, "comparative": comparative,
    }  # fmt: skip
    return {name: word_pairs(name, pairs(sources), PHRASINGS[name]) for name, pairs in made.items()}
