"""Subjects about English: what words mean, words of like and opposite meaning, forms of verbs, kinds of things."""

import curated
import unsure
from groups import Group, Keep, Question, gather
from inflection import common_verbs, ing_form, irregular_forms
from meaning import defined_words, single_part_words
from rows import alternate, phrase, ranked
from wordnet import PARTS_OF_SPEECH


def strangers(sources, letter: str):
    """fits(question, other): whether no word of one is near a word of the other in any sense."""
    near = sources.wordnet.are_near
    return lambda one, other: not any(near(word, another, letter) for word in one.words for another in other.words)


def word_meanings(sources, keep: Keep) -> list[Group]:
    """The word for a definition, and the definition of a word."""
    kinds = []
    for letter in "nva":
        defined = [
            (word, text)
            for word, found, text in defined_words(sources, "meanings")
            if found == letter and keep(word) and word not in unsure.DEFINITION and word[:5] not in text
        ]
        name = PARTS_OF_SPEECH[letter]
        word_wanted = [
            Question(f"Which of these words means: {text}?", word, words=(word,)) for word, text in defined[::2]
        ]
        text_wanted = [
            Question(f'What does the {name} "{word}" mean?', text, words=(word,)) for word, text in defined[1::2]
        ]
        kinds += [list(gather(sources.new(asked), strangers(sources, letter))) for asked in (word_wanted, text_wanted)]
    return alternate(*kinds)


def synonym_pairs(sources, letter: str) -> list[tuple[str, str]]:
    """Two common words that share their first sense, and do not begin alike."""
    common = {word for word in sources.common(letter, 4) if sources.is_mainly(word, letter)}
    pairs = []
    for word in ranked(common - curated.UNSURE_SYNONYM - unsure.SYNONYM, "synonyms"):
        same = [
            other for other in sources.wordnet.sense(word, letter).lemmas if other in common and other[:4] != word[:4]
        ]
        same = [other for other in same if sources.wordnet.sense(other, letter) == sources.wordnet.sense(word, letter)]
        if same and same[0] not in curated.UNSURE_SYNONYM | unsure.SYNONYM:
            pairs.append((word, same[0]))
    return once(pairs)


def opposite_pairs(sources, letter: str) -> list[tuple[str, str]]:
    """A common word and its only opposite in its first sense."""
    pairs = []
    for word in ranked(sources.common(letter), "opposites"):
        opposites = sources.wordnet.lexical_targets(word, letter, "!")
        if len(opposites) == 1 and sources.is_common(opposites[0], letter) and word not in opposites[0]:
            if not {word, opposites[0]} & (curated.UNSURE_ANTONYM | unsure.OPPOSITE):
                pairs.append((word, opposites[0]))
    return once(pairs)


def once(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs whose words no earlier pair has used."""
    used, kept = set(), []
    for pair in pairs:
        if not used & set(pair):
            used |= set(pair)
            kept.append(pair)
    return kept


def synonyms_and_opposites(sources, keep: Keep) -> list[Group]:
    kinds = []
    for letter in "nva":
        same = [
            Question(f'Which word is closest in meaning to "{word}"?', other, words=(word, other))
            for word, other in synonym_pairs(sources, letter)
            if keep(min(word, other))
        ]
        opposite = [
            Question(f'Which word is the opposite of "{word}"?', other, words=(word, other))
            for word, other in opposite_pairs(sources, letter)
            if keep(min(word, other))
        ]
        kinds += [list(gather(sources.new(questions), strangers(sources, letter))) for questions in (same, opposite)]
    return alternate(*kinds)


def third_person(verb: str) -> str:
    """The form for he, she and it: goes, tries, sings."""
    if verb == "have":
        return "has"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")


FORM_PHRASINGS = (
    ['What is the past tense of "{verb}"?', 'Which is the simple past form of "{verb}"?'],
    ['What is the past participle of "{verb}"?'],
    ['What is the present participle of "{verb}"?', 'What is the -ing form of "{verb}"?'],
    ['Which form of "{verb}" goes with he, she or it in the simple present?'],
)


def verb_forms(sources, keep: Keep) -> list[Group]:
    """Four forms of one verb, each asked for once."""
    past, participle = (dict(irregular_forms(sources, position)) for position in (0, 1))
    groups = []
    for verb in ranked(filter(keep, common_verbs(sources)), "forms"):
        if verb in unsure.VERB:
            continue
        forms = (past.get(verb), participle.get(verb), ing_form(verb, sources), third_person(verb))
        if all(forms) and len(set(forms)) == 4:
            asked = [phrase(FORM_PHRASINGS[number], number, verb, verb=verb) for number in range(4)]
            groups.append([Question(text, form, words=(verb,)) for text, form in zip(asked, forms, strict=True)])
    return [group for group in groups if len(sources.new(group)) == 4]


def parts_of_speech(sources, keep: Keep) -> list[Group]:
    """A noun, a verb, an adjective and an adverb, each known as nothing else."""
    minimum = {"n": 8, "v": 8, "a": 5, "r": 4}
    columns = [
        [word for word in ranked(single_part_words(sources, letter, minimum[letter]), "grammar")
         if keep(word) and word not in curated.UNSURE_PART | unsure.PART and not word.endswith(("ed", "ing"))]
        for letter in "nvar"
    ]  # fmt: skip
    groups = []
    for words in zip(*columns, strict=False):
        group = []
        for word, letter in zip(words, "nvar", strict=True):
            name = PARTS_OF_SPEECH[letter]
            article = "an" if name[0] == "a" else "a"
            phrasings = ["Which of these words is {a} {name}?", "Which of these words can be used as {a} {name}?"]
            accepted = {other for other in words if letter in sources.wordnet.parts_of_speech[other]}
            text = phrase(phrasings, *words, a=article, name=name)
            group.append(Question(text, word, accepted, words=(name,)))
        groups.append(group)
    return [group for group in groups if len(sources.new(group)) == 4]


def grammar(sources, keep: Keep) -> list[Group]:
    return alternate(verb_forms(sources, keep), parts_of_speech(sources, keep))


def kinds_of_things(sources, keep: Keep) -> list[Group]:
    """Four things of four kinds. A thing counts for a kind if any of its senses is one of that kind."""
    wordnet = sources.wordnet
    members = {}
    for noun in ranked(sources.common("n", 1), "kinds"):
        name = wordnet.nearest_class(noun, curated.CLASSES)
        if not name or not keep(noun) or noun in curated.UNSURE_KIND | unsure.KIND or not sources.is_mainly(noun, "n"):
            continue
        if noun[-4:] != name[-4:] and name not in noun:  # rosewood would give away the tree
            members.setdefault(name, []).append(noun)
    synsets = {name: set(wordnet.all_senses[key, "n"]) for key, name in curated.CLASSES.items()}
    questions = []
    for number in range(max(map(len, members.values()))):
        for name in ranked((name for name in members if number < len(members[name])), "kind", number):
            accepted = {noun for nouns in members.values() for noun in nouns if wordnet.ancestors(noun) & synsets[name]}
            article = "an" if name[0] in "aeio" else "a"  # a unit of time
            text = f"Which of these is {article} {name}?"
            questions.append(Question(text, members[name][number], accepted, words=(name, members[name][number])))
    questions = sources.new(questions)
    apart = lambda one, other: not {one.answer} & other.accepted and not {other.answer} & one.accepted  # noqa: E731
    return list(gather(questions, lambda one, other: one.text != other.text and apart(one, other)))
