"""Embedding models: pairs of texts and an encoder made ready, and sentence-transformers' trainer.

The packages of the extra `embed` are imported when an encoder is loaded.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModel, PretrainedConfig, PreTrainedTokenizerBase

from ftkit.config.amounts import counted
from ftkit.config.errors import UserError
from ftkit.config.hardware import Hardware
from ftkit.config.paste import command
from ftkit.config.settings.embed import TRIPLET
from ftkit.data.cleaning.overlap import copies_of_test_rows
from ftkit.data.reading.loading import Rows, load_rows
from ftkit.data.reading.read_as import ReadAs
from ftkit.data.rows.text_pairs import TEXT_PAIRS
from ftkit.data.templates.lock import verify_tokenizer
from ftkit.data.tokens.receipt_text import format_receipt
from ftkit.data.tokens.text_pairs import ANCHOR, POSITIVE, TextPairTokens, text_pair_receipt, tokenize_text_pairs
from ftkit.inference.sentences import check_parts, longest_text, prompts_of
from ftkit.model.context import context_size
from ftkit.model.loading import load_config, load_tokenizer, local_model_folder
from ftkit.training.decided import Facts
from ftkit.training.embed.batches import apart
from ftkit.training.embed.negatives import Mined, filled, from_index, from_rows
from ftkit.training.facts import model_facts
from ftkit.training.method import Method, Run
from ftkit.training.plan import row_limit
from ftkit.training.preparation import FEW_UPDATES

MAX_SHOWN_AMONG = 200  # passages that a sample question is searched in


@dataclass
class PairData:
    """What training needs of the pairs.

    folder, config: of the encoder, local. context: the longest text, in tokens. prompts: what stands before each
    question and each passage. train, test: tokenized; test is None when nothing is held out. copies: (training row,
    test row) of equal content. mined: what is known of mined negatives, None for none.
    """

    folder: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    context: int
    prompts: tuple[str, str]
    rows: Rows
    train: TextPairTokens
    test: TextPairTokens | None
    copies: list[tuple[str, str]] = field(default_factory=list)
    mined: dict | None = None
    template: None = None

    def origins(self) -> Iterator[tuple[list[int], str]]:
        """(token ids, source) of each text that is trained on."""
        for tokens, row in zip(self.train.rows, self.rows.train, strict=True):
            for ids in tokens.values():
                yield ids, row["source"]


def check_installed() -> None:
    """Raise UserError without the package of the extra `embed`."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise UserError("ftkit embed needs sentence-transformers; pip install 'ftkit[embed]'")


def prepare(settings) -> PairData:
    """Read, check and tokenize the pairs, before any weights are loaded; mine negatives where an index gives them.

    Raises UserError for every mistake in a row, the model's name or the length, and for a missing package.
    """
    check_installed()
    data, model, training = settings.data, settings.model, settings.training
    rows = load_rows(
        data.dataset_name, kind=TEXT_PAIRS, format=data.dataset_format, train_split=data.dataset_train_split,
        test_split=data.dataset_test_split, test_size=data.test_size, config=data.dataset_config, seed=training.seed,
        read_as=ReadAs.of(data.columns, data.encoding),
    )  # fmt: skip
    if training.loss_type == TRIPLET and not data.mine_negatives:
        check_negatives(rows.train)
    folder = local_model_folder(model.model_name_or_path, ftgpt=model.ftgpt, revision=model.model_revision)
    check_parts(Path(folder))
    tokenizer = load_tokenizer(folder, trust_remote_code=training.trust_remote_code)
    verify_tokenizer(folder, tokenizer)
    config = load_config(folder, trust_remote_code=training.trust_remote_code)
    limit = text_limit(settings, folder, config, tokenizer)
    tokenizer.padding_side, tokenizer.model_max_length = "right", limit
    found = PairData(folder, config, tokenizer, limit, prompts_of(Path(folder)), rows, TextPairTokens(), None)
    if data.mine_negatives and data.negatives_from:
        from ftkit.inference.retrieval.index import Index

        with_index = from_index(rows.train, Index.open(data.negatives_from), data.mine_negatives, training.seed)
        take_mined(found, with_index, data.negatives_from)
    tokenize_rows(found, settings)
    if rows.test:
        found.test = tokenize_held_out(found, settings)
        found.copies = copies_of_test_rows(rows.train, rows.test)
    return found


def tokenize_held_out(data: PairData, settings) -> TextPairTokens:
    """The held-out pairs; where the loss needs a negative and they have none, with the passage of another one."""
    rows = data.rows.test or []
    if settings.training.loss_type == TRIPLET and not all(row["negatives"] for row in rows):
        rows = filled(rows, [row["negatives"] for row in rows], 1, settings.training.seed).rows
    return tokenize_text_pairs(rows, data.tokenizer, data.context, data.prompts)


def check_negatives(rows: list[dict]) -> None:
    """Raise UserError for the first row without a negative."""
    if row := next((row for row in rows if not row["negatives"]), None):
        raise UserError(
            f"{row['source']}: has no negative, which --loss_type triplet needs; add a column negative, or "
            "--mine_negatives 1"
        )


def text_limit(settings, folder: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest text in tokens: as asked, within what the model can see, else what its folder says."""
    if "max_length" not in settings.given:
        return longest_text(Path(folder), config, tokenizer)
    return row_limit(settings.training.max_length, context_size(config), is_asked=True) or 0


def take_mined(data: PairData, mined: Mined, source: str) -> None:
    """Train on the rows with the negatives that were found."""
    data.rows = dataclasses.replace(data.rows, train=mined.rows)
    num = sum(len(row["negatives"]) for row in mined.rows)
    data.mined = {"source": source, "num_negatives": num, "num_filled": mined.num_filled}


def tokenize_rows(data: PairData, settings) -> None:
    """Tokenize the training rows; the triplet loss takes one negative of each."""
    most = 1 if settings.training.loss_type == TRIPLET else None
    data.train = tokenize_text_pairs(data.rows.train, data.tokenizer, data.context, data.prompts, most)


def pair_facts(settings, data: PairData, hardware: Hardware) -> Facts:
    """What decisions rest on, of pairs of texts."""
    facts = model_facts(data.config, hardware, trust_remote_code=settings.training.trust_remote_code, auto=AutoModel)
    return dataclasses.replace(
        facts, context=data.context, lengths=data.train.lengths, num_test=len(data.rows.test or [])
    )


def load(run: Run) -> Any:
    """The encoder with its pooling, negatives mined by it, then LoRA on it."""
    from ftkit.training.embed.encoder import load_encoder, put_lora

    settings, data = run.settings, run.data
    encoder = load_encoder(
        data.folder, max_length=data.context, dtype=run.decided.dtype, pooling=settings.model.pooling,
        attn_implementation=settings.model.attn_implementation, trust_remote_code=settings.training.trust_remote_code,
    )  # fmt: skip
    num = settings.data.mine_negatives
    if num and not settings.data.negatives_from:
        encoder.to(run.config.device)
        with torch.random.fork_rng():
            mined = from_rows(
                data.rows.train, encoder, num, margin=settings.data.negative_margin, prompts=data.prompts,
                seed=settings.training.seed,
            )  # fmt: skip
        take_mined(data, mined, "the passages of the rows")
        tokenize_rows(data, settings)
    put_lora(encoder, settings.model)
    return encoder


def build_trainer(run: Run, encoder) -> Any:
    """The trainer on tokenized pairs."""
    from ftkit.training.embed.losses import build_loss
    from ftkit.training.embed.trainer import FTEmbedTrainer, PairCollator

    data = run.data
    return FTEmbedTrainer(
        model=encoder,
        args=run.config,
        train_dataset=Dataset.from_list(data.train.rows),
        eval_dataset=Dataset.from_list(held_out_rows(data)) if data.test else None,
        loss=build_loss(encoder, run.config),
        data_collator=PairCollator(data.tokenizer.pad_token_id or 0),
        processing_class=data.tokenizer,
    )


def held_out_rows(data: PairData) -> list[dict]:
    """The held-out rows in the columns of the training rows, as far as they have them: negatives may be mined."""
    names = [name for name in data.train.rows[0] if name in data.test.rows[0]]
    return [{name: row[name] for name in names} for row in data.test.rows]


def receipt(run: Run, trainer) -> dict:
    """What is trained on, counted from the pairs."""
    from ftkit.training.embed.trainer import texts_of

    data, config = run.data, run.config
    seed = config.seed if config.data_seed is None else config.data_seed
    _, num_clashing = apart(texts_of(trainer.train_dataset), config.per_device_train_batch_size, seed)
    return text_pair_receipt(
        data.train, data.rows.train, data.tokenizer, num_false_negatives=num_clashing, copies=data.copies,
        mined=data.mined,
    )  # fmt: skip


def describe(run: Run, receipt: dict | None) -> list[str]:
    """Lines of the plan about pairs, updates and the loss."""
    from ftkit.training.embed.losses import loss_text

    rows, config, decided = run.data.rows, run.config, run.decided
    held_out = len(rows.test or [])
    lines = [f"data       {rows.source}: {counted(len(rows.train), 'row')} ({rows.format}), {held_out} held out"]
    updates = counted(run.num_updates if receipt else decided.num_updates, "update")
    each = config.per_device_train_batch_size * config.gradient_accumulation_steps
    tokens = "" if receipt is None else f"; {receipt['num_tokens']:,} tokens per pass"
    lines.append(f"plan       {updates} of {each} pairs{tokens}; learning rate {decided.learning_rate:g}")
    if receipt and run.num_updates < FEW_UPDATES:
        lines.append(f"warning    only {updates}; add pairs or --num_train_epochs, or use a smaller batch")
    return [*lines, f"loss       {loss_text(run.settings.training)}"]


def first_questions(run: Run) -> tuple[list[dict], Callable] | None:
    """The first held-out questions, and what finds the nearest of the held-out passages to each."""
    from ftkit.training.embed.encoder import sentence_model

    data, num = run.data, run.config.num_samples
    if not (data.test and num):
        return None
    among = data.test.rows[:MAX_SHOWN_AMONG]
    texts = [row["positive"] for row in data.rows.test[:MAX_SHOWN_AMONG]]
    questions = [{"prompt": row["anchor"], "reference": row["positive"]} for row in data.rows.test[:num]]

    def nearest(encoder) -> list[str]:
        model = sentence_model(encoder, data.tokenizer)
        rows = [row[ANCHOR] for row in among[:num]] + [row[POSITIVE] for row in among]
        vectors_ND = torch.nn.functional.normalize(torch.tensor(model.embed_ids(rows)), dim=-1)
        return [texts[place] for place in (vectors_ND[:num] @ vectors_ND[num:].T).argmax(dim=1).tolist()]

    return questions, nearest


def finish(run: Run, trainer) -> dict:
    """Merge the LoRA, if there is one, so that the result is read by whatever reads encoders."""
    from ftkit.training.embed.encoder import merge_lora

    merge_lora(trainer.model)
    return {}


def next_command(run: Run) -> str:
    """What to run on the result."""
    return command("index", "DOCS", "--embedding_model", run.output_dir, "--output_dir", "X")


METHOD = Method(
    prepare, pair_facts, load, build_trainer, receipt, describe, format_receipt, first_questions, finish, next_command
)
