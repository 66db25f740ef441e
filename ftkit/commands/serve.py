"""Serves a model and its adapters to OpenAI's clients, each answer by the version that its name pointed to.

ftkit serve --model_name_or_path smollm2 --adapter first=runs/first --adapter second=runs/second
"""

import sys

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.inference.asking import ModelSettings, parse_adapters


def main(argv: list[str]) -> None:
    """Parse the command line, load, and answer until Ctrl-C."""
    args = serve_parser().parse_args(argv)
    if not 0 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}; give a number from 0 to 65535")
    settings = ModelSettings(
        args.model_name_or_path, parse_adapters(args.adapter), template=args.template, dtype=args.dtype,
        load_in_4bit=args.load_in_4bit, ftgpt=args.ftgpt, trust_remote_code=args.trust_remote_code,
    )  # fmt: skip
    from ftkit.serving.app import address_of, check_installed, listen, run

    check_installed()
    with listen(args.host, args.port) as listener:
        from ftkit.inference.batching.batcher import Batcher
        from ftkit.inference.batching.request import Limits
        from ftkit.serving.api import serving_app

        batcher = Batcher.load(settings, Limits(num_slots=args.num_slots))
        print(f"serving {', '.join(batcher.registry.names())} at {address_of(listener)}/v1", flush=True)
        print("Ctrl-C ends it", file=sys.stderr, flush=True)
        run(serving_app(batcher, args.host), listener)
        batcher.close()


def serve_parser() -> CommandParser:
    """The settings of the model, of the server, and its limits."""
    parser = CommandParser(prog="ftkit serve", examples=__doc__, description="Serve a model and its adapters.")
    add = parser.add_argument
    add("--model_name_or_path", help="Hub id, local folder or .gguf file; with --adapter: its base, if moved")
    add("--adapter", action="append", default=[], metavar="[NAME=]PATH", help="output folder of a run with --use_peft")
    add("--template", default="auto", help="bundled name, .jinja file, or auto: the one it was trained with")
    add("--load_in_4bit", action="store_true", help="quantise the base with bitsandbytes")
    add("--dtype", choices=["auto", "bfloat16", "float16", "float32"], help="precision; default: the fast one here")
    add("--ftgpt", action="store_true", help="load GPT-2, Llama or Qwen2 weights into FTGPT")
    add("--trust_remote_code", action="store_true", help="run Python code that comes with the model")
    add("--host", default="127.0.0.1", help="address to listen at")
    add("--port", type=int, default=8000, help="0 takes a free one")
    add("--num_slots", type=int, default=16, help="answers at once")
    return parser
