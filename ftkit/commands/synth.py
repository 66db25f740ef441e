"""Lets a model write rows, filtered and with their provenance; after a kill the same command goes on.

ftkit synth --kind self-instruct --seeds instructions --model smollm2 --number 20 --output_dir runs/tasks
ftkit synth --kind raft --docs manual/ --endpoint http://127.0.0.1:11434/v1 --model llama3.2 --output_dir runs/raft
ftkit synth --kind preferences --pairs corruption --seeds instructions --number 100 --output_dir runs/pairs
"""

import dataclasses
from pathlib import Path

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.files import check_folder
from ftkit.config.parser import CommandParser
from ftkit.config.paste import command
from ftkit.config.terminal import Progress, resumable
from ftkit.data.reading.read_as import add_reading_flags
from ftkit.inference.asking import (
    add_endpoint_flags,
    asking_parser,
    check_endpoint_flags,
    model_settings,
    parse_adapters,
    sampling_of,
)
from ftkit.inference.synth.kinds import DOCS, KINDS, SEEDS

# Flags of some kinds alone, with their defaults.
KIND_FLAGS = {
    "num_samples": (("reasoning", "preferences"), 4),
    "pairs": (("preferences",), "best-of-n"),
    "passage_tokens": (("questions", "raft"), 150),
    "num_distractors": (("raft",), 3),
    "share_without": (("raft",), 0.2),
    "without_passage": (("raft",), "refuse"),
}
# All else that a row follows from, beside the model, the seeds and the documents.
ROW_SETTINGS = (
    "kind", "endpoint", "system", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "max_new_tokens",
    "batch_size", "template", "dtype", "load_in_4bit", "ftgpt", "near", "near_held_out", "embedding_model", "judge",
    "judge_minimum", *KIND_FLAGS,
)  # fmt: skip
SAMPLING = ("system", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "max_new_tokens")


def main(argv: list[str]) -> None:
    """Parse the command line, make the rows, print what came of it."""
    parser = synth_parser()
    args = parser.parse_args(argv)
    check(args, parser)
    from ftkit.config.output_folder import held

    folder = Path(args.output_dir)
    with held(folder), resumable():
        report(folder, args, argv)


def synth_parser() -> CommandParser:
    """The settings of asking, of the kinds, and of the filters."""
    parser = asking_parser("ftkit synth", "Let a model write rows, from seeds or documents.", __doc__)
    parser.set_defaults(temperature=0.8, top_p=0.95)
    add = parser.add_argument
    kinds = "; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
    add("--kind", choices=list(KINDS), required=True, metavar="KIND", help=kinds)
    add("--seeds", help="rows or questions to begin with: file (.txt: one per line), folder, bundled dataset")
    add("--docs", help="file or folder of documents, for questions and raft")
    add_reading_flags(parser)
    add("--number", type=int, default=100, metavar="N", help="rows to make; a finished run goes on with more")
    add("--num_samples", type=int, help="solutions or answers per seed, for reasoning and best-of-n; default: 4")
    add("--pairs", choices=["best-of-n", "judge", "corruption"],
        help="what makes the worse answer of preferences; default: best-of-n. corruption asks no model")  # fmt: skip
    add("--passage_tokens", type=int, help="longest passage of a document, in words and signs; default: 150")
    add("--num_distractors", type=int, help="other passages in a RAFT row; default: 3")
    add("--share_without", type=float, help="share of RAFT rows without the passage that answers; default: 0.2")
    add("--without_passage", choices=["refuse", "answer"],
        help="such a row's answer: not in the sources, or unquoted; default: refuse")  # fmt: skip
    add("--near", type=float, default=0.7, help="similarity from which two questions are the same, from 0.1 to 1")
    add("--held_out", action="append", default=[], metavar="ROWS",
        help="test rows that no row may paraphrase, beside the bundled benchmarks; may be repeated")  # fmt: skip
    add("--near_held_out", type=float, default=0.5, help="share of word runs from which a question is a paraphrase")
    add("--embedding_model", help="sentence encoder that finds paraphrases in other words: a folder or a Hub id")
    add("--judge", metavar="MODEL@URL", help="judge of answers: MODEL@URL, or a model's folder")
    add("--judge_minimum", type=int, metavar="N", help="points of 100 that the judge must give a row; needs --judge")
    add_endpoint_flags(parser)
    add("--batch_size", type=int, default=8, help="items that are worked on together")
    add("--output_dir", required=True, help="rows, card and what was dropped; goes on if it was stopped")
    add("--overwrite", action="store_true", help="start over: remove the rows in --output_dir")
    return parser


def check(args, parser: CommandParser) -> None:
    """Raise UserError for what is missing, has no effect or is out of range, before anything is loaded; set the
    defaults of the kind."""
    from ftkit.inference.endpoint import endpoint_of

    sampling_of(args)
    check_source(args)
    check_kind_flags(args)
    check_models(args, parser)
    if min(args.number, args.batch_size) < 1:
        raise UserError("--number and --batch_size start at 1")
    for name in ("near", "near_held_out"):
        if not 0.1 <= getattr(args, name) <= 1:
            raise UserError(f"--{name} is {getattr(args, name)}; give a similarity from 0.1 (loose) to 1 (the same)")
    check_endpoint_flags(args, parser)
    endpoint_of(args)
    check_folder(args.output_dir)


def check_source(args) -> None:
    """Raise UserError unless the kind's source is given, and no other."""
    kind = KINDS[args.kind]
    for name in (SEEDS, DOCS):
        given = getattr(args, name)
        if given is not None and kind.source != name:
            raise UserError(f"--{name} has no effect with --kind {args.kind}; give --{kind.source} in its place")
    if kind.needs_source and not getattr(args, kind.source):
        form = {SEEDS: "FILE: rows or questions", DOCS: "FOLDER: documents"}[kind.source]
        raise UserError(f"--kind {args.kind} needs --{kind.source} {form}")


def check_kind_flags(args) -> None:
    """Raise UserError for a flag of another kind, or one that is out of range; set the defaults of this one."""
    for name, (kinds, default) in KIND_FLAGS.items():
        given = getattr(args, name)
        if given is not None and args.kind not in kinds:
            raise UserError(
                f"--{name} has no effect with --kind {args.kind}: it is for {' and '.join(kinds)}; leave it out"
            )
        if given is None and args.kind in kinds:
            setattr(args, name, default)
    if args.kind == "preferences" and args.pairs != "best-of-n":
        args.num_samples = None
    low = {"num_samples": 2 if args.kind == "preferences" else 1, "passage_tokens": 20, "num_distractors": 1}
    for name, least in low.items():
        if getattr(args, name) is not None and getattr(args, name) < least:
            raise UserError(f"--{name} is {getattr(args, name)}; it starts at {least}")
    if args.share_without is not None and not 0 <= args.share_without <= 1:
        raise UserError(f"--share_without is {args.share_without}; give a share from 0 to 1")
    if args.temperature == 0 and ((args.num_samples or 1) > 1 or args.pairs == "judge"):
        raise UserError("samples at temperature 0 are all equal; give --temperature 0.8")


def check_models(args, parser: CommandParser) -> None:
    """Raise UserError where a model or a judge is missing, or is none."""
    from ftkit.inference.judging import judge_of

    if args.pairs == "corruption":
        if args.model_name_or_path or args.adapter or args.endpoint:
            raise UserError("--pairs corruption asks no model: the better answer is the row's own; leave the model out")
    elif not args.model_name_or_path and not args.adapter:
        raise UserError("name the model: --model_name_or_path M, with --endpoint URL for one on a server")
    if len(parse_adapters(args.adapter)) > 1:
        raise UserError("--adapter: one model writes the rows; give one adapter")
    if args.pairs in ("best-of-n", "judge") and not args.judge:
        raise UserError(
            f"--pairs {args.pairs} needs --judge MODEL@URL, or a model's folder; or take --pairs corruption"
        )
    if args.judge_minimum is not None and not args.judge:
        raise UserError("--judge_minimum has no effect without --judge; add it, or leave the minimum out")
    if args.judge and args.judge_minimum is None and args.kind != "preferences":
        args.judge_minimum = 50
    if args.judge_minimum is not None and not 0 <= args.judge_minimum <= 100:
        raise UserError(f"--judge_minimum is {args.judge_minimum}; give points from 0 to 100")
    if args.judge:
        judge_of(args.judge, "--judge ")


def report(folder: Path, args, argv: list[str]) -> None:
    """Make the rows, and print how many there are, what was dropped and why, and what it cost."""
    from ftkit.inference.cost import token_line
    from ftkit.inference.synth.held_out import HeldOut, read_held_out
    from ftkit.inference.synth.loop import Filters
    from ftkit.inference.synth.run import ROWS, carry_out, open_run

    material = material_of(args)
    held_out = read_held_out(args.held_out)
    models, identity = models_of(args)
    plan = plan_of(args, material, held_out, identity)
    if not open_run(folder, plan, overwrite=args.overwrite):
        print(f"finished before: {folder / ROWS}; more rows: a higher --number")
        return
    filters = Filters(
        sieve_of(args, material), HeldOut(held_out, args.near_held_out, encoder_of(args)), args.judge_minimum
    )
    with Progress(args.number, "made", "rows") as progress:
        made = carry_out(
            folder,
            plan,
            material,
            models,
            filters,
            facts_of(args, argv, material, held_out, identity),
            progress.advance,
        )
    print("\n".join(summary_lines(made)))
    print(token_line(made.replies, args.input_price, args.output_price))
    if not made.num_rows:
        raise UserError(f"no item gave a row; see {folder / 'dropped.jsonl'}, and take a larger model or other seeds")
    if made.is_barren:
        print(f"ended early: the last items gave no row; {counted(made.num_rows, 'row')} in place of {args.number:,}")
    trainer = KINDS[args.kind].trains
    print(f"written: {folder / ROWS}; next: {command('data', 'check', folder)}, then ftkit {trainer}")


def summary_lines(made) -> list[str]:
    """Rows and dropped items, by reason."""
    lines = [f"{counted(made.num_rows, 'row')} of {counted(made.num_items, 'item')}"]
    return lines + [f"  {count:,} x {reason}" for reason, count in made.dropped.most_common()]


def material_of(args):
    """Seeds or passages, with what the kind is asked for."""
    from ftkit.data.reading.read_as import ReadAs
    from ftkit.inference.synth.items import Material
    from ftkit.inference.synth.reading import read_passages, read_seeds

    settings = {name: getattr(args, name) for name in KIND_FLAGS}
    if args.docs:
        passages = read_passages(args.docs, args.passage_tokens, 1 + (args.num_distractors or 0))
        return Material(passages=passages, seed=args.seed, settings=settings)
    needs_answers = KINDS[args.kind].needs_answers or args.pairs == "corruption"
    read_as = ReadAs.of(args.columns, args.encoding)
    seeds = read_seeds(args.seeds, needs_answers=needs_answers, read_as=read_as) if args.seeds else []
    return Material(seeds=seeds, seed=args.seed, settings=settings)


def models_of(args) -> tuple[dict, dict]:
    """Who is asked, by role; and what rows say of the model: its name, and the digest of its weights and template."""
    from ftkit.inference.endpoint import endpoint_of
    from ftkit.inference.judging import LocalJudge, judge_of
    from ftkit.inference.synth.asker import Asked, EndpointModel, EngineModel, JudgeModel
    from ftkit.inference.synth.items import JUDGE, MODEL

    models: dict[str, Asked] = {}
    name, digest = args.model_name_or_path, None
    if endpoint := endpoint_of(args):
        models[MODEL] = EndpointModel(endpoint, args.system)
        name = f"{name}@{args.endpoint.rstrip('/')}"
    elif args.pairs != "corruption":
        from ftkit.inference.engine import Engine

        engine = Engine.load(model_settings(args))
        models[MODEL] = EngineModel(engine, sampling_of(args), args.batch_size, args.system)
        name, digest = next(iter(parse_adapters(args.adapter).values()), name), engine.voice().digest
    if args.judge:
        judge = judge_of(args.judge, "--judge ")
        if isinstance(judge, LocalJudge):
            models[JUDGE] = JudgeModel(judge)
        else:
            patience = {name: getattr(args, name) for name in ("timeout_seconds", "num_retries", "concurrency")}
            models[JUDGE] = EndpointModel(dataclasses.replace(judge, **patience))
    return models, {"model": name, "digest": digest}


def plan_of(args, material, held_out: list, identity: dict):
    """What is made, and all that it follows from."""
    from ftkit.inference.synth.prompts import VERSION
    from ftkit.inference.synth.reading import material_digest, text_digest
    from ftkit.inference.synth.run import Plan

    settings = {name: getattr(args, name) for name in ROW_SETTINGS}
    digests = {
        "model": f"{identity['model']} {identity['digest']}",
        KINDS[args.kind].source: material_digest(material),
        "set of held-out rows": text_digest(one.text for one in held_out),
        "version of prompts": str(VERSION),
    }
    asked = {name: getattr(args, name) for name in SAMPLING if getattr(args, name) is not None}
    provenance = {**identity, "prompts": VERSION, "settings": asked} | ({"judge": args.judge} if args.judge else {})
    return Plan(args.kind, args.number, args.batch_size, settings, digests, provenance)


def sieve_of(args, material):
    """Rules and duplicates; the seeds' questions are taken where new ones are made after them."""
    from ftkit.inference.synth.filters import Sieve

    return Sieve((seed.text for seed in material.seeds if args.kind in ("self-instruct", "evolve")), args.near)


def encoder_of(args):
    """The encoder that finds paraphrases in other words; None where none is named."""
    if args.embedding_model is None:
        return None
    from ftkit.inference.sentences import SentenceModel

    return SentenceModel.load(args.embedding_model)


def facts_of(args, argv: list[str], material, held_out: list, identity: dict):
    """What the card says."""
    from ftkit.inference.synth.card import CardFacts

    digest = f", sha256 of weights and template `{identity['digest']}`" if identity["digest"] else ""
    source = f"{counted(len(material.seeds), 'seed')} of {args.seeds}" if args.seeds else "persons that ftkit lists"
    source = f"{counted(len(material.passages), 'passage')} of {args.docs}" if args.docs else source
    apart = [*args.held_out, "the bundled benchmarks"]
    judge = "" if args.judge_minimum is None else f"{args.judge}, at least {args.judge_minimum} points"
    return CardFacts(
        f"{identity['model']}{digest}" if identity["model"] else "none: a rule makes the worse answer",
        judge or args.judge or "",
        source, command("synth", *argv), f"{counted(len(held_out), 'held-out question')} of {', '.join(apart)}",
        args.input_price, args.output_price,
    )  # fmt: skip
