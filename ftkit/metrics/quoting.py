"""Whether an answer that quotes numbered sources is right, and quotes what they say, word for word.

    prompt = with_sources(messages, found)[-1]["content"]
    quoted('"The ferry leaves at nine." [2]\\n\\nAnswer: at nine', prompt)          # 1.0
    final_answer("Answer: at nine", '"The ferry leaves at nine." [2]\\n\\nAnswer: nine')

Of rows as `ftkit synth --kind raft` writes them.
"""

import re

from ftkit.inference.retrieval.prompting import QUESTION
from ftkit.inference.synth import raft
from ftkit.inference.synth.citations import check, is_faithful
from ftkit.metrics.text_match import contains

SOURCE = re.compile(r"^\[\d+\] [^\n]*\n", flags=re.MULTILINE)  # the line above a source's text; in one it is broken


def sources_in(prompt: str) -> list[str]:
    """The texts of the numbered sources in front of a question, in order."""
    before = prompt.rpartition(f"\n\n{QUESTION} ")[0]
    return SOURCE.split(before)[1:]


def quoted(prediction: str, prompt: str) -> float:
    """1.0 where an answer quotes a source and every quotation is in the source it names, word for word; and where it
    says that the sources do not say, and quotes nothing. Else 0.0."""
    sources = sources_in(prompt)
    if raft.final_answer(prediction) == raft.NOT_THERE:
        return float(not check(prediction, sources))
    return float(is_faithful(prediction, sources))


def final_answer(prediction: str, reference: str) -> float:
    """1.0 where what an answer says after its quotation holds what its reference says there, else 0.0."""
    return contains(*map(raft.final_answer, (prediction, reference)))
