"""What is sent piece by piece is what the whole answer decodes to, and never has to be taken back."""

import random
from types import SimpleNamespace

import pytest

from ftkit.inference.batching.text import AnswerText
from ftkit.model.loading import load_tokenizer, local_model_folder

TEXTS = ("  Hello, world!\n", "naïve 鳥🙂 e\u0301 привет", "a\n\nb \n c   ", "", "   ", "🙂🙂", "Stop. STOP here. stop")
STOPS = ((), ("STOP",), ("\n\n", "\n c"), ("🙂🙂",), ("aaab", "ab"), ("here. stop", "here"))


@pytest.fixture(scope="module")
def voice():
    return SimpleNamespace(tokenizer=load_tokenizer(local_model_folder("base")), shown=lambda text: text)


def pieces(voice, ids, stops, is_stripped=True):
    text = AnswerText(voice, stops, is_stripped=is_stripped)
    found = []
    for token in ids:
        found.append(text.put(token))
        if text.stop is not None:
            break
    return [*found, text.end()], text


def expected(voice, ids, stops, is_stripped=True):
    """Cut by hand from the whole text: at the stop that is complete first, found token by token."""
    text = voice.tokenizer.decode(ids, skip_special_tokens=True)
    text = text.lstrip() if is_stripped else text
    places = [text.find(stop) for stop in stops if stop in text]
    text = text[: min(places)] if places else text
    return text.rstrip() if is_stripped else text


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_make_the_whole_text(voice, text, stops):
    ids = voice.tokenizer(text)["input_ids"]
    for is_stripped in (True, False):
        found, _ = pieces(voice, ids, stops, is_stripped)
        assert "".join(found) == expected(voice, ids, stops, is_stripped)
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in found)


def test_random_bytes_are_decoded_as_at_once(voice):
    drawn = random.Random(0)
    for _ in range(200):
        ids = [drawn.randrange(3, 300) for _ in range(drawn.randrange(1, 12))]
        found, _ = pieces(voice, ids, ())
        assert "".join(found) == voice.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_no_beginning_of_a_stop_string_is_sent(voice):
    ids = voice.tokenizer("One END two EN three END OF four")["input_ids"]
    for stop in ("END OF", "EN three END O"):
        found, text = pieces(voice, ids, (stop,))
        sent = ""
        for piece in found:
            sent += piece
            assert "One END two EN three ".startswith(sent.rstrip()) or sent in "One END two EN three"
        assert text.stop == stop


def test_invisible_letters_are_held_back_until_it_is_known_whether_they_go(voice):
    class Shown(SimpleNamespace):
        def shown(self, text):
            return text.replace("<\u2060|end|>", "<|end|>")

    ids = voice.tokenizer("a <\u2060|end|> b \u2060c")["input_ids"]
    found, _ = pieces(Shown(tokenizer=voice.tokenizer), ids, ())
    assert "".join(found) == "a <|end|> b \u2060c"
