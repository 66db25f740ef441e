"""Exports a model, or an adapter merged into its base, for other engines: plain folder, .gguf, Ollama.

ftkit export --adapter runs/mine --format ollama --output_dir exports/mine
ftkit export --adapter runs/mine --unmerged --format gguf --output_dir exports/lora
"""

import re
from pathlib import Path

from ftkit.config.errors import UserError, did_you_mean
from ftkit.config.files import check_folder
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command, quoted

FORMATS = ("gpt2", "llama", "qwen2", "gguf", "ollama", "ternary")
QUANTIZATIONS = ("f16", "q8_0", "f32", "bf16")
DTYPES = ("auto", "float32", "bfloat16", "float16")
GENERIC = {"ollama", "gguf", "export", "exports", "exported", "out", "output", "runs", "model", "models", "tmp"}


def main(argv: list[str]) -> None:
    """Parse the command line, export, print what was measured and what to run next."""
    args = parse(argv)
    from ftkit.config.quiet import quiet_libraries
    from ftkit.publish.export.export import export_model

    quiet_libraries()
    exported = export_model(
        args.model,
        args.output_dir,
        args.format,
        adapter=args.adapter,
        is_unmerged=args.unmerged,
        quantization=args.quantization or "f16",
        dtype=args.dtype or "auto",
    )
    print(exported.certificate.line())
    if exported.record.get("num_tensors_in_f16_instead"):
        print(f"{exported.record['num_tensors_in_f16_instead']} tensors don't divide into q8_0 blocks; they are f16")
    if args.format == "ollama":
        print(exported.record["note"])
    print(f"exported: {exported.folder} (the figures: export.json); next: {next_command(args, exported.folder)}")


def parse(argv: list[str]):
    """The settings; UserError where they contradict each other."""
    parser = CommandParser(
        prog="ftkit export", examples=__doc__, description="Export a model for other engines, and prove it is equal."
    )
    parser.add_argument("model", nargs="?", help="Hub id, folder or .gguf file; with --adapter: its base, if moved")
    parser.add_argument(
        "--format", required=True, choices=FORMATS, help="plain folder of a family, .gguf, Ollama, or 1.58 bits packed"
    )
    parser.add_argument("--output_dir", required=True, help="folder to make; must not exist, or be empty")
    parser.add_argument("--adapter", help="output folder of a run with --use_peft; it is merged first")
    parser.add_argument(
        "--unmerged", action="store_true",
        help="write the adapter by itself, as a LoRA .gguf: for llama.cpp's --lora, or for Ollama beside its base",
    )  # fmt: skip
    parser.add_argument("--quantization", help="type of weights in gguf, ollama: f16 (default), q8_0, f32 or bf16")
    parser.add_argument("--dtype", choices=DTYPES, help="type of weights in a plain folder; as stored if unset")
    args = parser.parse_args(argv)
    check_quantization(args)
    is_plain = args.format not in ("gguf", "ollama")
    if not args.model and not args.adapter:
        raise UserError("name a model: ftkit export MODEL ..., or --adapter OUT for a trained adapter")
    if is_plain and args.quantization:
        raise UserError(f"--quantization is for gguf and ollama, not {args.format}; choose --dtype instead")
    if not is_plain and args.dtype and not args.adapter:
        raise UserError(f"--dtype is for plain folders, not {args.format}; choose --quantization instead")
    if args.unmerged:
        check_unmerged(args)
    check_folder(args.output_dir)
    return args


def check_unmerged(args) -> None:
    """Raise UserError where no adapter can be written by itself."""
    if not args.adapter or args.format not in ("gguf", "ollama"):
        raise UserError("--unmerged writes a LoRA .gguf: it needs --adapter OUT, and --format gguf or ollama")
    if args.dtype:
        raise UserError("--dtype has no effect with --unmerged; choose --quantization instead")
    if args.format == "gguf" and args.quantization == "q8_0":
        raise UserError("--quantization q8_0: a LoRA's rows are too short for its blocks; take f16, bf16 or f32")


def check_quantization(args) -> None:
    """Raise UserError for a type of weights that is not written here; llama.cpp makes the smaller ones of a .gguf."""
    wanted = args.quantization = args.quantization and args.quantization.lower()
    if wanted is None or wanted in QUANTIZATIONS:
        return
    if re.fullmatch(r"(iq|tq|q)\d\w*", wanted):
        out = args.output_dir
        raise UserError(
            f"--quantization {wanted}: llama.cpp makes that; export f16, then run: "
            f"llama-quantize {quoted(f'{out}/model.gguf')} {quoted(f'{out}/model-{wanted}.gguf')} {wanted.upper()}"
        )
    hint = did_you_mean(wanted, QUANTIZATIONS)
    raise UserError(f"--quantization {wanted}; allowed are {', '.join(QUANTIZATIONS)}{hint}")


def ollama_name(folder: Path, source: str) -> str:
    """A name for Ollama: the folder's own, or where that says only what it is, the name of what was exported."""
    for path in (folder.resolve(), Path(source)):
        name = path.name.removesuffix(".gguf").lower()
        if name not in GENERIC and (letters := re.sub(r"[^a-z0-9_.-]+", "-", name).strip("-.")):
            return letters
    return "my-model"


def next_command(args, folder: Path) -> str:
    """What a person does next with the result."""
    if args.format == "ollama":
        name = ollama_name(folder, args.adapter or args.model)
        return f"ollama create {name} -f {quoted(f'{folder}/Modelfile')}"
    if args.unmerged and args.format == "gguf":
        return f"llama-server -m BASE.gguf --lora {quoted(f'{folder}/adapter.gguf')}"
    if args.format == "gguf":
        file = f"{folder}/model.gguf"
        return f"llama-server -m {quoted(file)} --jinja, or {command('chat', '--model', file)}"
    return f"{command('push', folder, 'USER/NAME')}, or {command('chat', '--model', folder)}"
