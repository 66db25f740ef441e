"""Families where both answers are true and the prompt asks for one manner: register, tone, form, length."""

import handling
import inflection
import wordlists
from rows import alternate, phrase, rank, ranked
from twins import Family, Twin

SENTENCES = {
    "past_tense": ('What is the past tense of "{word}"?', 'The past tense of "{word}" is "{answer}".'),
    "plural": ('What is the plural of "{word}"?', 'The plural of "{word}" is "{answer}".'),
    "ing_form": ('What is the -ing form of "{word}"?', 'The -ing form of "{word}" is "{answer}".'),
    "adverb": ('Which adverb is made from "{word}"?', 'The adverb made from "{word}" is "{answer}".'),
    "comparative": ('What is the comparative of "{word}"?', 'The comparative of "{word}" is "{answer}".'),
}


def word_or_sentence(sources) -> Family:
    short = ["Answer with one word.", "Reply with the word alone.", "Give just the word."]
    full = ["Answer in a full sentence.", "Reply with a complete sentence.", "Give a whole sentence."]
    tables = {
        "past_tense": inflection.past_tense(sources), "plural": inflection.plural(sources),
        "ing_form": inflection.ing_forms(sources), "adverb": inflection.adverb(sources),
        "comparative": inflection.comparative(sources),
    }  # fmt: skip
    items = alternate(*([(name, *pair) for pair in ranked(table, "full")] for name, table in tables.items()))

    def twins(keep):
        for name, word, answer in items:
            if keep(word):
                question, sentence = (text.format(word=word, answer=answer) for text in SENTENCES[name])
                asked = [f"{question} {phrase(manner, 'full', word)}" for manner in (short, full)]
                yield Twin(asked[0], "", answer, asked[1], "", sentence)

    return Family(twins, [(word, answer) for _, word, answer in items])


def list_or_line(sources) -> Family:
    bullets = ["Write these words as a list, one word per line.", "Turn the words into a bulleted list."]
    line = ['Join these words in one line, with "and" before the last.', "Write the words as a phrase on one line."]

    def twins(keep):
        words = [word for word in handling.everyday_words(sources) if keep(word)]
        for group in handling.word_lists(words, 3, "list"):
            given = " ".join(group)
            asked = [phrase(phrasings, "list", *group) for phrasings in (bullets, line)]
            joined = f"{group[0]}, {group[1]}, and {group[2]}"
            yield Twin(asked[0], given, "\n".join(f"- {word}" for word in group), asked[1], given, joined)

    return Family(twins)


def phrased_twins(name: str, words: list[str], prompts: tuple[list[str], list[str]], answers: list) -> Family:
    """Both prompts and both answers of a twin hold one word, drawn from lists of phrasings; the word is the input."""

    def twins(keep):
        for word in ranked(words, name):
            if keep(word):
                asked = [phrase(phrasings, name, word) for phrasings in prompts]
                said = [phrase(phrasings, name, i, word, word=word) for i, phrasings in enumerate(answers)]
                yield Twin(asked[0], word, said[0], asked[1], word, said[1])

    return Family(twins)


def polite_or_rude(sources) -> Family:
    polite = [
        "Write what a polite neighbor says to borrow this.",
        "A courteous character in a play asks for this. Write the line.",
    ]
    rude = [
        "Write what a rude neighbor says to borrow this.",
        "An ill-mannered character in a play asks for this. Write the line.",
    ]
    return phrased_twins("polite", wordlists.BELONGINGS, (polite, rude), [wordlists.POLITE, wordlists.RUDE])


def praise_or_complaint(sources) -> Family:
    prompts = (
        ["Write a short and favorable review of this.", "What would a happy customer say about this?"],
        ["Write a short and unfavorable review of this.", "What would an unhappy customer say about this?"],
    )
    return phrased_twins("review", wordlists.PRODUCTS, prompts, [wordlists.PRAISE, wordlists.COMPLAINT])


def formal_or_casual(sources) -> Family:
    """The same news, what happened to a thing, for a manager or a friend."""
    formal = [
        "In a formal letter to your manager, say that you {event} this.",
        "Write a formal note to the owner: you {event} this.",
    ]
    casual = [
        "In a chat with a friend, say that you {event} this.",
        "Write a casual note to your brother: you {event} this.",
    ]

    def twins(keep):
        events = sorted(wordlists.NEWS)
        for word in ranked(wordlists.BELONGINGS, "formal"):
            if keep(word):
                event = events[rank("event", word) % len(events)]
                asked = [phrase(phrasings, "formal", word, event=event) for phrasings in (formal, casual)]
                said = [phrase(texts, "formal", i, word, word=word) for i, texts in enumerate(wordlists.NEWS[event])]
                yield Twin(asked[0], word, said[0], asked[1], word, said[1])

    return Family(twins)


def families(sources) -> dict[str, Family]:
    made = (word_or_sentence, list_or_line, polite_or_rude, praise_or_complaint, formal_or_casual)
    return {function.__name__: function(sources) for function in made}
