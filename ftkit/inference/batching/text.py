"""The text of an answer as its tokens come, of which only what can't change any more is given out.

    text = AnswerText(voice, stops=("\\n\\n",), is_stripped=True)
    text.put(token), ..., text.end()                   # what may be sent; text.stop: the stop string that came

Held back are: half a character, what may be the beginning of a stop string, white space at an end that is stripped, and
what follows an invisible letter that keeps text from being structure, until it is known whether that is taken out.
"""

from collections.abc import Sequence

from ftkit.data.rows.formats import JOINER

HALF = "\N{REPLACEMENT CHARACTER}"  # as what a half of a character is decoded


class AnswerText:
    """The text of one answer. is_stripped: of white space around it, as answers are and continued text is not."""

    def __init__(self, voice, stops: Sequence[str] = (), *, is_stripped: bool = True):
        self.voice, self.stops, self.is_stripped = voice, [stop for stop in stops if stop], is_stripped
        self.ids: list[int] = []
        self.start = self.done = 0  # tokens from `start` on are decoded together; those before `done` are in `text`
        self.text, self.num_sent = "", 0
        self.stop: str | None = None

    def put(self, token: int) -> str:
        """Take the next token; return what may be sent now. Nothing after a stop string came."""
        self.ids.append(token)
        before, now = self.decoded(self.start, self.done), self.decoded(self.start, len(self.ids))
        if len(now) > len(before) and not now.endswith(HALF):
            self.add(now[len(before) :])
            self.start, self.done = self.done, len(self.ids)
        return self.send(self.safe_length())

    def end(self) -> str:
        """What is left when no more tokens come."""
        if self.stop is None:
            self.add(self.decoded(self.start, len(self.ids))[len(self.decoded(self.start, self.done)) :])
            self.done = len(self.ids)
        return self.send(len(self.shown.rstrip() if self.is_stripped else self.shown))

    def decoded(self, start: int, stop: int) -> str:
        """The text of some of the tokens."""
        return self.voice.tokenizer.decode(
            self.ids[start:stop], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def add(self, text: str) -> None:
        """Add text that is whole, up to a stop string."""
        if self.stop is not None:
            return
        if self.is_stripped and not self.text:
            text = text.lstrip()
        longest = max(map(len, self.stops), default=1)
        searched = max(0, len(self.text) - longest + 1)
        self.text += text
        places = {stop: self.text.find(stop, searched) for stop in self.stops}
        found = [(place, stop) for stop, place in places.items() if place >= 0]
        if found:
            place, self.stop = min(found)
            self.text = self.text[:place]

    @property
    def shown(self) -> str:
        """The text as a person reads it."""
        return self.voice.shown(self.text) if JOINER in self.text else self.text

    def safe_length(self) -> int:
        """Characters of the text that stay as they are whatever follows."""
        text = self.text
        if JOINER in text:
            text = text[: text.index(JOINER)]
        if self.stop is None:
            longest = max(map(len, self.stops), default=1)
            sizes = range(min(longest - 1, len(text)), 0, -1)
            text = text[: len(text) - next((n for n in sizes if self.may_begin(text[-n:])), 0)]
        return len(text.rstrip() if self.is_stripped else text)

    def may_begin(self, end: str) -> bool:
        """Whether a stop string may begin with this end of the text."""
        return any(stop.startswith(end) for stop in self.stops)

    def send(self, length: int) -> str:
        """What is new up to a length."""
        new = self.shown[self.num_sent : length]
        self.num_sent = max(self.num_sent, length)
        return new
