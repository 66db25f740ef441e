"""What `ftkit generate` and `ftkit chat` share: settings, the loaded models, and a conversation as token ids."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser
from ftkit.inference.end_tokens import end_token_ids

BASE = "base"  # what the model without any adapter is called
ADAPTER_NAME = re.compile(r"[\w.-]+")
ADAPTER_FORM = "write --adapter PATH, or --adapter NAME=PATH"


def inference_parser(prog: str, description: str) -> CommandParser:
    """A parser with the settings of the model and of sampling."""
    parser = CommandParser(prog=prog, description=description)
    parser.add_argument(
        "--model_name_or_path", help="Hub id, local folder or .gguf file; with --adapter: its base, if moved"
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="output folder of a run with --use_peft; several share one base",
    )
    parser.add_argument("--ftgpt", action="store_true", help="load GPT-2, Llama or Qwen2 weights into FTGPT")
    parser.add_argument(
        "--template", default="auto", help="bundled name, .jinja file, or auto: the one it was trained with"
    )
    parser.add_argument("--system", help="system text of the conversation")
    parser.add_argument("--load_in_4bit", action="store_true", help="quantise the base with bitsandbytes")
    parser.add_argument(
        "--dtype", choices=["auto", "bfloat16", "float16", "float32"], help="precision; default: the fast one here"
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that comes with the model")
    parser.add_argument("--max_new_tokens", type=int, default=256, help="longest answer, in tokens")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token each time")
    parser.add_argument("--top_k", type=int, default=0, help="sample from the k likeliest tokens; 0: from all")
    parser.add_argument(
        "--top_p", type=float, default=1.0, help="sample from the likeliest tokens of this total probability"
    )
    parser.add_argument("--repetition_penalty", type=float, default=1.0, help="above 1 makes used tokens less likely")
    parser.add_argument("--seed", type=int, default=0, help="seed of sampling")
    return parser


def check_sampling(args) -> None:
    """Raise UserError for values that no sampler accepts."""
    if not 0 <= args.temperature < math.inf:
        raise UserError(f"--temperature is {args.temperature}; give 0 (greedy) or more")
    if not 0 < args.top_p <= 1:
        raise UserError(f"--top_p is {args.top_p}; give a probability above 0 and at most 1")
    if args.top_k < 0 or args.max_new_tokens < 1 or not 0 < args.repetition_penalty < math.inf:
        raise UserError("--top_k must not be negative, --max_new_tokens and --repetition_penalty must be positive")


def sampling_settings(args) -> dict:
    """The sampling settings by the names `generate_answers` and transformers share."""
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")
    return {name: getattr(args, name) for name in names}


def parse_adapters(values: list[str]) -> dict[str, str]:
    """Adapter folders by name, from PATH or NAME=PATH; a folder's own name where none is given.

    Raises UserError for a missing name or path, a name that is taken, and letters that can't be typed after /adapter.
    """
    adapters = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or Path(value).exists():
            name, path = Path(value).resolve().name, value
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


@dataclass
class Conversant:
    """A model that answers conversations: always through its template.

    Conversants may share one model and differ in `adapter`, PEFT's name of the one that answers; None is none.
    """

    model: Any
    tokenizer: Any
    template: Any
    adapter: str | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, the model answers as this conversant: with its adapter, or with the bare weights."""
        if not hasattr(self.model, "peft_config"):
            yield
        elif self.adapter is None:
            with self.model.disable_adapter():
                yield
        else:
            self.model.set_adapter(self.adapter)
            yield

    @property
    def end_token_ids(self) -> list[int]:
        """Tokens that end an answer."""
        return end_token_ids(self.tokenizer, self.template, self.model.generation_config.eos_token_id)

    def shown(self, answer: str) -> str:
        """An answer as a person should read it, without the invisible letters that keep text from being structure."""
        from ftkit.data.templates.templates import restore

        return restore(answer, self.template)

    def prompt_ids(self, messages: list[dict]) -> list[int]:
        """Token ids of a conversation up to the point where the answer starts.

        Messages are text, rendered anew by this conversant's own template: after a swap of adapters the whole history
        is read as the new one would have been asked it, other conversants' answers included.
        Raises UserError when nothing is left of the model's context for an answer.
        """
        from ftkit.data.tokens.tokenization import prompt_ids
        from ftkit.inference.generation import answer_limit

        ids = prompt_ids(messages, self.tokenizer, self.template)
        try:
            answer_limit(self.model, len(ids), 1)
        except ValueError as error:
            raise UserError(f"{error} or start anew") from error
        return ids


def load_conversant(args) -> Conversant:
    """Load one model, or one adapter on its base, as the settings say.

    Raises UserError when neither a model nor an adapter is named, or one can't be loaded.
    """
    return next(iter(load_conversants(args).values()))


def load_conversants(args, *, with_base: bool = False) -> dict[str, Conversant]:
    """Load the model, its adapters and templates as the settings say: by name, all on one set of base weights.

    Without adapters the model stands alone, under the name "base". with_base: put the model without adapters first,
    rendered by its own template where it has one, else by the first adapter's; left out where the adapters have tokens
    that it was never trained on.
    Raises UserError when nothing is named, one can't be loaded, or the adapters can't share a base.
    """
    from ftkit.config.hardware import probe, use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.model.adapters.loading import put_adapter
    from ftkit.model.adapters.methods import four_bit_config
    from ftkit.model.loading import load_model, local_adapter_folder

    quiet_libraries()
    adapters = {name: local_adapter_folder(path) for name, path in parse_adapters(args.adapter).items()}
    folder = base_folder(args, adapters)
    use_all_cores()
    if args.dtype is None:
        args.dtype = "bfloat16" if probe().bf16 else "float32"
    texts = {name: load_text_side(tokenizer_of(path, folder), args.template, path) for name, path in adapters.items()}
    check_vocabularies(texts)
    if not adapters:
        is_gguf = args.model_name_or_path.endswith(".gguf")  # its lock lies beside the file
        texts = {BASE: load_text_side(folder, args.template, args.model_name_or_path if is_gguf else folder)}
    elif with_base:
        texts = with_base_side(texts, folder, args.template)
    model = load_model(
        folder,
        dtype=args.dtype,
        quantization_config=four_bit_config(args.dtype) if args.load_in_4bit else None,
        trust_remote_code=args.trust_remote_code,
    )
    peft_names = {}
    for number, (name, path) in enumerate(adapters.items()):
        peft_names[name] = f"adapter_{number:04d}"  # PEFT forbids dots, and confuses names that hold one another
        model = put_adapter(model, path, texts[name][0], name=peft_names[name], base_folder=folder)
    model = model.eval().to(probe().device)
    return {name: Conversant(model, *text, peft_names.get(name)) for name, text in texts.items()}


def base_folder(args, adapters: dict[str, str]) -> str:
    """The local folder of the model that is named, or of the adapters' one base."""
    from ftkit.model.adapters.files import read_adapter_config, resolve_base
    from ftkit.model.loading import local_model_folder

    if not args.model_name_or_path and not adapters:
        raise UserError("name a model: --model_name_or_path M, or --adapter OUT for a trained adapter")
    for path in adapters.values():
        read_adapter_config(path)
    if adapters:
        return resolve_base(next(iter(adapters.values())), args.model_name_or_path, ftgpt=args.ftgpt)
    return local_model_folder(args.model_name_or_path, ftgpt=args.ftgpt)


def tokenizer_of(adapter: str, folder: str) -> str:
    """The folder whose tokenizer belongs to an adapter."""
    from ftkit.model.adapters.merging import tokenizer_folder

    return str(tokenizer_folder(adapter, folder))


def load_text_side(folder: str, template: str, owner: str) -> tuple:
    """Tokenizer and template of a folder; UserError where `owner`, a model or adapter, was trained with others."""
    from ftkit.data.templates.lock import verify_lock
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(folder)
    info = install_template(tokenizer, template)
    verify_lock(owner, tokenizer)
    return tokenizer, info


def with_base_side(texts: dict[str, tuple], folder: str, template: str) -> dict[str, tuple]:
    """`texts` of adapters with the base's tokenizer and template in front, unless an adapter added tokens."""
    from ftkit.data.templates.lock import read_lock, verify_lock
    from ftkit.data.templates.templates import install_template
    from ftkit.model.loading import load_tokenizer

    first = next(iter(texts.values()))
    try:
        tokenizer = load_tokenizer(folder)
    except UserError:  # a base without a tokenizer has only the adapters'
        return {BASE: first, **texts}
    if first[0].get_vocab() != tokenizer.get_vocab():
        return texts
    try:
        info = install_template(tokenizer, template)
    except UserError:  # the base has no template: it is asked as its first adapter is
        return {BASE: first, **texts}
    if read_lock(folder):
        verify_lock(folder, tokenizer)
    return {BASE: (tokenizer, info), **texts}


def check_vocabularies(texts: dict[str, tuple]) -> None:
    """Raise UserError unless all adapters were trained with one vocabulary: they share the base's embeddings."""
    vocabularies = {name: set(tokenizer.get_vocab().items()) for name, (tokenizer, _) in texts.items()}
    for name, vocabulary in vocabularies.items():
        first, other = next(iter(vocabularies.items()))
        if vocabulary != other:
            token = min(token for token, _ in vocabulary ^ other)
            raise UserError(
                f'adapters {first} and {name} have different vocabularies (token "{token}" is not in both alike); '
                "start one command for each"
            )
