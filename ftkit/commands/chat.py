"""Talks to a model or to adapters that are swapped while it runs, streaming, each through the template of its training.

ftkit chat --adapter runs/first
ftkit chat --adapter a=runs/first --adapter b=runs/second
"""

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftkit.config.caches import cache_dir
from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.files import check_file
from ftkit.config.jsonl import append_jsonl
from ftkit.config.line_reader import LineReader
from ftkit.config.terminal import has_color, styled
from ftkit.data.rows.thoughts import thought_end
from ftkit.inference.asking import (
    BASE,
    EMPTY_ANSWER,
    PLAIN,
    Sampling,
    add_drawing_flags,
    asking_parser,
    check_plain,
    check_text,
    model_settings,
    sampling_of,
)
from ftkit.inference.retrieval.prompting import source_lines
from ftkit.inference.retrieval.retriever import Retriever, add_index_flags, check_sources, retriever_of

HINT = "/help shows the commands; Ctrl-C stops an answer, /bye or Ctrl-D ends"
SLASH_COMMANDS = {  # what each does, with what follows it
    "/adapter": ("NAME", "another adapter answers; without NAME: which there are"),
    "/compare": ("TEXT", "all answer the last question, or TEXT; nothing of it is kept"),
    "/system": ("TEXT", "sets the system text, and starts again"),
    "/temperature": ("X", "0 takes the likeliest token each time"),
    "/save": ("FILE", "adds the conversation to FILE, as a row that ftkit sft reads"),
    "/reset": ("", "starts again"),
    "/help": ("", "shows this"),
    "/bye": ("", "ends; so do /exit and Ctrl-D"),
}
HELP = "\n".join(f"  {f'{name} {value}':<15} {text}" for name, (value, text) in SLASH_COMMANDS.items())
PLAIN_NOTE = "each line is a text of its own, which is continued"
ENDS = ("/bye", "/exit", "/quit")
TYPED_ENDS = (*ENDS, "bye", "exit", "quit")  # of a person at a terminal


def main(argv: list[str]) -> None:
    """Parse the command line and talk until end of input."""
    parser = asking_parser("ftkit chat", "Talk to a model or to adapters.", __doc__)
    add_drawing_flags(parser)
    add_index_flags(parser)
    parser.add_argument("--no_history", action="store_true", help="keep no file of what was typed")
    args = parser.parse_args(argv)
    settings, sampling = model_settings(args), sampling_of(args)
    check_plain(args)
    check_text(args.system or "", "--system")
    retriever = retriever_of(args)
    check_sources(args)
    from ftkit.inference.engine import Engine

    engine = Engine.load(settings, with_base=True)
    for name, voice in engine.voices.items():
        say(f"{name}: template {template_name(voice)}")
    if args.adapter and BASE not in engine.voices:
        say("the base can't be asked: the adapters replace its embedding, or added tokens to its vocabulary")
    say(f"{PLAIN_NOTE}; {HINT}" if args.template == PLAIN else HINT)
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="surrogateescape")  # a line that is no UTF-8 is named, and the next one read
    history = None if args.no_history else cache_dir() / "chat_history.jsonl"
    talk(engine, sampling, args.system, sys.stdin, history, retriever)


def template_name(voice) -> str:
    """What the template was called in training, where --template does not say."""
    from ftkit.model.adapters.files import run_settings

    own = voice.template.name if voice.template else PLAIN
    return run_settings(voice.folder).get("template", own) if own == "auto" and voice.name != BASE else own


def talk(
    engine, sampling: Sampling, system: str | None, lines, history: Path | None = None,
    retriever: Retriever | None = None,
) -> None:  # fmt: skip
    """Answer each line of `lines`; lines that start with a slash are commands.

    The first adapter answers until another is chosen. system: text of the system turn. history: a file of what was
    typed at a terminal. retriever: finds the passages that are put in front of each question.
    """
    import torch

    torch.manual_seed(sampling.seed or 0)
    first = next((name for name in engine.voices if name != BASE), BASE)
    chat = Chat(engine, sampling, system, first, is_person=lines.isatty(), retriever=retriever)
    reader = LineReader(lines, candidates=chat.candidates, history=history)
    while True:
        try:
            text = reader.read("> ")
            if text is None or text in (TYPED_ENDS if reader.is_person else ENDS):
                return
            chat.take(text)
        except KeyboardInterrupt:  # between answers: nothing typed is sent
            if not reader.is_person:
                raise
            say(f"\n({HINT})")
        except (UserError, OSError) as error:  # the conversation stays usable
            say(error)
        if reader.is_person:
            say("")


@dataclass
class Chat:
    """One conversation, kept as text, with whoever is chosen; each renders all of it by its own template.

    is_person: whether Ctrl-C stops an answer, and not the program. retriever: finds the passages that stand in front of
    a question while it is answered; they are not kept.
    """

    engine: Any
    sampling: Sampling
    system: str | None
    current: str
    is_person: bool = False
    retriever: Retriever | None = None
    messages: list[dict] = field(init=False)

    def __post_init__(self):
        self.messages = opening(self.system)

    def take(self, text: str) -> None:
        """Answer a text, or obey it. Raises UserError where neither can be."""
        check_text(text, "this line")
        if text.startswith("/"):
            command, *rest = text.split(None, 1)
            self.obey(command, "".join(rest))
        elif text:
            self.ask(text)

    def ask(self, text: str) -> None:
        """Put a question and keep the answer; raise UserError, and forget the question, where the context is full."""
        question = {"role": "user", "content": text}
        drawn_on = dataclasses.replace(self.sampling, seed=None)  # from one answer to the next
        before = [] if self.is_plain else self.messages
        answer = self.stream(self.sourced([*before, question]), drawn_on, self.current)
        if answer is not None:
            self.messages = [*before, question, {"role": "assistant", "content": answer}]

    def sourced(self, messages: list[dict]) -> list[dict]:
        """The conversation with the passages for its last question, which are shown."""
        if self.retriever is None:
            return messages
        asked, found = self.retriever.sourced(messages)
        for line in source_lines(found) or ["nothing was found"]:
            say(line)
        return asked

    def stream(self, messages: list[dict], sampling: Sampling, name: str) -> str | None:
        """Print an answer as it comes, say where it is empty, cut or stopped, and return its text.

        None for one that was stopped before it began.
        """
        printer = Printer(has_color(sys.stdout))
        reply = self.engine.stream(messages, sampling, name, write=printer.write)
        is_stopped = reply.finish_reason == "cancelled"
        print("" if reply.text or is_stopped else EMPTY_ANSWER, flush=True)
        if is_stopped:
            if not self.is_person:
                raise KeyboardInterrupt
            say("(stopped)")
            return reply.text or None
        if reply.finish_reason == "length" and not self.is_plain:
            say(f"(cut after {reply.output_tokens} tokens; --max_new_tokens sets the limit)")
        return reply.text

    @property
    def is_plain(self) -> bool:
        """Whether each line is a text of its own that is continued (--template none)."""
        return self.engine.voice(self.current).template is None

    def obey(self, command: str, rest: str) -> None:
        """Carry out a slash command; an unknown one is named with the nearest."""
        known = {
            "/adapter": self.swap, "/compare": self.compare, "/system": self.set_system, "/save": self.save,
            "/temperature": self.set_temperature, "/reset": lambda _: self.start_again(), "/help": lambda _: say(HELP),
        }  # fmt: skip
        if command not in known:
            raise UserError(f"unknown command {command}{did_you_mean(command, SLASH_COMMANDS)}")
        known[command](rest)

    def candidates(self, line: str) -> list[str]:
        """What the last word of a line that is being typed may become."""
        command, space, _ = line.partition(" ")
        if not space:
            named = [f"{name} " if value else name for name, (value, _) in SLASH_COMMANDS.items()]
            return [*named, *ENDS[1:]] if line.startswith("/") else []
        return list(self.engine.voices) if command == "/adapter" else []

    def start_again(self) -> None:
        """Forget everything but the system text."""
        self.messages = opening(self.system)
        say("the conversation starts again")

    def set_system(self, text: str) -> None:
        """Begin a conversation with another system text, or none."""
        if self.is_plain:
            raise UserError(f"/system with --template {PLAIN}: a text that is continued has no turns")
        self.system = text or None
        self.start_again()

    def set_temperature(self, text: str) -> None:
        """Draw at another temperature from here on; without a number say which it is."""
        if text:
            try:
                temperature = float(text)
            except ValueError:
                raise UserError(f"/temperature {text}: give a number, such as 0.7") from None
            self.sampling = dataclasses.replace(self.sampling, temperature=temperature)
        say(f"temperature {self.sampling.temperature:g}")

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
        messages = self.sourced(messages)
        for name in self.engine.voices:
            print(styled(f"[{name}]", "bold", has_color(sys.stdout)), flush=True)
            self.stream(messages, self.sampling, name)

    def save(self, name: str) -> None:
        """Add the conversation to a file of rows."""
        turns = [message for message in self.messages if message["role"] != "system"]
        if not name or Path(name).suffix != ".jsonl":
            raise UserError("/save writes rows as JSON lines; name a file such as talk.jsonl")
        if not turns:
            raise UserError("nothing was asked yet, so there is nothing to save")
        if not all(message["content"].strip() for message in turns):
            raise UserError("an answer is empty, and no trainer reads such a row; /reset, and ask again")
        path = Path(name).expanduser()
        check_file(path, "/save")
        text = "".join(message["content"] for message in turns)
        append_jsonl(path, [{"text": text} if self.is_plain else {"messages": self.messages}])
        say(f"1 row with {'this text' if self.is_plain else f'{len(turns) // 2} answers'} added to {path}")


class Printer:
    """Prints an answer as it comes; its thought, what stands between <think> and </think>, is dim on a terminal."""

    def __init__(self, color: bool):
        self.color, self.seen = color, ""

    def write(self, piece: str) -> None:
        """Print what came."""
        self.seen += piece
        dim = max(0, thought_end(self.seen) - len(self.seen) + len(piece))
        shown = styled(piece[:dim], "dim", self.color) if dim else ""
        print(shown + piece[dim:], end="", flush=True)


def say(text) -> None:
    """Print to stderr, so that stdout has the answers only; dim where a person sees it."""
    print(styled(str(text), "dim", bool(str(text)) and has_color(sys.stderr)), file=sys.stderr, flush=True)


def opening(system: str | None) -> list[dict]:
    """A conversation that has only its system text, if there is one."""
    return [{"role": "system", "content": system}] if system else []
