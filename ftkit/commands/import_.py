"""Brings a GPT of your own, as a book or a course has you write it, into ftkit, with equal logits.

ftkit import model.pth --from book --num_heads 12 --vocab gpt2 --output_dir runs/mine
ftkit import out/ckpt.pt --from nanogpt --vocab gpt2 --output_dir runs/mine
"""

from ftkit.config.errors import UserError
from ftkit.config.files import check_folder
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command

KINDS = ("book", "nanogpt", "llama2.c")
ACTIVATIONS = ("gelu", "gelu_new")


def main(argv: list[str]) -> None:
    """Parse the command line, import, print what was read, how equal it is, and what to run next."""
    args = parse(argv)
    from ftkit.config.quiet import quiet_libraries
    from ftkit.model.importing import import_checkpoint, num_parameters
    from ftkit.model.weights.from_scratch import Asked

    quiet_libraries()
    asked = Asked(args.num_heads, args.hidden_act)
    done = import_checkpoint(args.file, args.source, args.output_dir, args.vocab, asked, template=args.template)
    config, record = done.config, done.record
    bias, head = (
        "with" if config.attention_bias else "without",
        "tied to" if config.tie_word_embeddings else "apart from",
    )
    print(
        f"read       {num_parameters(config) / 1e6:.2f} M parameters: {config.num_hidden_layers} layers, "
        f"{config.hidden_size} wide, {config.num_attention_heads} heads, {config.vocab_size:,} tokens, context "
        f"{config.max_position_embeddings}; queries, keys and values {bias} bias; head {head} the embedding"
    )
    print(
        f"checked    logits against the source's own formula on {record['num_tokens_compared']} tokens: largest "
        f"difference {record['largest_logit_difference']:.2g} (of {record['largest_logit']:.3g})"
    )
    for warning in done.warnings:
        print(f"warning    {warning}")
    print(f"imported: {done.folder} (the figures: import.json); next: {next_command(args)}")


def parse(argv: list[str]):
    """The settings; UserError for one that is missing."""
    parser = CommandParser(
        prog="ftkit import", examples=__doc__, description="Bring a GPT of your own into ftkit, with equal logits."
    )
    add = parser.add_argument
    add("file", help="the weights: .pth or .pt as torch.save wrote them, or .safetensors")
    add("--from", dest="source", choices=KINDS, help="who wrote it; book: Build a Large Language Model (From Scratch)")
    add("--vocab", help="gpt2 (it comes with ftkit), or the folder of the tokenizer that the model was trained with")
    add("--output_dir", required=True, help="folder to make; must not exist, or be empty")
    add("--num_heads", type=int, help="attention heads, where the file does not say (your n_heads)")
    add("--hidden_act", choices=ACTIVATIONS, help="exact GELU or its tanh form; book: gelu_new, nanogpt: gelu")
    add("--template", help="chat template it was trained with, such as alpaca after chapter 7")
    args = parser.parse_args(argv)
    if args.source is None:
        raise UserError("--from is missing; give --from book, nanogpt or llama2.c: where the model was written")
    if args.vocab is None:
        raise UserError("--vocab is missing; give --vocab gpt2, or the folder of the model's tokenizer")
    check_folder(args.output_dir)
    return args


def next_command(args) -> str:
    """What a person does next with the result."""
    if args.template:
        return command("chat", "--model", args.output_dir)
    return command("generate", "--model", args.output_dir, "--template", "none", "--prompt", "Every effort moves you")
