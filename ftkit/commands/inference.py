"""What `ftkit generate` and `ftkit chat` share: settings, the loaded model, and a conversation as token ids."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.parser import CommandParser


def inference_parser(prog: str, description: str) -> CommandParser:
    """A parser with the settings of the model and of sampling."""
    parser = CommandParser(prog=prog, description=description)
    parser.add_argument(
        "--model_name_or_path", help="Hub id, local folder or .gguf file; with --adapter: its base, if moved"
    )
    parser.add_argument("--adapter", help="output folder of a run with --use_peft")
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
    if args.temperature < 0:
        raise UserError(f"--temperature is {args.temperature}; give 0 (greedy) or more")
    if not 0 < args.top_p <= 1:
        raise UserError(f"--top_p is {args.top_p}; give a probability above 0 and at most 1")
    if args.top_k < 0 or args.max_new_tokens < 1 or args.repetition_penalty <= 0:
        raise UserError("--top_k must not be negative, --max_new_tokens and --repetition_penalty must be positive")


def sampling_settings(args) -> dict:
    """The sampling settings by the names `generate_answers` and transformers share."""
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")
    return {name: getattr(args, name) for name in names}


@dataclass
class Conversant:
    """A model that answers conversations: always through its template."""

    model: Any
    tokenizer: Any
    template: Any

    @property
    def end_token_ids(self) -> list[int]:
        """Tokens that end an answer."""
        ids = [self.template.end_of_turn_id, self.tokenizer.eos_token_id]
        return list(dict.fromkeys(i for i in ids if i is not None))

    def shown(self, answer: str) -> str:
        """An answer as a person should read it, without the invisible letters that keep text from being structure."""
        from ftkit.data.templates import restore

        return restore(answer, self.template)

    def prompt_ids(self, messages: list[dict]) -> list[int]:
        """Token ids of a conversation up to the point where the answer starts.

        Raises UserError when nothing is left of the model's context for an answer.
        """
        from ftkit.data.tokenization import prompt_ids

        ids = prompt_ids(messages, self.tokenizer, self.template)
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context and len(ids) >= context:
            raise UserError(
                f"the conversation has {len(ids)} tokens, the model's context {context}; shorten it or start anew"
            )
        return ids


def load_conversant(args) -> Conversant:
    """Load the model, its adapter and template as the settings say.

    Raises UserError when neither a model nor an adapter is named, or one can't be loaded.
    """
    from ftkit.config.hardware import probe, use_all_cores
    from ftkit.data.templates import install_template
    from ftkit.model import adapters
    from ftkit.model.loading import load_model, load_tokenizer, local_model_folder
    from ftkit.training.quiet import quiet_libraries

    quiet_libraries()
    if not args.model_name_or_path and not args.adapter:
        raise UserError("name a model: --model_name_or_path M, or --adapter OUT for a trained adapter")
    use_all_cores()
    settings = adapter_settings(args.adapter) if args.adapter else {}
    name = args.model_name_or_path or settings["model_name_or_path"]
    folder = local_model_folder(name, ftgpt=args.ftgpt or settings.get("ftgpt", False))
    if args.dtype is None:
        args.dtype = "bfloat16" if probe().bf16 else "float32"
    has_tokenizer = args.adapter and (Path(args.adapter) / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(args.adapter if has_tokenizer else folder)
    template = install_template(tokenizer, args.template)
    model = load_model(
        folder,
        dtype=args.dtype,
        quantization_config=adapters.four_bit_config(args.dtype) if args.load_in_4bit else None,
        trust_remote_code=args.trust_remote_code,
    )
    if args.adapter:
        model = adapters.put_adapter(model, args.adapter, tokenizer)
    return Conversant(model.eval().to(probe().device), tokenizer, template)


def adapter_settings(adapter: str) -> dict:
    """Base model of an adapter and how it was loaded: from the run's run.yaml, else from adapter_config.json."""
    from ftkit.model.adapters import base_of_adapter
    from ftkit.training.run_folder import read_run_yaml

    base = base_of_adapter(adapter)
    settings = read_run_yaml(adapter)
    return settings if "model_name_or_path" in settings else {"model_name_or_path": base}
