"""Talks to a model or to adapters that are swapped while it runs, streaming, each through the template of its training.

ftkit chat --adapter runs/first
ftkit chat --adapter a=runs/first --adapter b=runs/second
"""

import sys
from dataclasses import dataclass, field

from ftkit.config.errors import UserError, did_you_mean
from ftkit.inference.engine import (
    BASE,
    check_sampling,
    inference_parser,
    load_conversants,
    parse_adapters,
    sampling_settings,
)

HELP = (
    "/reset starts anew, /system TEXT sets the system text and starts anew, /adapter NAME lets another answer, "
    "/compare [TEXT] asks everyone the last question, or TEXT, beside the conversation, /exit ends"
)
SLASH_COMMANDS = ("/reset", "/system", "/adapter", "/compare", "/help", "/exit")


def main(argv: list[str]) -> None:
    """Parse the command line and talk until end of input."""
    args = inference_parser("ftkit chat", "Talk to a model or to adapters.").parse_args(argv)
    check_sampling(args)
    conversants = load_conversants(args, with_base=True)
    for name, conversant in conversants.items():
        say(f"{name}: template {template_name(name, conversant, args)}")
    if args.adapter and BASE not in conversants:
        say("the base can't be asked: the adapters added tokens to its vocabulary")
    say(HELP)
    talk(conversants, args, sys.stdin)


def template_name(name: str, conversant, args) -> str:
    """What the template was called in training, where --template does not say."""
    from ftkit.model.adapters.files import run_settings

    adapters = parse_adapters(args.adapter)
    own = conversant.template.name
    return run_settings(adapters[name]).get("template", own) if own == "auto" and name in adapters else own


def talk(conversants: dict, args, lines) -> None:
    """Answer each line of `lines`; lines that start with a slash are commands.

    conversants: Conversant by name. The first adapter answers until another is chosen.
    """
    import torch

    torch.manual_seed(args.seed)
    chat = Chat(conversants, args, next((name for name in conversants if name != BASE), BASE))
    while (text := read_line(lines)) is not None:
        command, _, rest = text.partition(" ")
        if command == "/exit":
            return
        try:
            if text.startswith("/"):
                chat.obey(command, rest.strip())
            elif text:
                chat.ask(text)
        except UserError as error:  # a full context or an unknown name: say so and keep the conversation usable
            say(error)


@dataclass
class Chat:
    """One conversation, kept as text, with whoever is chosen; each renders all of it by its own template."""

    conversants: dict
    args: object
    current: str
    messages: list[dict] = field(init=False)

    def __post_init__(self):
        self.messages = opening(self.args.system)

    def ask(self, text: str) -> None:
        """Put a question and keep the answer; raise UserError, and forget the question, where the context is full."""
        question = {"role": "user", "content": text}
        answer = stream_answer(self.conversants[self.current], [*self.messages, question], self.args)
        self.messages += [question, {"role": "assistant", "content": answer}]

    def obey(self, command: str, rest: str) -> None:
        """Carry out a slash command; an unknown one is named with the nearest."""
        if command == "/system":
            self.args.system = rest or None
        if command in ("/system", "/reset"):
            self.messages = opening(self.args.system)
            say("conversation starts anew")
        elif command == "/adapter":
            self.swap(rest)
        elif command == "/compare":
            self.compare(rest)
        elif command == "/help":
            say(HELP)
        else:
            say(f"unknown command {command}{did_you_mean(command, SLASH_COMMANDS)}")

    def swap(self, name: str) -> None:
        """Let another adapter, or the base, answer from here on; without a name say which there are."""
        names = ", ".join(self.conversants)
        if name and name not in self.conversants:
            hint = did_you_mean(name, self.conversants) or f"; there are: {names}"
            raise UserError(f'no adapter "{name}"{hint}')
        self.current = name or self.current
        say(f"{self.current} answers" + ("" if name else f"; there are: {names}"))

    def compare(self, text: str) -> None:
        """Print everyone's answer to `text`, or to the last question, in the conversation as it was when it was asked.

        Sampled answers all start from --seed. Nothing of it is kept.
        """
        import torch

        messages = [*self.messages, {"role": "user", "content": text}] if text else self.messages[:-1]
        if not messages or messages[-1]["role"] != "user":
            raise UserError("nothing was asked yet; ask, or write /compare TEXT")
        for name, conversant in self.conversants.items():
            print(f"[{name}]", flush=True)
            with torch.random.fork_rng():
                torch.manual_seed(self.args.seed)
                stream_answer(conversant, messages, self.args)


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


def stream_answer(conversant, messages: list[dict], args) -> str:
    """Print the answer token by token as it comes; return its text."""
    import torch

    from ftkit.inference.generation import AnswerStreamer, answer_limit, answer_text

    settings = sampling_settings(args)
    if args.temperature == 0:
        settings = {name: settings[name] for name in ("max_new_tokens", "repetition_penalty")}
    prompt = conversant.prompt_ids(messages)
    settings["max_new_tokens"] = answer_limit(conversant.model, len(prompt), args.max_new_tokens)
    ids = torch.tensor([prompt], device=conversant.model.device)
    ends = conversant.end_token_ids
    with conversant.active(), torch.inference_mode():
        output = conversant.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            eos_token_id=ends,
            pad_token_id=conversant.tokenizer.pad_token_id,
            streamer=AnswerStreamer(conversant.tokenizer, ends),
            do_sample=args.temperature > 0,
            **settings,
        )
    return conversant.shown(answer_text(output[0, ids.shape[1] :].tolist(), ends, conversant.tokenizer))
