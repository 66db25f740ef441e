"""What models are asked, in words that a small one follows; every prompt is here.

VERSION stands in each row. A changed prompt makes other rows: raise it (a test holds the texts and the number
together).
"""

VERSION = 1

NEW_TASK = """\
Here are some tasks for an assistant:

{examples}

Write one more task. It is about a different subject, can be done with words alone, and is one or two sentences long. \
Write only the task."""

PERSONA_QUESTION = """\
Imagine a person: {persona}.

Write one question or request that this person would send to an assistant. It is one or two sentences long and can be \
answered without knowing more. Write only the question."""

EVOLVE = """\
Here is a task:

{task}

Rewrite it as a new task: {change} Keep it one to three sentences long. Write only the new task."""
# What `evolve` asks for, by name.
CHANGES = {
    "condition": "add one condition that the answer must keep.",
    "concrete": "replace general words by concrete ones, such as names, numbers or places.",
    "reason": "ask for the reason too, or for a comparison.",
    "steps": "let it need one step more before the answer is known.",
    "subject": "keep its kind, but make it about a different and rarer subject.",
}

PASSAGE_QUESTION = """\
Text: {passage}

Ask a question that this sentence answers: {sentence}"""

PASSAGE_ANSWER = """\
Text: {passage}

Answer in a few words: {question}"""
# Passage, sentence, question and answer: earlier turns of the two, since small models follow what they see done.
EXAMPLES = (
    ("The tower of Ulm was begun in 1377. It is 161 metres high.", "It is 161 metres high.",
     "How high is the tower of Ulm?", "161 metres"),
    ("A hive has one queen. Worker bees live for six weeks in summer.", "Worker bees live for six weeks in summer.",
     "How long do worker bees live in summer?", "six weeks"),
    ("The library of Pell lends books to all. It was built by Jon Marsh.", "It was built by Jon Marsh.",
     "Who built the library of Pell?", "Jon Marsh"),
)  # fmt: skip

STEP_BY_STEP = """\
{question}

Think step by step, one short line per step. End with a last line: #### and the answer alone."""

PERSONAS = (
    "a nurse on night shifts", "a retired bus driver who grows roses", "a student in the first year of law",
    "a baker who opens a second shop", "a father of twins who cooks every day", "a farmer with forty sheep",
    "a girl of twelve who collects stones", "a carpenter who repairs old windows", "a teacher of history",
    "a hotel clerk who learns Spanish", "a cyclist training for a long race", "a widow who writes her memories",
    "a programmer who has never used a spreadsheet", "a football coach of a youth team", "a fisherman on a lake",
    "a museum guide", "a young couple who plan a journey by train", "a postman who loves birds",
    "a violin teacher", "a shop owner who does the accounts at night", "a gardener in a dry country",
    "a man who moves into his first flat", "a mother who helps with mathematics homework", "a truck driver",
    "a librarian in a small town", "a beekeeper", "a tailor who makes costumes for a theatre", "a ship's cook",
    "an electrician's apprentice", "an amateur astronomer", "a volunteer in an animal shelter", "a chess beginner",
    "a journalist at a local paper", "a physiotherapist", "a mayor of a village", "a potter who sells at markets",
    "a runner with a sore knee", "a translator of letters", "a waiter who wants to open a café",
    "a grandmother who got her first computer", "a mountain guide", "a student of chemistry before an exam",
    "a tram driver who paints", "a vet in the country", "a man who learns to swim at fifty", "a choir singer",
    "a pupil who prepares a talk on volcanoes", "a builder who reads plans", "a lighthouse keeper",
    "a hairdresser who listens all day", "a weather observer", "a collector of old maps",
)  # fmt: skip

# What a reply may begin with, before what was asked for.
LABEL = (
    r"(?:(?:here(?: is|'s)|sure|certainly)[^:\n]*:"
    r"|(?:new |next |another |rewritten )?(?:task|question|request|answer|sentence|quote)\s*\d*\s*:)"
)
