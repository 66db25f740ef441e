"""`ftkit embed`: every method leaves an encoder that sentence-transformers and an index read, and a verdict; the loss is
sentence-transformers' own; a killed run goes on to the same bits; mistakes are one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ftkit.config.errors import UserError
from ftkit.embed import main
from ftkit.evaluation.results import read_results
from ftkit.inference.sentences import SentenceModel

pytest.importorskip("sentence_transformers")
RUN_FILES = {
    "run.yaml", "receipt.json", "metrics.jsonl", "samples.jsonl", "results.json", "before", "report.html", "loss.png",
    "README.md", "items", "model.safetensors", "config.json", "tokenizer.json", "modules.json", "1_Pooling",
}  # fmt: skip
FAST = [
    "--disable_tqdm", "--bf16", "false", "--dtype", "float32", "--logging_steps", "1", "--num_samples", "1",
    "--per_device_train_batch_size", "8",
]  # fmt: skip
SIZES = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "pad_token_id": 1, "initializer_range": 0.2,
}  # fmt: skip


def encoder_of(kind: str):
    """A random encoder; RoBERTa counts its 64 positions from 2."""
    from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, RobertaConfig, RobertaModel

    torch.manual_seed(0)
    if kind == "modernbert":
        return ModernBertModel(ModernBertConfig(**SIZES, max_position_embeddings=64, attn_implementation="sdpa"))
    if kind == "roberta":
        return RobertaModel(RobertaConfig(**SIZES, max_position_embeddings=66))
    return BertModel(BertConfig(**SIZES, max_position_embeddings=64))


@pytest.fixture(scope="session")
def encoders(tmp_path_factory, tiny_folder) -> dict[str, Path]:
    """Folders of random encoders with the tiny tokenizer, by name."""
    from transformers import AutoTokenizer

    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("bert", "roberta", "modernbert")}
    for kind, folder in folders.items():
        encoder_of(kind).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(folder)
    return folders | {"llama": tiny_folder}


@pytest.fixture(scope="session")
def text_pairs(tmp_path_factory, word_rows) -> Path:
    """64 questions, each with the passage that has its word."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"question": row["input"], "passage": f"the word is {row['output']}"} for row in word_rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def embed(encoders, text_pairs, tmp_path_factory):
    """Runs `ftkit embed` on a tiny encoder into a fresh OUT, with further flags; returns OUT."""

    def start(*flags, model="bert", data=None, out=None) -> Path:
        out = out or tmp_path_factory.mktemp("run") / "out"
        main([
            "--model", str(encoders[model]), "--dataset_name", str(data or text_pairs), "--output_dir", str(out),
            *FAST, *flags,
        ])  # fmt: skip
        return out

    return start


@pytest.fixture(scope="module")
def trained(embed) -> Path:
    """A run of three passes with checkpoints."""
    return embed("--test_size", "16", "--num_train_epochs", "3", "--save_steps", "3", "--learning_rate", "2e-3")


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in map(json.loads, (out / "metrics.jsonl").open()) if "loss" in record]


def test_a_run_leaves_what_the_contract_names(trained):
    assert RUN_FILES <= {path.name for path in trained.iterdir()} and not list(trained.rglob("training_args.bin"))
    assert not (trained / "golden.json").exists()
    before, after = (read_results(trained / folder / "results.json").tasks["retrieval"] for folder in ("before", ""))
    assert before.task_hash == after.task_hash and after.num_items == 16 and after.main_metric == "ndcg_at_10"
    assert after.scores["ndcg_at_10"].value > before.scores["ndcg_at_10"].value
    card = (trained / "README.md").read_text()
    assert "library_name: sentence-transformers" in card and "SentenceTransformer(model_id" in card
    assert losses(trained)[-1] < losses(trained)[0]


def test_sentence_transformers_and_an_index_read_the_same_vectors(trained):
    from sentence_transformers import SentenceTransformer

    texts = ["bal", "the word is BAL", "the word is " + "BAL " * 60]
    theirs = torch.tensor(SentenceTransformer(str(trained), device="cpu").encode(texts))
    ours = SentenceModel.load(str(trained))
    ids = ours.tokenizer(texts, truncation=True, max_length=ours.max_length)["input_ids"]
    assert max(map(len, ids)) == 64 == ours.max_length
    assert torch.tensor(ours.embed_ids(ids)) == pytest.approx(theirs, abs=1e-5)


def test_the_receipt_counts_pairs_lengths_and_repeated_texts(trained):
    receipt = json.loads((trained / "receipt.json").read_text())
    assert (receipt["num_rows"], receipt["num_repeated_anchors"], receipt["num_false_negatives"]) == (48, 0, 0)
    assert receipt["texts"]["positive"]["tokens"]["most"] <= 64 and receipt["num_truncated_rows"] == 0
    assert receipt["moved"]["groups"]["frozen"]["moved"] == 0  # BERT's pooler, which no vector uses


def test_a_killed_run_goes_on_to_the_same_bits(trained, embed, unfinish, tmp_path):
    import shutil

    weights, kept = load_file(trained / "model.safetensors"), losses(trained)
    again = unfinish(Path(shutil.copytree(trained, tmp_path / "again")), "checkpoint-18")
    flags = ("--test_size", "16", "--num_train_epochs", "3", "--save_steps", "3", "--learning_rate", "2e-3")
    embed(*flags, out=again)
    assert losses(again) == kept
    found = load_file(again / "model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())


def batch_of(trainer) -> dict:
    return next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize(
    "flags",
    [[], ["--mini_batch_size", "3"], ["--matryoshka_dims", "8", "16"], ["--loss_type", "triplet"]],
    ids=["ranking", "cached", "matryoshka", "triplet"],
)
def test_the_loss_is_sentence_transformers_own_of_the_same_texts(flags, encoders, tmp_path):
    """Their loss by hand: texts, their tokenization and collation, no dropout."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses as theirs

    from ftkit.embed import RECIPE
    from ftkit.runs.lifecycle import decide_run
    from ftkit.runs.opening import begin
    from ftkit.runs.recipe import found

    path = tmp_path / "rows.jsonl"
    rows = [{"anchor": f"ask {n}", "positive": f"say {n} " * (n + 1), "negative": f"no {n}"} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = RECIPE.parse([
        "--model", str(encoders["bert"]), "--dataset_name", str(path), "--output_dir", str(tmp_path / "out"), *FAST, *flags,
    ])  # fmt: skip
    method = found(RECIPE.method)
    data = method.prepare(settings)
    run = decide_run("embed", method, settings, data, begin("embed", settings, data))
    trainer = method.build_trainer(run, method.load(run))
    trainer.model.eval()
    with torch.set_grad_enabled("--mini_batch_size" not in flags):
        ours = trainer.compute_loss(trainer.model, batch_of(trainer)).item()
    model = SentenceTransformer(str(encoders["bert"]), device="cpu").eval()
    loss = {
        "--loss_type": lambda: theirs.TripletLoss(model, theirs.TripletDistanceMetric.COSINE, triplet_margin=0.2),
    }.get((flags or [""])[0], lambda: theirs.MultipleNegativesRankingLoss(model))()
    if "--matryoshka_dims" in flags:
        loss = theirs.MatryoshkaLoss(model, loss, matryoshka_dims=[32, 16, 8])
    features = [model.preprocess([row[name] for row in rows]) for name in ("anchor", "positive", "negative")]
    with torch.no_grad():
        assert ours == pytest.approx(loss(features, None).item(), rel=1e-5)


@pytest.mark.parametrize("model", ["roberta", "modernbert", "llama"])
def test_each_family_trains_and_is_read_again(model, embed, encoders):
    out = embed("--max_steps", "2", model=model)
    vectors = SentenceModel.load(str(out)).embed(["bal", "com"])[0]
    assert torch.tensor(vectors).norm(dim=1) == pytest.approx(torch.ones(2), abs=1e-5)
    base = {"modernbert": "final_norm.weight", "roberta": "encoder.layer.0.attention.self.query.weight"}
    name = base.get(model, "layers.0.self_attn.q_proj.weight")
    stored = {
        key.removeprefix("model."): value for key, value in load_file(encoders[model] / "model.safetensors").items()
    }
    assert not torch.equal(load_file(out / "model.safetensors")[name], stored[name])


def test_a_lora_is_merged_into_an_encoder_like_any_other(embed, encoders, unfinish):
    flags = ("--use_peft", "--lora_r", "4", "--max_steps", "4", "--save_steps", "2", "--test_size", "16")
    out = embed(*flags, "--learning_rate", "1e-2")
    assert not (out / "adapter_config.json").exists() and (out / "checkpoint-2/adapter_model.safetensors").is_file()
    weights, base = load_file(out / "model.safetensors"), load_file(encoders["bert"] / "model.safetensors")
    assert weights.keys() == base.keys()
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(weights[name], base[name])
    assert torch.equal(weights["embeddings.word_embeddings.weight"], base["embeddings.word_embeddings.weight"])
    assert SentenceModel.load(str(out)).embed(["bal"])
    unfinish(out, "checkpoint-4")
    embed(*flags, "--learning_rate", "1e-2", out=out)
    assert torch.equal(load_file(out / "model.safetensors")[name], weights[name])


def test_negatives_are_mined_from_the_rows_and_are_never_the_questions_own(embed, tmp_path):
    out = embed("--mine_negatives", "2", "--max_steps", "1", "--test_size", "16")
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["num_negatives"] == 2 and receipt["mined"]["num_negatives"] == 2 * 48
    assert receipt["mined"]["source"] == "the passages of the rows"


@pytest.fixture(scope="module")
def passages(text_pairs) -> list:
    """The passages of the pairs, as an index takes them."""
    from ftkit.data.index.passages import Passage

    texts = [json.loads(line)["passage"] for line in text_pairs.open()]
    return [Passage(f"a.md#{n}", text, "a.md", "", "", 0, len(text)) for n, text in enumerate(texts)]


def test_negatives_are_mined_from_an_index(embed, passages, tmp_path):
    from ftkit.inference.retrieval.index import Index

    Index.build(tmp_path / "index", passages).close()
    out = embed("--mine_negatives", "1", "--negatives_from", str(tmp_path / "index"), "--max_steps", "1")
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["num_negatives"] == 1 and receipt["mined"]["source"] == str(tmp_path / "index")


def test_an_index_searches_by_a_trained_encoder(trained, passages, tmp_path):
    from ftkit.inference.retrieval.index import Index

    index = Index.build(tmp_path / "index", passages, embedder=trained)
    (found,) = index.search("bal", top_k=1, method="dense")
    encoder = SentenceModel.load(str(trained))
    vectors_ND = torch.tensor(encoder.embed(["bal", *(one.text for one in passages)])[0])
    nearest = passages[int((vectors_ND[1:] @ vectors_ND[0]).argmax())]
    assert found.passage.text == nearest.text
    index.close()


REFUSED = [
    (["--loss_type", "triplet"], "has no negative, which --loss_type triplet needs"),
    (["--max_length", "65"], "--max_length 65 is more than the model's context of 64"),
    (["--matryoshka_dims", "64"], "--matryoshka_dims 64: the vectors of this encoder have 32 numbers"),
    (["--negatives_from", "X"], "--negatives_from is about negatives that are mined"),
    (["--negatives_from", "nowhere", "--mine_negatives", "1"], "holds no index"),
    (["--triplet_margin", "0.1"], "--triplet_margin belongs to --loss_type triplet"),
    (["--load_in_4bit", "--use_peft"], "LoRA of an encoder is merged at the end"),
    (["--dataset_streaming"], "equal texts are kept apart"),
    (["--benchmark_tasks", "knowledge"], "measured on its test rows"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED, ids=[" ".join(flags) for flags, _ in REFUSED])
def test_mistakes_are_one_line(flags, message, embed):
    with pytest.raises(UserError, match=message.replace("[", r"\[")) as raised:
        embed(*flags)
    assert "\n" not in str(raised.value)


def test_an_encoder_with_parts_that_are_not_known_is_refused(trained, tmp_path, text_pairs):
    import shutil

    folder = Path(shutil.copytree(trained, tmp_path / "dense"))
    parts = json.loads((folder / "modules.json").read_text())
    for kind in ("sentence_transformers.models.Dense", "mine.Transformer"):
        (folder / "modules.json").write_text(json.dumps([*parts, {"idx": 3, "name": "3", "path": "3", "type": kind}]))
        with pytest.raises(UserError, match=f"has a part {kind}"):
            main(["--model", str(folder), "--dataset_name", str(text_pairs), "--output_dir", str(tmp_path / "out")])


def test_the_package_that_is_missing_is_named_with_its_extra(embed, monkeypatch):
    from ftkit.training.methods import embed as method

    monkeypatch.setattr(method.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs sentence-transformers; pip install 'ftkit\[embed\]'"):
        method.check_installed()
