"""Thoughts: what an answer says first, between <think> and </think>; a turn holds them under "reasoning_content".

split_thought("<think>\n2 + 2\n</think>\n\n4")  ->  ("2 + 2", "4")
"""

OPENS, CLOSES = TAGS = ("<think>", "</think>")
THOUGHT = "reasoning_content"  # key of a turn, as in transformers' chat templates


def split_thought(reply: str) -> tuple[str | None, str]:
    """The thought that a model's reply begins with, and the answer after it; None and the reply where there is none.

    Where the template opens the thought in the prompt, "<think>" is missing. The answer of a thought that was cut off
    is empty.
    """
    thought, closes, answer = reply.partition(CLOSES)
    is_open = thought.lstrip().startswith(OPENS)
    thought = thought.strip().removeprefix(OPENS).strip()
    if closes:
        return (None, reply) if OPENS in thought else (thought, answer.strip())
    return (thought, "") if is_open else (None, reply)


def without_thought(reply: str) -> str:
    """The answer of a reply."""
    return split_thought(reply)[1]


def is_cut_in_thought(reply: str) -> bool:
    """Whether a reply ends in the midst of its thought, so that it has no answer."""
    return reply.lstrip().startswith(OPENS) and CLOSES not in reply


def thought_end(reply: str) -> int:
    """The place at which the thought of a reply ends, or has come to; 0 where it begins with none."""
    if not reply.lstrip().startswith(OPENS):
        return 0
    end = reply.find(CLOSES)
    return len(reply) if end < 0 else end + len(CLOSES)


def is_thought_alone(reply: str) -> bool:
    """Whether a reply has a thought and no answer, because it was cut off or for another reason."""
    thought, answer = split_thought(reply)
    return thought is not None and not answer


def thought_apart(turn: dict) -> dict:
    """An answer's turn with the whole thought that its text begins with under a key of its own."""
    if THOUGHT in turn or not turn["content"].lstrip().startswith(OPENS) or is_cut_in_thought(turn["content"]):
        return turn
    thought, answer = split_thought(turn["content"])
    return turn if thought is None else {**turn, "content": answer, THOUGHT: thought}
