"""Talks to a model or an adapter, streaming, through the template it was trained with.

ftkit chat --adapter runs/first
"""

import sys

from ftkit.commands.inference import check_sampling, inference_parser, load_conversant, sampling_settings
from ftkit.config.errors import UserError, did_you_mean

HELP = "/reset starts anew, /system TEXT sets the system text and starts anew, /exit ends"
SLASH_COMMANDS = ("/reset", "/system", "/help", "/exit")


def main(argv: list[str]) -> None:
    """Parse the command line and talk until end of input."""
    args = inference_parser("ftkit chat", "Talk to a model or an adapter.").parse_args(argv)
    check_sampling(args)
    conversant = load_conversant(args)
    print(f"template {conversant.template.name}; {HELP}", file=sys.stderr)
    talk(conversant, args, sys.stdin)


def talk(conversant, args, lines) -> None:
    """Answer each line of `lines`; lines that start with a slash are commands."""
    import torch

    torch.manual_seed(args.seed)
    messages = opening(args.system)
    while (text := read_line(lines)) is not None:
        if text.startswith("/"):
            command, _, rest = text.partition(" ")
            if command == "/exit":
                return
            if command == "/system":
                args.system = rest.strip() or None
            if command in ("/system", "/reset"):
                messages = opening(args.system)
                print("conversation starts anew", file=sys.stderr)
            elif command != "/help":
                hint = did_you_mean(command, SLASH_COMMANDS)
                print(f"unknown command {command}{hint}", file=sys.stderr)
            if command == "/help":
                print(HELP, file=sys.stderr)
        elif text:
            messages.append({"role": "user", "content": text})
            try:
                messages.append({"role": "assistant", "content": stream_answer(conversant, messages, args)})
            except UserError as error:  # the context is full: say so and keep the conversation usable
                messages.pop()
                print(error, file=sys.stderr)


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
    from transformers import TextStreamer

    from ftkit.evaluation.generation import answer_limit

    settings = sampling_settings(args)
    if args.temperature == 0:
        settings = {name: settings[name] for name in ("max_new_tokens", "repetition_penalty")}
    prompt = conversant.prompt_ids(messages)
    settings["max_new_tokens"] = answer_limit(conversant.model, len(prompt), args.max_new_tokens)
    ids = torch.tensor([prompt], device=conversant.model.device)
    streamer = TextStreamer(conversant.tokenizer, skip_prompt=True, skip_special_tokens=True)
    with torch.inference_mode():
        output = conversant.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            eos_token_id=conversant.end_token_ids,
            pad_token_id=conversant.tokenizer.pad_token_id,
            streamer=streamer,
            do_sample=args.temperature > 0,
            **settings,
        )
    return conversant.shown(conversant.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
