"""Families where one answer is right, the other right for the twin's prompt only: meaning, form, order, element."""

import re

import handling
import inflection
import meaning
import wordlists
from rows import alternate, phrase, rank, ranked
from twins import Family, Twin, couples, nearest_couples

MAX_LENGTH_GAP = 3  # words by which two definitions of a twin may differ


def definition(sources) -> Family:
    defined = {}  # by definition: two words with the same one would make a twin without a wrong answer
    for item in meaning.defined_words(sources, "prefer"):
        if item[0] not in wordlists.UNSURE_DEFINITION:
            defined.setdefault(item[2], item)
    phrasings = ['What does "{word}" mean?', 'Give the meaning of "{word}".', 'Explain the word "{word}" briefly.']

    def fit(one, other):
        gap = abs(len(one[2].split()) - len(other[2].split()))
        return one[1] == other[1] and gap <= MAX_LENGTH_GAP and meaning.unrelated(sources, one[:1], other[0], one[1])

    def twins(keep):
        for one, other in couples([item for item in defined.values() if keep(item[0])], fit):
            asked = [phrase(phrasings, "prefer", word, word=word) for word in (one[0], other[0])]
            yield Twin(asked[0], "", f"It means: {one[2]}.", asked[1], "", f"It means: {other[2]}.")

    return Family(twins)


def close_or_opposite(sources) -> Family:
    check_opposites(sources)
    close = ['Give a word that is close in meaning to "{word}".', 'Which word means nearly the same as "{word}"?']
    far = ['Give a word that means the opposite of "{word}".', 'Which word is the opposite of "{word}"?']

    def twins(keep):
        for word, similar, opposite in ranked(wordlists.CLOSE_AND_OPPOSITE, "close"):
            if keep(word):
                asked = [phrase(phrasings, "close", word, word=word) for phrasings in (close, far)]
                yield Twin(asked[0], "", similar, asked[1], "", opposite)

    return Family(twins, list(wordlists.CLOSE_AND_OPPOSITE))


def check_opposites(sources) -> None:
    """Refuse a hand-picked triple that WordNet lacks: a lemma or neighbour of the first sense, its antonym."""
    wordnet = sources.wordnet
    for word, similar, opposite in wordlists.CLOSE_AND_OPPOSITE:
        found = False
        for letter in "avnr":
            if (word, letter) in wordnet.first_sense:
                synset = wordnet.sense(word, letter)
                near = [lemma for mark, pos, offset, *_ in synset.pointers if mark == "&"
                        for lemma in wordnet.synsets[pos, offset].lemmas]  # fmt: skip
                opposites = wordnet.lexical_targets(word, letter, "!")
                found |= similar in [*synset.lemmas, *near] and opposite in opposites
        if not found:
            raise SystemExit(f"WordNet does not have {similar} beside {word}, or {opposite} against it")


def verb_form(sources) -> Family:
    questions = {
        "past": ['What is the past tense of "{word}"?', 'Give the simple past form of the verb "{word}".'],
        "participle": ['What is the past participle of "{word}"?', 'Give the past participle of the verb "{word}".'],
        "ing": ['What is the -ing form of "{word}"?', 'Give the present participle of the verb "{word}".'],
    }
    past, participle = (dict(inflection.irregular_forms(sources, position)) for position in (0, 1))
    ing = dict(inflection.ing_forms(sources))
    irregular = [
        (verb, "past", past[verb], "participle", participle[verb])
        for verb in past
        if verb in participle and len({verb, past[verb], participle[verb]}) == 3
    ]
    regular = [
        (verb, "past", form, "ing", ing[verb]) for verb, form in inflection.regular_forms(sources) if verb in ing
    ]
    verbs = alternate(ranked(irregular, "prefer"), ranked(regular, "prefer"))

    def twins(keep):
        for verb, one, answer, other, other_answer in verbs:
            if keep(verb):
                asked = [phrase(questions[form], "prefer", verb, word=verb) for form in (one, other)]
                yield Twin(asked[0], "", answer, asked[1], "", other_answer)

    return Family(twins, [(verb, answer, other) for verb, _, answer, _, other in verbs])


def noun_number(sources) -> Family:
    one = ["There is only one ____ in the picture.", "She saw a single ____.", "Have you seen this ____ before?"]
    many = ["There are several ____ in the picture.", "She saw two ____.", "Have you seen these ____ before?"]
    pairs = [
        (noun, plural)
        for noun, plural in inflection.plural(sources)
        if noun != plural and sources.wordnet.sense(noun, "n").lexical_file in inflection.CONCRETE
    ]

    def twins(keep):
        for noun, plural in pairs:
            if keep(noun):
                forms = ", ".join(ranked((noun, plural), "forms"))
                asked = [f"Which form fills the gap? {phrase(gaps, 'number', noun)}" for gaps in (one, many)]
                yield Twin(asked[0], forms, noun, asked[1], forms, plural)

    return Family(twins, pairs)


def kind(sources) -> Family:
    phrasings = [
        'What is meant by "{word}"?',
        'Which group does "{word}" belong to?',
        'What kind of thing is "{word}"?',
    ]
    seen, nouns = set(), []
    for noun in ranked(sources.common("n", 1), "prefer kind"):
        answer = sources.wordnet.nearest_class(noun, wordlists.CLASSES)
        if answer and sources.is_mainly(noun, "n") and noun not in wordlists.UNSURE_KIND and answer not in noun:
            seen.add(answer)
            nouns.append((noun, answer))
    nouns = alternate(*([item for item in nouns if item[1] == answer] for answer in sorted(seen)))

    def differ(one, other):
        return not any({one[1], other[1]} <= group for group in wordlists.CONFUSABLE_KINDS) and one[1] != other[1]

    def near(one, other):
        return differ(one, other) and any({one[1], other[1]} <= realm for realm in wordlists.REALMS)

    def twins(keep):
        for one, other in nearest_couples([item for item in nouns if keep(item[0])], near, differ):
            asked = [phrase(phrasings, "prefer", word, word=word) for word in (one[0], other[0])]
            yield Twin(asked[0], "", it_is(one[1]), asked[1], "", it_is(other[1]))

    return Family(twins)


def it_is(name: str) -> str:
    return f"It is {'an' if name[0] in 'aeio' else 'a'} {name}."


def element(sources) -> Family:
    symbol = ['What is the chemical symbol of "{word}"?', 'Write the symbol of the chemical element "{word}".']
    name = ['Which chemical element has the symbol "{word}"?', 'Name the chemical element written "{word}".']
    known = [(word.lower(), sign) for sign, word in sources.elements[: wordlists.NUM_ELEMENTS]]
    known = [pair for pair in known if pair[0] not in ("aluminium", "caesium")]  # the American spelling is not listed

    def twins(keep):
        items = [pair for pair in ranked(known, "prefer element") if keep(pair[0])]
        for one, other in nearest_couples(items, lambda one, other: one[1][0] == other[1][0], lambda *_: True):
            asked = [phrase(symbol, pair[0], word=pair[0]) for pair in (one, other)]
            yield Twin(asked[0], "", one[1], asked[1], "", other[1])
            asked = [phrase(name, pair[1], word=pair[1]) for pair in (one, other)]
            yield Twin(asked[0], "", one[0], asked[1], "", other[0])

    return Family(twins, known)


def number_words(sources) -> Family:
    phrasings = ["Write this number in words.", "Spell out the number.", "How is this number written in words?"]
    small = [(n, 10 * (n % 10) + n // 10) for n in range(10, 100) if 0 < n % 10 < n // 10]
    large = [(n, n - n % 100 + 10 * (n % 10) + n % 100 // 10) for n in range(100, 1000) if 0 < n % 10 < n % 100 // 10]
    pairs = alternate(ranked(small, "prefer"), ranked(large, "prefer"))

    def twins(keep):
        for pair in pairs:
            if keep(str(pair[0])):
                asked = phrase(phrasings, "prefer", pair[0])
                one, other = pair
                yield Twin(asked, str(one), handling.spell_number(one), asked, str(other), handling.spell_number(other))

    return Family(twins, [(str(one), str(other)) for one, other in pairs])


def sort_order(sources) -> Family:
    up = ["Sort these words from A to Z.", "Put the words in alphabetical order."]
    down = ["Sort these words from Z to A.", "Put the words in reverse alphabetical order."]

    def twins(keep):
        words = [word for word in handling.everyday_words(sources) if keep(word)]
        for group in handling.word_lists(words, 3, "prefer sort"):
            order = sorted(group)
            if group not in (order, order[::-1]):
                asked = [phrase(phrasings, "sort", *group) for phrasings in (up, down)]
                given = ", ".join(group)
                yield Twin(asked[0], given, ", ".join(order), asked[1], given, ", ".join(order[::-1]))

    return Family(twins)


def tense(sources) -> Family:
    past = ["Put this sentence into the past tense.", "Rewrite the sentence so that it tells of yesterday."]
    future = ["Put this sentence into the future tense.", "Rewrite the sentence so that it tells of tomorrow."]

    def twins(keep):
        for verb, thing in ranked(wordlists.ACTIONS, "tense"):
            if keep(verb) and keep(thing):
                who = ("He", "She", "We", "They")[rank("who", verb) % 4]
                given = f"{who} {verb if who in ('We', 'They') else third_person(verb)} the {thing}."
                told = f"{who} {past_of(verb, sources)} the {thing}."
                asked = [phrase(phrasings, "tense", verb) for phrasings in (past, future)]
                yield Twin(asked[0], given, told, asked[1], given, f"{who} will {verb} the {thing}.")

    return Family(twins, wordlists.ACTIONS)


def third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "s"


def past_of(verb: str, sources) -> str:
    forms = sources.irregular_verbs.get(verb)
    return forms[0][0] if forms else inflection.regular_past(verb, sources)


def use_word(sources) -> Family:
    """A sentence that holds the word asked for, against one that holds another."""
    phrasings = ['Write a short sentence with the word "{word}".', 'Use the word "{word}" in a sentence.']
    pool = []
    for letter in "nva":
        for word in sources.common(letter, 3):
            for example in sources.wordnet.sense(word, letter).examples[:1]:
                sentence = meaning.complete_sentence(example)
                usable = sentence and sources.is_clean(example) and word not in wordlists.UNSURE_EXAMPLE
                if usable and word in re.findall("[a-z]+", sentence):
                    pool.append((word, sentence))
    pool = ranked(pool, "use")

    def fit(one, other):
        return one[0] not in other[1].lower() and other[0] not in one[1].lower() and one[0] != other[0]

    def twins(keep):
        kept, words = [], set()
        for word, sentence in pool:
            if keep(word) and word not in words:
                words.add(word)
                kept.append((word, sentence))
        for one, other in couples(kept, fit):
            asked = [phrase(phrasings, "use", word, word=word) for word in (one[0], other[0])]
            yield Twin(asked[0], "", one[1], asked[1], "", other[1])

    return Family(twins)


def families(sources) -> dict[str, Family]:
    made = (
        definition, close_or_opposite, verb_form, noun_number, kind, element, number_words, sort_order, tense, use_word,
    )  # fmt: skip
    return {function.__name__: function(sources) for function in made}
