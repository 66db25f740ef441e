"""Families about what words mean: kinds, opposites, near-synonyms, definitions, gaps, parts of speech, elements."""

import re

import curated
from rows import Family, alternate, phrase, rank, ranked, word_pairs
from wordnet import PARTS_OF_SPEECH

MAX_DEFINITION_WORDS = 12


def kind_of(sources) -> Family:
    kinds = []
    for noun in ranked(sources.common("n", 1), "kind"):
        answer = sources.wordnet.nearest_class(noun, curated.CLASSES)
        telling = not answer or noun.endswith(answer.split()[-1])  # "rosewood" would give the answer away
        if not telling and sources.is_mainly(noun, "n") and noun not in curated.UNSURE_KIND:
            kinds.append((noun, answer))
    answers = sorted({answer for _, answer in kinds})
    kinds = alternate(*([pair for pair in kinds if pair[1] == answer] for answer in answers))
    phrasings = [
        'What kind of thing is meant by "{word}"?',
        'Which group of things does "{word}" belong to?',
        'Name the category that "{word}" falls under.',
    ]
    return Family(word_pairs("kind_of", kinds, phrasings).rows)  # no pairs: the answers are a small closed set


def antonym(sources) -> Family:
    pairs = []
    for letter in "avnr":
        for word in sources.common(letter):
            opposites = sources.wordnet.lexical_targets(word, letter, "!")
            if len(opposites) == 1 and sources.is_common(opposites[0], letter):
                if not {word, opposites[0]} & curated.UNSURE_ANTONYM:
                    pairs.append((word, opposites[0]))
    several = {word for word, opposite in pairs if any(w == word and o != opposite for w, o in pairs)}
    phrasings = [
        'What is the opposite of "{word}"?',
        'Give a word that means the opposite of "{word}".',
        'Name the antonym of "{word}".',
    ]
    return word_pairs("antonym", ranked({pair for pair in pairs if pair[0] not in several}, "antonym"), phrasings)


def choices(answer: str, others: list[str], *salt) -> str:
    return ", ".join(ranked([answer, *others], "choices", *salt))


def single_part_words(sources, letter: str, min_tags: int = 3) -> list[str]:
    """Common words that WordNet knows as this part of speech only."""
    return [word for word in sources.common(letter, min_tags) if sources.wordnet.parts_of_speech[word] == {letter}]


def synonym_choice(sources) -> Family:
    wordnet, pairs = sources.wordnet, []
    pools = {letter: single_part_words(sources, letter, 8) for letter in "nva"}
    for letter in "nva":
        usable = {w for w in sources.common(letter, 5) if sources.is_mainly(w, letter)} - curated.UNSURE_SYNONYM
        for word in sorted(usable):
            same = [lemma for lemma in wordnet.sense(word, letter).lemmas if lemma != word]
            for other in same[:1]:
                if (
                    other in usable
                    and other[:4] != word[:4]
                    and wordnet.sense(other, letter) == wordnet.sense(word, letter)
                ):
                    pairs.append((word, other, letter))
    pairs = ranked(pairs, "synonym")
    phrasings = [
        'Which of these words means nearly the same as "{word}"?',
        'Choose the word that is closest in meaning to "{word}".',
        'Pick the synonym of "{word}".',
    ]

    def rows(keep):
        asked = set()
        for word, answer, letter in pairs:
            if keep(word) and not asked & {word, answer}:
                asked |= {word, answer}
                others = [other for other in ranked(pools[letter], "other", word)[:60] if keep(other)]
                others = [other for other in others if unrelated(sources, (word, answer), other, letter)][:2]
                instruction = phrase(phrasings, "synonym", word, word=word)
                if len(others) == 2:
                    yield {"instruction": instruction, "input": choices(answer, others, word), "output": answer}

    return Family(rows, [pair[:2] for pair in pairs])


def unrelated(sources, words: tuple[str, ...], other: str, letter: str) -> bool:
    """Whether no sense's definition or example of one names the other: a cheap guard against a second right answer."""
    glosses = {word: sources.wordnet.sense(word, letter).gloss for word in (*words, other)}
    stem = other[: max(4, len(other) - 3)]
    return other not in words and not any(
        stem in glosses[word] or word[: max(4, len(word) - 3)] in glosses[other] for word in words
    )


def short_definition(sources, word: str, letter: str) -> str | None:
    """The first sense's definition if it is short, plain and does not name the word itself."""
    text = sources.wordnet.sense(word, letter).definition.removeprefix("to ")
    stem = word[: max(3, len(word) - 3)]
    plain = re.fullmatch("(?!of or relating|informal|pertaining)[a-z][a-z ,'-]+[a-z]", text)
    return text if plain and stem not in text and 4 <= len(text.split()) <= MAX_DEFINITION_WORDS else None


def defined_words(sources, salt: str) -> list[tuple[str, str, str]]:
    """(word, letter, definition) of common words with one part of speech."""
    found = []
    for letter, min_tags in (("n", 8), ("v", 8), ("a", 6)):
        for word in single_part_words(sources, letter, min_tags):
            definition = short_definition(sources, word, letter)
            if definition and word not in curated.UNSURE_DEFINITION:
                found.append((word, letter, definition))
    return ranked(found, salt)


def word_for_definition(sources) -> Family:
    defined = defined_words(sources, "word for definition")
    phrasings = ["Which of these words means: {definition}?", "Choose the word with this meaning: {definition}."]

    def rows(keep):
        for word, letter, definition in defined:
            if keep(word):
                others = [other for other, other_letter, _ in ranked(defined, word)[:80] if other_letter == letter]
                others = [other for other in others if keep(other) and unrelated(sources, (word,), other, letter)][:2]
                instruction = phrase(phrasings, word, definition=definition)
                if len(others) == 2:
                    yield {"instruction": instruction, "input": choices(word, others, word), "output": word}

    return Family(rows)


def define(sources) -> Family:
    phrasings = ['What does "{word}" mean?', 'Define the word "{word}" in one sentence.', 'Explain the word "{word}".']

    def rows(keep):
        for word, letter, definition in defined_words(sources, "define"):
            if keep(word):
                answer = f'The {PARTS_OF_SPEECH[letter]} "{word}" means: {definition}.'
                yield {"instruction": phrase(phrasings, "define", word, word=word), "input": "", "output": answer}

    return Family(rows)


def fill_gap(sources) -> Family:
    """A gap in an example sentence, and a wrong word of a part of speech that cannot stand there."""
    wrong = {
        letter: ranked([w for other in letters for w in single_part_words(sources, other, 5)], "gap")
        for letter, letters in {"n": "vr", "a": "v", "v": "na"}.items()
    }
    pool = []
    for letter in "nva":
        for word in sources.common(letter, 3):
            for example in sources.wordnet.sense(word, letter).examples[:1]:
                sentence = complete_sentence(example)
                if sentence and word in re.findall("[a-z]+", sentence) and sources.is_clean(example):
                    pool.append((word, letter, re.sub(rf"\b{word}\b", "____", sentence)))
    pool = [item for item in ranked(pool, "gap") if item[2].count("____") == 1]
    phrasings = ["Choose the word that fills the gap: {sentence}", "Which of the two words fits here? {sentence}"]

    def rows(keep):
        for word, letter, sentence in pool:
            if keep(word) and word not in curated.UNSURE_GAP:
                other = min((w for w in wrong[letter] if keep(w)), key=lambda w, word=word: rank(word, w))
                instruction = phrase(phrasings, word, sentence=sentence)
                yield {"instruction": instruction, "input": choices(word, [other], word), "output": word}

    return Family(rows)


def complete_sentence(example: str) -> str | None:
    """The example as a sentence, if it starts with a personal pronoun and so very likely is one."""
    if not re.fullmatch(r"(he|she|they|we|you|it|i|I) [a-z' ]+[.]?", example) or not 5 <= len(example.split()) <= 12:
        return None
    return example[0].upper() + example[1:].rstrip(".") + "."


def part_of_speech(sources) -> Family:
    minimum = {"n": 8, "v": 8, "a": 5, "r": 4}
    words = {
        letter: [word for word in ranked(single_part_words(sources, letter, minimum[letter]), "part")
                 if not re.search("(ed|ing)$", word) and word not in curated.UNSURE_PART] for letter in "nvar"
    }  # fmt: skip
    pairs = alternate(*([(word, PARTS_OF_SPEECH[letter]) for word in words[letter]] for letter in "nvar"))
    phrasings = [
        "Is this word a noun, a verb, an adjective or an adverb?",
        "Name the part of speech of this word: noun, verb, adjective or adverb.",
        "Which part of speech is this word?",
    ]
    return Family(word_pairs("part_of_speech", pairs, phrasings, in_input=True).rows)


def element_symbol(sources) -> Family:
    symbol = ['What is the chemical symbol of "{word}"?', 'Write the symbol of the chemical element "{word}".']
    name = ['Which chemical element has the symbol "{word}"?', 'Name the chemical element written "{word}".']
    elements = [(name.lower(), symbol) for symbol, name in sources.elements[: curated.NUM_ELEMENTS]]
    elements = [pair for pair in elements if pair[0] not in curated.BRITISH_ELEMENTS]

    def rows(keep):
        for element, sign in ranked(elements, "element"):
            if keep(element):
                yield {"instruction": phrase(symbol, element, word=element), "input": "", "output": sign}
                yield {"instruction": phrase(name, sign, word=sign), "input": "", "output": element}

    return Family(rows, elements)


def families(sources) -> dict[str, Family]:
    made = (kind_of, antonym, synonym_choice, word_for_definition, define, fill_gap, part_of_speech, element_symbol)
    return {function.__name__: function(sources) for function in made}
