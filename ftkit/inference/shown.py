"""A reply as a person reads it: its thought folded to a line, its tokens in a table.

shown(reply, fold=True, color=has_color(sys.stdout))
"""

import json
import math

from ftkit.config.terminal import styled
from ftkit.data.rows.thoughts import split_thought
from ftkit.inference.asking import EMPTY_ANSWER
from ftkit.inference.completion import AnswerToken, Reply


def shown(reply: Reply, *, fold: bool = False, color: bool = False, with_tokens: bool = False) -> str:
    """The text of a reply. fold: its thought as one line."""
    text = reply.text or EMPTY_ANSWER
    thought, answer = split_thought(text)
    if fold and thought is not None:
        num = len(thought.split())
        text = styled(f"[thought: {num:,} word{'' if num == 1 else 's'}]", "dim", color)
        text += f"\n{answer or EMPTY_ANSWER}"
    return "\n".join([text, *map(token_line, reply.tokens)]) if with_tokens else text


def token_line(token: AnswerToken) -> str:
    """A token with its log-probability, its probability, and the likeliest in its place."""
    line = f"  {token.logprob:9.4f}  {percent(token.logprob)}  {json.dumps(token.token, ensure_ascii=False)}"
    others = ", ".join(f"{json.dumps(text, ensure_ascii=False)} {percent(value).strip()}" for text, value in token.top)
    return f"{line:<40}  {others}" if others else line


def percent(logprob: float) -> str:
    """A probability from its logarithm."""
    return f"{100 * math.exp(logprob):5.1f} %"


def token_records(reply: Reply) -> list[dict]:
    """The tokens of a reply with the names of OpenAI's log-probabilities."""
    return [
        {
            "token": one.token, "logprob": one.logprob,
            "top_logprobs": [{"token": text, "logprob": value} for text, value in one.top],
        }
        for one in reply.tokens
    ]  # fmt: skip
