"""What a person asks of a model: the flags of every command that asks one, and the frozen settings they become.

args = asking_parser("ftkit chat", "Talk to a model.").parse_args(argv)
engine, sampling = Engine.load(model_settings(args)), sampling_of(args)
"""

import argparse
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser

BASE = "base"  # what the model without any adapter is called
PLAIN = "none"  # --template: no chat template, text is continued as it is
EMPTY_ANSWER = "(empty answer)"  # as a person sees it
SEEDS = 2**63  # that torch takes, from 0 on
ADAPTER_NAME = re.compile(r"[\w.-]+")
LOCAL_SETTINGS = (
    "adapter", "ftgpt", "template", "load_in_4bit", "dtype", "trust_remote_code", "top_k", "repetition_penalty",
)  # fmt: skip  # which have no effect on a server
ADAPTER_FORM = "write --adapter PATH, or --adapter NAME=PATH"


@dataclass(frozen=True)
class ModelSettings:
    """Which model is asked, and how it is loaded.

    model_name_or_path: Hub id, folder or .gguf file; with adapters their base, None where it is the one they name.
    adapters: folders or Hub ids by name. template: bundled name, .jinja file, auto or none. may_lack_template: whether
    a tokenizer without a template means none under auto, instead of a mistake. dtype: None takes the fast one here.
    """

    model_name_or_path: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: str = "auto"
    may_lack_template: bool = False
    dtype: str | None = None
    load_in_4bit: bool = False
    ftgpt: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.model_name_or_path and not self.adapters:
            raise UserError("name a model: --model_name_or_path M, or --adapter OUT for a trained adapter")


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: greedily at temperature 0. Raises UserError for values that no sampler accepts.

    seed: makes drawing repeatable; None leaves it to torch's global generator. min_p: least probability of a token, as
    a share of the likeliest one's. num_beams: beams of a search for the likeliest answer, whose log-probability is
    divided by its length to the power of length_penalty. no_repeat_ngram_size: so many tokens in a row never come twice
    in prompt and answer; 0 allows it.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    min_p: float = 0.0
    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"--temperature is {self.temperature}; give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top_p is {self.top_p}; give a probability above 0 and at most 1")
        if self.top_k < 0 or self.max_new_tokens < 1 or not 0 < self.repetition_penalty < math.inf:
            raise UserError("--top_k must not be negative, --max_new_tokens and --repetition_penalty must be positive")
        if self.seed is not None and not 0 <= self.seed < SEEDS:
            raise UserError(f"--seed is {self.seed}; give a number from 0 to 2^63 - 1")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"--min_p is {self.min_p}; give a share from 0 to 1")
        if self.num_beams < 1 or self.no_repeat_ngram_size < 0 or not math.isfinite(self.length_penalty):
            raise UserError(
                "--num_beams starts at 1, --no_repeat_ngram_size at 0, and --length_penalty is a finite number"
            )
        if self.num_beams > 1 and self.temperature > 0:
            raise UserError("--num_beams searches for the likeliest answer, a --temperature above 0 draws; drop one")
        if self.num_beams == 1 and self.length_penalty != 1:
            raise UserError("--length_penalty has no effect without --num_beams; add --num_beams 4, or drop it")


def asking_parser(prog: str, description: str, examples: str | None = None) -> CommandParser:
    """A parser with the settings of the model and of sampling. examples: the text of the command's module."""
    parser = CommandParser(prog=prog, description=description, examples=examples)
    add = parser.add_argument
    add("--model_name_or_path", help="Hub id, local folder or .gguf file; with --adapter: its base, if moved")
    add(
        "--adapter",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="output folder of a run with --use_peft; several share one base",
    )
    add("--ftgpt", action="store_true", help="load GPT-2, Llama or Qwen2 weights into FTGPT")
    add("--template", default="auto", help="bundled name, .jinja file, auto: the one it was trained with, or none")
    add("--system", help="system text of the conversation")
    add("--load_in_4bit", action="store_true", help="quantise the base with bitsandbytes")
    add("--dtype", choices=["auto", "bfloat16", "float16", "float32"], help="precision; default: the fast one here")
    add("--trust_remote_code", action="store_true", help="run Python code that comes with the model")
    add("--max_new_tokens", type=int, default=256, help="longest answer, in tokens")
    add("--temperature", type=float, default=0.0, help="0 takes the likeliest token each time")
    add("--top_k", type=int, default=0, help="sample from the k likeliest tokens; 0: from all")
    add("--top_p", type=float, default=1.0, help="sample from the likeliest tokens of this total probability")
    add("--repetition_penalty", type=float, default=1.0, help="above 1 makes used tokens less likely")
    add("--seed", type=int, default=0, help="seed of sampling")
    return parser


def add_drawing_flags(parser: CommandParser) -> None:
    """Add the further settings of sampling, for commands that answer by a model in this process alone."""
    add = parser.add_argument
    add("--min_p", type=float, default=0.0, help="sample from tokens at least this share as likely as the likeliest")
    add("--num_beams", type=int, default=1, help="beams of a search for the likeliest answer; 1: none")
    add("--length_penalty", type=float, default=1.0, help="of beams: above 0 favours long answers, below 0 short ones")
    add("--no_repeat_ngram_size", type=int, default=0, help="so many tokens in a row never come twice; 0: they may")


def add_endpoint_flags(parser: CommandParser) -> None:
    """Add the settings of asking a server, and what its tokens cost."""
    add = parser.add_argument
    add("--endpoint", metavar="URL", help="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1")
    add("--api_key_variable", help="environment variable with the server's key; default: OPENAI_API_KEY, if it is set")
    add("--timeout_seconds", type=float, default=120.0, help="of one attempt at the server")
    add("--num_retries", type=int, default=4, help="after a failed attempt")
    add("--concurrency", type=int, default=4, help="requests to the server at once")
    add("--input_price", type=float, help="of a million tokens that are read")
    add("--output_price", type=float, help="of a million tokens that are written")


def check_endpoint_flags(args: argparse.Namespace, parser: CommandParser) -> None:
    """Raise UserError for flags of a local model beside --endpoint, a key that is not set, and prices below 0."""
    for name in LOCAL_SETTINGS if args.endpoint else ():
        if getattr(args, name) != parser.get_default(name):
            fix = "; name the server's model by --model_name_or_path" if name == "adapter" else "; leave it out"
            raise UserError(f"--{name} has no effect with --endpoint{fix}")
    if any(price is not None and not 0 <= price < math.inf for price in (args.input_price, args.output_price)):
        raise UserError("--input_price and --output_price are those of a million tokens, 0 or more; correct them")
    if args.api_key_variable and not os.environ.get(args.api_key_variable, "").strip():
        raise UserError(f"--api_key_variable: {args.api_key_variable} is not set; export it, or leave the flag out")


def model_settings(args: argparse.Namespace, **changes) -> ModelSettings:
    """The model that parsed flags name. changes: of fields. Raises UserError where they name none."""
    names = ("model_name_or_path", "template", "dtype", "load_in_4bit", "ftgpt", "trust_remote_code")
    given = {name: getattr(args, name) for name in names}
    return ModelSettings(**(given | {"adapters": parse_adapters(args.adapter)} | changes))


def sampling_of(args: argparse.Namespace) -> Sampling:
    """The sampling of parsed flags. Raises UserError for values out of range."""
    names = [one.name for one in fields(Sampling)]
    return Sampling(**{name: getattr(args, name) for name in names if hasattr(args, name)})


def check_plain(args: argparse.Namespace) -> None:
    """Raise UserError for flags that make no sense where text is continued as it is (--template none)."""
    if args.template == PLAIN and args.system is not None:
        raise UserError(f"--system with --template {PLAIN}: a text that is continued has no turns; drop one of them")


def check_choosing(args: argparse.Namespace) -> None:
    """Raise UserError for --choose and its flags where one of them has no effect, or lacks another."""
    scorers = [name for name in ("reward_model", "judge") if getattr(args, name)]
    if args.choose and args.num_samples < 2:
        raise UserError("--choose needs samples to choose from; add --num_samples 8")
    if args.choose == "best" and len(scorers) != 1:
        raise UserError("--choose best needs one that scores: --reward_model FOLDER, or --judge MODEL@URL or FOLDER")
    if args.choose != "best" and scorers:
        raise UserError(f"--{scorers[0]} has no effect without --choose best; add that, or leave it out")
    if args.num_samples > 1 and args.temperature == 0:
        raise UserError("samples at temperature 0 are all equal; give --temperature 0.7")


def check_text(text: str, where: str) -> None:
    """Raise UserError for text that was no UTF-8 when it was read, as bytes of a terminal or an argument may be."""
    broken = next((letter for letter in text if "\udc80" <= letter <= "\udcff"), None)
    if broken:
        raise UserError(f"{where}: not UTF-8 (byte {ord(broken) - 0xDC00:#x}); write it as UTF-8")


def parse_adapters(values: Sequence[str]) -> dict[str, str]:
    """Adapter folders by name, from PATH or NAME=PATH; a folder's own name where none is given.

    Raises UserError for a missing name or path, a name that is taken, and letters that can't be typed after /adapter.
    """
    adapters: dict[str, str] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or "/" in name or Path(value).expanduser().exists():  # a path may hold "=" as well
            name, path = re.sub(r"[^\w.-]+", "-", Path(value).resolve().name), value
        if not name or not path:
            raise UserError(f'--adapter "{value}": {"the path" if name else "the name"} is missing; {ADAPTER_FORM}')
        if not ADAPTER_NAME.fullmatch(name):
            raise UserError(f'--adapter "{value}": a name has letters, digits, ".", "_" and "-"; {ADAPTER_FORM}')
        if name == BASE:
            raise UserError(f'--adapter "{value}": "{BASE}" is the model without adapters; choose another name')
        if name in adapters:
            raise UserError(f'--adapter "{value}": "{name}" is {adapters[name]} already; name it, NAME=PATH')
        adapters[name] = path
    return adapters
