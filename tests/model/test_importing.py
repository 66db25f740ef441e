"""A GPT that a person wrote comes in with the logits of its own code; what is not such a model is one line."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from ftkit.commands import import_
from ftkit.config.parser import run
from ftkit.model.importing import TRIAL_TEXT
from ftkit.model.weights.from_scratch import SOURCES

WIDTH, HEADS, LAYERS, CONTEXT, ROWS = 64, 4, 2, 40, 300
MAX_LOGIT_DIFFERENCE = 2e-5


class Norm(nn.Module):
    """The book's LayerNorm: its parameters are called scale and shift."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        return nn.functional.layer_norm(x, (WIDTH,), self.scale, self.shift, 1e-5)


class Attention(nn.Module):
    """The book's multi-head attention, by torch's own kernel."""

    def __init__(self, qkv_bias):
        super().__init__()
        for name in ("W_query", "W_key", "W_value"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH, bias=qkv_bias))
        self.out_proj = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("mask", torch.triu(torch.ones(CONTEXT, CONTEXT), diagonal=1))

    def forward(self, x):
        query, key, value = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.W_query, self.W_key, self.W_value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """The book's transformer block."""

    def __init__(self, qkv_bias):
        super().__init__()
        self.att, self.norm1, self.norm2, self.ff = Attention(qkv_bias), Norm(), Norm(), nn.Module()
        self.ff.layers = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        x = x + self.att(self.norm1(x))
        return x + self.ff.layers(self.norm2(x))


class BookGPT(nn.Module):
    """The GPT of the book's chapter 4 and 5, by the names of its state_dict."""

    def __init__(self, qkv_bias=False, std=0.2):
        super().__init__()
        self.tok_emb, self.pos_emb = nn.Embedding(ROWS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.trf_blocks = nn.Sequential(*(Block(qkv_bias) for _ in range(LAYERS)))
        self.final_norm, self.out_head = Norm(), nn.Linear(WIDTH, ROWS, bias=False)
        shake(self, std)

    def forward(self, ids):
        x = self.tok_emb(ids) + self.pos_emb.weight[: ids.shape[1]]
        return self.out_head(self.final_norm(self.trf_blocks(x)))


def shake(model: nn.Module, std=0.2) -> nn.Module:
    """Every parameter random, biases and norms too: fresh ones would hide what is lost."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model.eval()


def nanogpt(bias: bool = True) -> tuple[GPT2LMHeadModel, dict]:
    """transformers' GPT-2 with exact GELU, and the same model as nanoGPT's train.py saves it."""
    sizes = dict(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=CONTEXT, vocab_size=ROWS + 4)
    model = shake(GPT2LMHeadModel(GPT2Config(**sizes, activation_function="gelu", bos_token_id=0, eos_token_id=0)))
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("bias") and not bias:
            tensor.zero_()
            continue
        is_transposed = name.endswith(
            (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
        )  # Conv1D stores input x output
        tensors[f"_orig_mod.{name}"] = tensor.t().contiguous() if is_transposed else tensor
    settings = dict(
        n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH, block_size=CONTEXT, bias=bias, vocab_size=ROWS + 4, dropout=0.0
    )
    return model, {"model": tensors, "optimizer": {"state": {}}, "model_args": settings, "iter_num": 7, "config": {}}


def llama2c(tied: bool = True) -> tuple[LlamaForCausalLM, dict]:
    """transformers' Llama, and the same model as llama2.c's train.py saves it: rotary pairs are neighbours there."""
    config = LlamaConfig(
        vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, rms_norm_eps=1e-5, tie_word_embeddings=tied,
    )  # fmt: skip
    model = shake(LlamaForCausalLM(config))
    size = WIDTH // HEADS
    order = torch.stack(
        [torch.arange(size // 2), torch.arange(size // 2) + size // 2], dim=1
    ).flatten()  # 0, 8, 1, 9, ...
    source, tensors = model.state_dict(), {"freqs_cos": torch.ones(CONTEXT, size // 2)}
    names = {"self_attn.v_proj": "attention.wv", "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1"}
    names |= {"mlp.down_proj": "feed_forward.w2", "mlp.up_proj": "feed_forward.w3"}
    names |= {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
    for n in range(LAYERS):
        for theirs, name in names.items():
            tensors[f"layers.{n}.{name}.weight"] = source[f"model.layers.{n}.{theirs}.weight"]
        for letter in "qk":
            rows = source[f"model.layers.{n}.self_attn.{letter}_proj.weight"].unflatten(0, (-1, size))
            tensors[f"layers.{n}.attention.w{letter}.weight"] = rows[:, order].flatten(0, 1)
    tensors |= {
        "tok_embeddings.weight": source["model.embed_tokens.weight"],
        "norm.weight": source["model.norm.weight"],
    }
    tensors["output.weight"] = source["lm_head.weight"]
    settings = dict(
        dim=WIDTH, n_layers=LAYERS, n_heads=HEADS, n_kv_heads=2, vocab_size=ROWS, multiple_of=32, max_seq_len=CONTEXT
    )
    return model, {"model": tensors, "model_args": settings | {"dropout": 0.0}}


@pytest.fixture
def bring(tiny_folder, tmp_path, capsys):
    """Saves content as a file, runs `ftkit import` on it, and returns (exit code, what was printed, OUT)."""

    def start(content, *flags, source="book", name="model.pth") -> tuple[int, str, Path]:
        if content is not None:
            (save_file if name.endswith(".safetensors") else torch.save)(content, tmp_path / name)
        capsys.readouterr()
        argv = [
            str(tmp_path / name),
            "--from",
            source,
            "--vocab",
            str(tiny_folder),
            "--output_dir",
            str(tmp_path / "out"),
        ]
        code = run(import_.main, [*argv, *flags])
        printed = capsys.readouterr()
        return code, printed.out + printed.err, tmp_path / "out"

    return start


def difference(model, folder: Path, rows: int = ROWS) -> float:
    """The largest difference of logits between a model and the one in a folder."""
    ids = torch.randint(rows, (2, CONTEXT), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids)
        expected = getattr(expected, "logits", expected)
        found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return (found(ids).logits - expected).abs().max().item()


FLAGS = ("--num_heads", str(HEADS))


@pytest.mark.parametrize("qkv_bias", [False, True], ids=["without bias", "with bias"])
def test_the_books_gpt_comes_in_with_equal_logits_and_its_sizes(qkv_bias, bring, tiny_folder):
    model = BookGPT(qkv_bias)
    code, printed, out = bring(model.state_dict(), *FLAGS)
    assert code == 0, printed
    assert (
        f"2 layers, 64 wide, 4 heads, 300 tokens, context 40; queries, keys and values {'with' if qkv_bias else 'without'} bias"
        in printed
    )
    assert difference(model, out) <= MAX_LOGIT_DIFFERENCE
    record, config = (json.loads((out / name).read_text()) for name in ("import.json", "config.json"))
    assert record["from"] == "book" and record["largest_logit_difference"] <= MAX_LOGIT_DIFFERENCE
    assert (config["attention_bias"], config["tie_word_embeddings"], config["hidden_act"]) == (
        qkv_bias,
        False,
        "gelu_new",
    )
    assert (config["intermediate_size"], config["max_position_embeddings"]) == (256, CONTEXT)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(tiny_folder).get_vocab()
    assert (config["eos_token_id"], tokenizer.model_max_length) == (tokenizer.eos_token_id, CONTEXT)


WRAPPED = {
    "beside the optimizer": lambda tensors: {"model_state_dict": tensors, "optimizer_state_dict": {"state": {}}},
    "compiled and parallel": lambda tensors: {f"module._orig_mod.{name}": tensor for name, tensor in tensors.items()},
    "Lightning's": lambda tensors: {
        "state_dict": {f"model.{name}": tensor for name, tensor in tensors.items()},
        "epoch": 1,
    },
    "in bfloat16": lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_weights_are_found_where_scripts_put_them(wrap, bring):
    model = BookGPT()
    code, printed, out = bring(wrap(model.state_dict()), *FLAGS)
    assert code == 0, printed
    assert (
        difference(model.bfloat16().float() if wrap is WRAPPED["in bfloat16"] else model, out) <= MAX_LOGIT_DIFFERENCE
    )


def test_a_safetensors_file_and_a_head_that_is_a_copy_of_the_embedding_are_read(bring):
    model = BookGPT()
    model.out_head.weight.data = model.tok_emb.weight.data.clone()  # as after loading OpenAI's weights
    code, printed, out = bring(model.state_dict(), *FLAGS, name="model.safetensors")
    assert code == 0 and "head tied to the embedding" in printed, printed
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"]
    assert difference(model, out) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("bias", [True, False], ids=["with biases", "without"])
def test_nanogpts_checkpoint_comes_in_with_equal_logits_and_its_padded_rows(bias, bring):
    model, checkpoint = nanogpt(bias)
    code, printed, out = bring(checkpoint, source="nanogpt", name="ckpt.pt")
    assert code == 0 and "4 rows of the embedding belong to no token of the vocabulary" in printed, printed
    assert difference(model, out) <= MAX_LOGIT_DIFFERENCE
    config = json.loads((out / "config.json").read_text())
    assert (config["mlp_bias"], config["hidden_act"], config["vocab_size"]) == (bias, "gelu", ROWS + 4)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_llama2cs_checkpoint_comes_in_with_equal_logits(tied, bring):
    model, checkpoint = llama2c(tied)
    code, printed, out = bring(checkpoint, source="llama2.c", name="ckpt.pt")
    assert code == 0, printed
    assert difference(model, out) <= MAX_LOGIT_DIFFERENCE
    config = json.loads((out / "config.json").read_text())
    assert (config["num_key_value_heads"], config["tie_word_embeddings"]) == (2, tied)


def test_a_template_is_put_on_and_locked(bring):
    code, printed, out = bring(BookGPT().state_dict(), *FLAGS, "--template", "alpaca")
    assert code == 0 and f"next: ftkit chat --model {out}" in printed, printed
    assert json.loads((out / "template.lock.json").read_text())["template"]["name"] == "alpaca"
    assert "### Response:" in (out / "chat_template.jinja").read_text()


def test_a_number_of_heads_with_which_english_is_far_less_likely_is_a_warning(bring, tiny_folder, monkeypatch):
    ids = AutoTokenizer.from_pretrained(tiny_folder)(TRIAL_TEXT)["input_ids"][:CONTEXT]
    formula = SOURCES["book"].logits

    def learned(tensors, sizes, asked):
        """As a model that has learned the text, with 4 heads."""
        if asked != ids:  # the tokens on which logits are compared
            return formula(tensors, sizes, asked)
        return 10.0 * nn.functional.one_hot(torch.tensor([*ids[1:], 0]), ROWS) * (sizes.num_heads == 4)

    monkeypatch.setitem(SOURCES, "book", SOURCES["book"]._replace(logits=learned))
    _, printed, _ = bring(BookGPT().state_dict(), "--num_heads", "2")
    assert (
        "warning    with --num_heads 4 English text costs 0.01 nats per token, with 2 5.70: the model was most"
        in printed
    )
    assert (
        "warning"
        not in bring(BookGPT().state_dict(), "--num_heads", "4", "--output_dir", str(tiny_folder.parent / "four"))[1]
    )


def without(name):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def with_tensor(name, shape, value=0.0):
    return lambda tensors: tensors | {name: torch.full(shape, value)}


QUERY = "trf_blocks.1.att.W_query.weight"
REFUSED = {  # change of the book's tensors, flags, what the line says
    "no number of heads": (None, [], "the number of heads is not in the weights; add --num_heads N"),
    "heads that don't divide": (None, ["--num_heads", "5"], "--num_heads 5 does not divide the width 64; likely: 1, 2, 4"),
    "a missing tensor": (without("trf_blocks.1.norm2.shift"), FLAGS, "has no tensor trf_blocks.1.norm2.shift; save"),
    "no embedding": (without("tok_emb.weight"), FLAGS, "has no tensor tok_emb.weight, so it is not the book's GPTModel"),
    "a bias in one layer": (with_tensor("trf_blocks.1.att.W_key.bias", (64,)), FLAGS, "has no place for tensor trf_blocks.1.att.W_key.bias; its architecture was changed"),
    "an adapter of appendix E": (with_tensor("trf_blocks.0.att.W_query.lora.A", (64, 4)), FLAGS, "has no place for tensor trf_blocks.0.att.W_query.lora.A"),
    "another shape": (with_tensor(QUERY, (32, 64)), FLAGS, f"tensor {QUERY} is 32 x 64, where the other tensors need 64 x 64"),
    "NaN": (with_tensor(QUERY, (64, 64), math.nan), FLAGS, f"tensor {QUERY} holds NaN or infinity"),
    "a classifier": (with_tensor("out_head.weight", (2, 64)), FLAGS, "out_head has 2 rows for 300 tokens: a classifier"),
    "another vocabulary": (None, [*FLAGS, "--vocab", "gpt2"], "embeds 300 tokens and the vocabulary has 50257; give --vocab"),
    "two types": (lambda tensors: tensors | {QUERY: tensors[QUERY].half()}, FLAGS, "holds float16 and float32; convert"),
    "integers": (lambda tensors: {name: tensor.to(torch.int8) for name, tensor in tensors.items()}, FLAGS, "has type int8; convert the model to float32"),
    "another's names": (None, [*FLAGS, "--from", "nanogpt"], "so it is not nanoGPT's GPT; its names are those of --from book"),
    "not a dictionary": (lambda tensors: list(tensors.values()), FLAGS, "holds no weights by name; save the weights alone"),
    "a made-up size": (lambda tensors: tensors | {QUERY: torch.zeros(1).expand(10**9, 64)}, FLAGS, "is larger than the file"),
    "values among tensors": (lambda tensors: tensors | {"epoch": 3}, FLAGS, "epoch is not a tensor; save the weights alone"),
    "no source": (None, [*FLAGS, "--from", "gpt5"], "argument --from: invalid choice: 'gpt5'"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "flags", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_the_books_gpt_is_one_line_and_leaves_nothing(change, flags, message, bring):
    tensors = BookGPT().state_dict()
    code, printed, out = bring(change(tensors) if change else tensors, *flags)
    lines = [line for line in printed.split("\n") if line]
    assert code == 2 and len(lines) == 1 and message in lines[0], printed
    assert [path.name for path in out.parent.iterdir()] == ["model.pth"]


REFUSED_CHECKPOINTS = {
    "transformers' GPT-2": (nanogpt, "nanogpt", lambda file: file["model"].update({
        name: tensor.t() for name, tensor in file["model"].items() if "c_attn.weight" in name}), [], "its matrices are transposed"),
    "settings of another": (nanogpt, "nanogpt", lambda file: file["model_args"].update(n_layer=3), [], "model_args say n_layer 3, its tensors 2"),
    "heads of another": (nanogpt, "nanogpt", lambda file: None, ["--num_heads", "2"], "--num_heads 2, but its model_args say 4"),
    "llama2.c without settings": (llama2c, "llama2.c", lambda file: file.pop("model_args"), FLAGS, "has no model_args, which hold the context"),
    "a norm of text": (llama2c, "llama2.c", lambda file: file["model_args"].update(norm_eps="small"), [], "norm_eps in its model_args is 'small', no number"),
    "an activation for llama2.c": (llama2c, "llama2.c", lambda file: None, ["--hidden_act", "gelu"], "llama2.c computes SwiGLU"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "source", "change", "flags", "message"), REFUSED_CHECKPOINTS.values(), ids=REFUSED_CHECKPOINTS
)
def test_checkpoints_that_contradict_themselves_are_one_line(make, source, change, flags, message, bring):
    _, checkpoint = make()
    change(checkpoint)
    code, printed, out = bring(checkpoint, *flags, source=source)
    assert code == 2 and message in printed and not out.exists(), printed


class Canary:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_that_would_run_code_is_refused_without_running_it(bring, tmp_path):
    for content in (pickle.dumps(Canary(tmp_path / "ran")), b"no weights at all", b""):
        (tmp_path / "model.pth").write_bytes(content)
        code, printed, _ = bring(None, *FLAGS)
        assert code == 2 and "holds more than tensors and plain values, or is damaged" in printed, printed
    code, printed, _ = bring(BookGPT(), *FLAGS)  # torch.save(model, FILE) instead of its state_dict
    assert code == 2 and "torch.save(model.state_dict(), FILE)" in printed and not (tmp_path / "ran").exists()


def characters(folder: Path, letters: str, table=None) -> Path:
    """nanoGPT's meta.pkl of these characters, or of another table, in a folder."""
    folder.mkdir()
    numbers = {letter: number for number, letter in enumerate(letters)}
    meta = {"vocab_size": len(letters), "itos": dict(enumerate(letters)), "stoi": numbers if table is None else table}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return folder


def test_nanogpts_characters_are_a_vocabulary(bring, tmp_path):
    letters = "".join(map(chr, range(192, 192 + ROWS - 4))) + "\nab "
    folder = characters(tmp_path / "shakespeare_char", letters)
    code, printed, out = bring(nanogpt()[1], "--vocab", str(folder), source="nanogpt", name="ckpt.pt")
    assert code == 0, printed
    tokenizer, text = AutoTokenizer.from_pretrained(out), "a b\n ab  "
    ids = tokenizer(text)["input_ids"]
    assert ids == [letters.index(letter) for letter in text] and tokenizer.decode(ids) == text


def test_tables_of_characters_that_are_none_or_would_run_code_are_one_line(bring, tmp_path):
    tables = {"code": Canary(tmp_path / "ran"), "words": {"ab": 0}, "gaps": {"a": 3}, "numbers": 7}
    for name, table in tables.items():
        folder = characters(tmp_path / name, "ab", table)
        code, printed, _ = bring(nanogpt()[1], "--vocab", str(folder), source="nanogpt", name="ckpt.pt")
        assert code == 2 and f"{folder}/meta.pkl: " in printed and printed.count("\n") == 1, printed
    assert not (tmp_path / "ran").exists()


def test_a_folder_with_a_sentencepiece_model_alone_is_answered_with_its_conversion(bring, tmp_path):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama/tokenizer.model").write_bytes(b"model")
    code, printed, _ = bring(llama2c()[1], "--vocab", str(tmp_path / "llama"), source="llama2.c")
    assert code == 2 and "holds only tokenizer.model; convert it once" in printed
