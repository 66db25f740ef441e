"""Serves a model and its adapters to OpenAI's clients, each answer by the version that its name pointed to.

ftkit serve --model_name_or_path smollm2 --adapter first=runs/first --adapter second=runs/second
ftkit serve --backend vllm=http://127.0.0.1:8000 --adapter first=runs/first     # load it there, see that it acts
ftkit serve --model_name_or_path smollm2 --index runs/index                     # answers from your documents
ftkit serve --model_name_or_path smollm2 --admin_key KEY --registry runs        # load others while it runs
"""

import math
import os
import shlex
import sys
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.inference.asking import ModelSettings, parse_adapters
from ftkit.inference.retrieval.retriever import add_index_flags, retriever_of
from ftkit.serving.keys import Keys

OF_BACKENDS = {  # flags that each looks at
    "vllm": ("adapter", "api_key"),
    "transformers": ("model_name_or_path", "adapter", "host", "port", "dtype", "trust_remote_code"),
}
LIMITS = ("num_slots", "max_waiting", "max_length", "prefix_gib", "adapter_gib")  # of `Limits`


def main(argv: list[str]) -> None:
    """Parse the command line, load, and answer until Ctrl-C."""
    parser = serve_parser()
    args = parser.parse_args(argv)
    if args.backend is not None:
        serve_elsewhere(args, parser)
        return
    check_limits(args)
    keys = Keys(args.api_key or os.environ.get("FTKIT_API_KEY"), args.admin_key or os.environ.get("FTKIT_ADMIN_KEY"))
    keys.check_host(args.host)
    registry = folder_of(args.registry, keys)
    retriever = retriever_of(args)
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

        sentence_model = sentence_model_of(args.embedding_model)
        batcher = Batcher.load(settings, Limits(**{name: getattr(args, name) for name in LIMITS}))
        app = serving_app(
            batcher, args.host, keys=keys, origins=args.allow_origin, seconds=args.max_seconds,
            sentence_model=sentence_model, registry=registry, allow_untrained=args.allow_untrained, retriever=retriever,
        )  # fmt: skip
        print(f"serving {', '.join(batcher.registry.names())} at {address_of(listener)}/v1", flush=True)
        print("Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            run(app, listener)
        finally:
            batcher.close()


def serve_elsewhere(args, parser: CommandParser) -> None:
    """Hand the model or its adapters to another engine, as --backend says."""
    kind, _, url = args.backend.partition("=")
    if (kind, bool(url)) not in (("vllm", True), ("transformers", False)):
        raise UserError(f"--backend {args.backend}: give vllm=URL, as vllm=http://127.0.0.1:8000, or transformers")
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    if others := [name for name in given if name not in (*OF_BACKENDS[kind], "backend")]:
        raise UserError(f"--{others[0]} has no effect with --backend {kind}: the server there decides it; drop it")
    adapters = parse_adapters(args.adapter)
    if kind == "vllm":
        from ftkit.serving.vllm import Vllm, hand_over

        for line in hand_over(Vllm(url, args.api_key or os.environ.get("FTKIT_API_KEY", "")), adapters):
            print(line, flush=True)
        return
    from ftkit.serving.their_engine import serving_command

    words = serving_command(
        args.model_name_or_path, adapters, host=args.host, port=args.port, dtype=args.dtype,
        trust_remote_code=args.trust_remote_code,
    )  # fmt: skip
    print(shlex.join(words), flush=True)
    os.execv(words[0], words)


def check_limits(args) -> None:
    """Raise UserError for numbers that no server can have."""
    if not 0 <= args.port < 2**16:
        raise UserError(f"--port is {args.port}; give a number from 0 to 65535")
    for name, least in (("num_slots", 1), ("max_waiting", 0), ("max_length", 2)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}; give at least {least}")
    for name in ("prefix_gib", "adapter_gib"):
        if not 0 <= getattr(args, name) < math.inf:
            raise UserError(f"--{name} is {getattr(args, name)}; give 0 or more GiB")
    if not 0 < args.max_seconds < math.inf:
        raise UserError(f"--max_seconds is {args.max_seconds}; give a number of seconds above 0")


def folder_of(registry: str | None, keys: Keys) -> Path | None:
    """The folder of --registry. Raises UserError where there is none such, or nobody may load from it."""
    if registry is None:
        return None
    if not Path(registry).is_dir():
        raise UserError(f"--registry {registry}: no such folder; give the one whose adapters may be loaded")
    if keys.admin_key is None:
        raise UserError(f"--registry {registry}: nobody may load from it; give --admin_key too (or FTKIT_ADMIN_KEY)")
    return Path(registry)


def sentence_model_of(name: str | None):
    """The encoder of --embedding_model, if there is one."""
    if name is None:
        return None
    from ftkit.inference.sentences import SentenceModel

    return SentenceModel.load(name)


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
    add("--api_key", help="that requests must bring, as a Bearer token; needed unless --host is this machine's own")
    add("--admin_key", help="of those who load and unload adapters while it runs; without it nobody can")
    add("--registry", metavar="FOLDER", help="the one folder that adapters may be loaded from while it runs")
    add(
        "--allow_untrained",
        action="store_true",
        help="load adapters that change nothing yet while it runs, as a trainer posts its first one (TRL's AsyncGRPO)",
    )
    add("--allow_origin", action="append", default=[], metavar="URL", help="a site whose pages may ask; default: none")
    add("--embedding_model", help="folder or Hub id of a sentence encoder, for /v1/embeddings")
    add_index_flags(parser)
    add(
        "--backend",
        metavar="vllm=URL|transformers",
        help="serve nothing here. vllm=URL: load the adapters into the vLLM server there (its key: --api_key), ask it "
        "the golden prompts of each, show whether it acts as at training, and end. transformers: run its own server "
        "with continuous batching for one model without adapters; it asks for no key, and has its own routes",
    )
    add("--num_slots", type=int, default=16, help="answers at once")
    add("--max_waiting", type=int, default=64, help="requests that may wait beside them, before 429")
    add("--max_length", type=int, help="tokens of prompt and answer together; default: the model's context")
    add("--prefix_gib", type=float, default=0.5, help="memory for prompts that begin alike, which are read once")
    add("--adapter_gib", type=float, default=4.0, help="memory for adapters; beyond it the least recently asked leaves")
    add("--max_seconds", type=float, default=600, help="for one answer, before 408")
    return parser
