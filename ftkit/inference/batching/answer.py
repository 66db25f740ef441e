"""One answer on its way: what was asked, how its tokens are drawn, and what is said of them.

answer = Answer(request, on_event, end_ids, model, context)
event = answer.put(Drawn(17))                      # one more token
"""

import logging
from collections.abc import Callable, Sequence

import torch

from ftkit.inference.batching.drawing import Pen
from ftkit.inference.batching.prompts import Prompt
from ftkit.inference.batching.request import Drawn, Event, Request
from ftkit.inference.batching.text import AnswerText

# B rows, V vocabulary

OF_ONE_ANSWER = (RuntimeError, ValueError, IndexError)  # of a constraint or a prompt: the other answers go on

logger = logging.getLogger(__name__)


class Answer:
    """One answer on its way. It is its own Ticket."""

    def __init__(
        self, request: Request, on_event: Callable[[Event], None], end_ids: Sequence[int], model, context: int
    ):
        self.request, self.on_event, self.end_ids = request, on_event, end_ids
        voice, drawing = request.version.voice, request.drawing
        is_turn = voice.template is not None and not request.is_plain and not request.is_continued
        self.text = AnswerText(voice, drawing.stop, is_stripped=is_turn)
        self.pen = Pen(drawing, request.prompt_ids, end_ids, model.device)
        self.prompt = Prompt(request.prompt_ids, request.version.digest)
        self.room = min(drawing.max_new_tokens, context - len(request.prompt_ids))
        self.is_cancelled = False

    def cancel(self) -> None:
        """See Ticket; from any thread."""
        self.is_cancelled = True

    def put(self, drawn: Drawn) -> Event:
        """Take a token; what comes of it."""
        drawing, token = self.request.drawing, drawn.id
        self.pen.take(token)
        is_early = len(self.pen.ids) <= drawing.min_tokens
        if token in self.end_ids and not drawing.ignore_eos and not is_early:
            return self.ended("stop", drawn)
        if token in drawing.stop_token_ids and not is_early:
            return self.ended("stop", drawn, stop=token)
        text = self.text.put(token)
        if self.text.stop is not None:
            return self.ended("stop", drawn, text, stop=self.text.stop)
        if drawing.constraint is not None and drawing.constraint.is_complete():
            return self.ended("stop", drawn, text)
        if len(self.pen.ids) >= self.room:
            return self.ended("length", drawn, text)
        return Event(text, (drawn,))

    def failed(self, error: Exception) -> Event:
        """The last event where this answer alone can't go on."""
        logger.error("an answer of %s failed", self.request.version.name, exc_info=error)
        return self.ended("error", error=f"{type(error).__name__}: {error}")

    def ended(self, reason: str, drawn: Drawn | None = None, text: str = "", **further) -> Event:
        """The last event."""
        tokens = () if drawn is None else (drawn,)
        return Event(text + self.text.end(), tokens, reason, num_cached=self.prompt.num_cached, **further)


def written(logits_BV: torch.Tensor, answers: Sequence[Answer]) -> list[Event]:
    """What comes of the next token of each answer, drawn from its row of logits."""
    events = []
    for token, logits_V, answer in zip(logits_BV.argmax(dim=-1).tolist(), logits_BV, answers, strict=True):
        try:
            events.append(answer.put(Drawn(token) if answer.pen.is_plain else answer.pen.draw(logits_V)))
        except OF_ONE_ANSWER as error:
            events.append(answer.failed(error))
    return events
