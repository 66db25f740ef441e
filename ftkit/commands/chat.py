"""Talks to a model or to adapters that are swapped while it runs, streaming, each through the template of its training.

ftkit chat --adapter runs/first
ftkit chat --adapter a=runs/first --adapter b=runs/second
"""

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Any

from ftkit.config.errors import UserError, did_you_mean
from ftkit.inference.asking import (
    BASE,
    EMPTY_ANSWER,
    PLAIN,
    Sampling,
    asking_parser,
    check_plain,
    check_text,
    model_settings,
    sampling_of,
)

HELP = (
    "/reset starts again, /system TEXT sets the system text and starts again, /adapter NAME lets another answer, "
    "/compare [TEXT] asks everyone the last question, or TEXT, beside the conversation, /exit ends"
)
PLAIN_HELP = (
    "each line is continued on its own; /adapter NAME lets another continue, /compare [TEXT] asks everyone to continue "
    "the last line, or TEXT, /exit ends"
)
SLASH_COMMANDS = ("/reset", "/system", "/adapter", "/compare", "/help", "/exit")


def main(argv: list[str]) -> None:
    """Parse the command line and talk until end of input."""
    args = asking_parser("ftkit chat", "Talk to a model or to adapters.", __doc__).parse_args(argv)
    settings, sampling = model_settings(args), sampling_of(args)
    check_plain(args)
    check_text(args.system or "", "--system")
    from ftkit.inference.engine import Engine

    engine = Engine.load(settings, with_base=True)
    for name, voice in engine.voices.items():
        say(f"{name}: template {template_name(voice)}")
    if args.adapter and BASE not in engine.voices:
        say("the base can't be asked: the adapters replace its embedding, or added tokens to its vocabulary")
    say(PLAIN_HELP if args.template == PLAIN else HELP)
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # a line that is no UTF-8 is named, and the next one read
    talk(engine, sampling, args.system, sys.stdin)


def template_name(voice) -> str:
    """What the template was called in training, where --template does not say."""
    from ftkit.model.adapters.files import run_settings

    own = voice.template.name if voice.template else PLAIN
    return run_settings(voice.folder).get("template", own) if own == "auto" and voice.name != BASE else own


def talk(engine, sampling: Sampling, system: str | None, lines) -> None:
    """Answer each line of `lines`; lines that start with a slash are commands.

    The first adapter answers until another is chosen. system: text of the system turn.
    """
    import torch

    torch.manual_seed(sampling.seed or 0)
    chat = Chat(engine, sampling, system, next((name for name in engine.voices if name != BASE), BASE))
    while (text := read_line(lines)) is not None:
        command, _, rest = text.partition(" ")
        if command == "/exit":
            return
        try:
            check_text(text, "this line")
            if text.startswith("/"):
                chat.obey(command, rest.strip())
            elif text:
                chat.ask(text)
        except UserError as error:  # a full context or an unknown name: say so and keep the conversation usable
            say(error)


@dataclass
class Chat:
    """One conversation, kept as text, with whoever is chosen; each renders all of it by its own template."""

    engine: Any
    sampling: Sampling
    system: str | None
    current: str
    messages: list[dict] = field(init=False)

    def __post_init__(self):
        self.messages = opening(self.system)

    def ask(self, text: str) -> None:
        """Put a question and keep the answer; raise UserError, and forget the question, where the context is full."""
        question = {"role": "user", "content": text}
        drawn_on = dataclasses.replace(self.sampling, seed=None)  # from one answer to the next
        before = [] if self.is_plain else self.messages
        answer = self.stream([*before, question], drawn_on, self.current)
        self.messages = [*before, question, {"role": "assistant", "content": answer}]

    def stream(self, messages: list[dict], sampling: Sampling, name: str) -> str:
        """Print an answer as it comes, say where it is empty or cut, and return its text."""
        reply = self.engine.stream(messages, sampling, name)
        if not reply.text:
            print(EMPTY_ANSWER, flush=True)
        if reply.finish_reason == "length" and not self.is_plain:
            say(f"(cut after {reply.output_tokens} tokens; --max_new_tokens sets the limit)")
        return reply.text

    @property
    def is_plain(self) -> bool:
        """Whether each line is a text of its own that is continued (--template none)."""
        return self.engine.voice(self.current).template is None

    def obey(self, command: str, rest: str) -> None:
        """Carry out a slash command; an unknown one is named with the nearest."""
        if command == "/system":
            if self.is_plain:
                raise UserError(f"/system with --template {PLAIN}: a text that is continued has no turns")
            self.system = rest or None
        if command in ("/system", "/reset"):
            self.messages = opening(self.system)
            say("the conversation starts again")
        elif command == "/adapter":
            self.swap(rest)
        elif command == "/compare":
            self.compare(rest)
        elif command == "/help":
            say(PLAIN_HELP if self.is_plain else HELP)
        else:
            say(f"unknown command {command}{did_you_mean(command, SLASH_COMMANDS)}")

    def swap(self, name: str) -> None:
        """Let another adapter, or the base, answer from here on; without a name say which there are."""
        names = ", ".join(self.engine.voices)
        if name and name not in self.engine.voices:
            hint = did_you_mean(name, self.engine.voices) or f"; there are: {names}"
            raise UserError(f'no adapter "{name}"{hint}')
        self.current = name or self.current
        say(f"{self.current} answers" + ("" if name else f"; there are: {names}"))

    def compare(self, text: str) -> None:
        """Print everyone's answer to `text`, or to the last question, in the conversation as it was when it was asked.

        Sampled answers all start from --seed. Nothing of it is kept.
        """
        before = [] if self.is_plain else self.messages
        messages = [*before, {"role": "user", "content": text}] if text else self.messages[:-1]
        if not messages or messages[-1]["role"] != "user":
            raise UserError("nothing was asked yet; ask, or write /compare TEXT")
        for name in self.engine.voices:
            print(f"[{name}]", flush=True)
            self.stream(messages, self.sampling, name)


def say(text) -> None:
    """Print to stderr, so that stdout has the answers only."""
    print(text, file=sys.stderr, flush=True)


def opening(system: str | None) -> list[dict]:
    """A conversation that has only its system text, if there is one."""
    return [{"role": "system", "content": system}] if system else []


def read_line(lines) -> str | None:
    """The next line without surrounding space, with a prompt for a person at a terminal; None at the end."""
    if lines.isatty():
        print("> ", end="", file=sys.stderr, flush=True)
    line = lines.readline()
    return line.strip() if line else None
