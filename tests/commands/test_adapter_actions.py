"""`ftkit adapters` makes adapters of adapters and of models, and certifies each against what it should equal."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils.merge_utils import ties
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.commands.adapters import adapters
from ftkit.config.parser import run
from ftkit.data.templates.templates import install_template
from ftkit.inference.computed import Measuring
from ftkit.inference.difference import compared
from ftkit.model.adapters.files import record_base
from ftkit.model.adapters.merging import merge_adapter
from ftkit.model.adapters.methods import four_bit_config

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory, word_rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in word_rows[:6]))
    return path


def save_text(folder, base, template="alpaca", more=()):
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(list(more))
    install_template(tokenizer, template)
    tokenizer.save_pretrained(folder)


def lora(**changes) -> LoraConfig:
    settings = {"task_type": TaskType.CAUSAL_LM, "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"]}
    return LoraConfig(**settings | changes)


@pytest.fixture(scope="module")
def make_adapter(tiny_folder, tmp_path_factory):
    """A random adapter of the tiny model as a run leaves it; with `verified=False` as PEFT alone does."""
    parent, made = tmp_path_factory.mktemp("made"), {}

    def make(config=None, *, seed=1, template="alpaca", verified=True, base=tiny_folder, more=()):
        key = repr((config, seed, template, verified, base, more))
        if key in made:
            return made[key]
        torch.manual_seed(seed)
        folder = made[key] = parent / f"adapter{len(made)}"
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config or lora())
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(folder, save_embedding_layers=False)
        save_text(folder, tiny_folder, template, more)
        if verified:
            record_base(folder, base, str(base))
        return folder

    return make


@pytest.fixture(scope="module")
def make_model(tiny_folder, tmp_path_factory):
    """The tiny model with noise on the tensors whose names hold `only`, and a template."""
    parent = tmp_path_factory.mktemp("models")

    def make(name, *, seed=1, only="_proj", template="alpaca", **config):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(tiny_folder)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if only in key:
                    parameter += 0.02 * torch.randn_like(parameter)
        model.config.update(config)
        model.save_pretrained(parent / name)
        save_text(parent / name, tiny_folder, template)
        return parent / name

    return make


def act(rows_file, *words) -> int:
    return run(adapters.main, [*map(str, words), "--data", str(rows_file)])


def certificate(folder) -> dict:
    return json.loads((folder / "certificate.json").read_text())


def deltas(folder, base) -> dict[str, torch.Tensor]:
    """What PEFT's own merge adds to each weight, apart from any code of ours."""
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    after = PeftModel.from_pretrained(plain, folder).merge_and_unload().state_dict()
    return {name: after[name] - value for name, value in before.items() if "_proj" in name}


def weighted_sum(parts, weights):
    return sum(weight * part for weight, part in zip(weights, parts, strict=True))


WANTED = {
    "cat": weighted_sum,
    "svd": weighted_sum,
    "ties_svd": lambda parts, weights: ties(list(parts), torch.tensor(weights), 0.5),
}


@pytest.mark.parametrize("method", WANTED)
def test_a_combination_is_what_its_formula_makes_of_pefts_own_merges(
    method, make_adapter, rows_file, tiny_folder, tmp_path, capsys
):
    """Ranks, scalings (rsLoRA, alpha patterns) and target modules differ."""
    a = make_adapter(lora(use_rslora=True, alpha_pattern={"q_proj": 5}))
    b = make_adapter(lora(r=8, target_modules=".*(q_proj|down_proj)"), seed=2)
    out, rank = tmp_path / "both", [] if method == "cat" else ["--rank", 64]
    assert act(rows_file, "combine", a, b, "--weights", 0.7, -0.4, "--method", method, *rank, "--output_dir", out) == 0
    parts, made = [deltas(folder, tiny_folder) for folder in (a, b)], deltas(out, tiny_folder)
    for name, delta in made.items():
        present = [(part[name], weight) for part, weight in zip(parts, (0.7, -0.4), strict=True) if part[name].any()]
        wanted = WANTED[method](*map(list, zip(*present, strict=True))) if present else torch.zeros_like(delta)
        assert (delta - wanted).abs().max() <= 1e-5, name
    record, printed = certificate(out), capsys.readouterr().out
    assert record["is_same"] and record["max_logit_difference"] <= 1e-3 and "NOT" not in printed
    assert [part["name"] for part in record["from"]] == [str(a), str(b)]
    assert all(part["mean_kl"] > 1e-3 for part in record["from"])
    assert {"base.json", "tokenizer.json", "golden.json"} <= {path.name for path in out.iterdir()}


def test_sums_of_factors_and_low_ranks_are_said_not_to_be_the_sum_of_updates(make_adapter, rows_file, tmp_path, capsys):
    pair = make_adapter(), make_adapter(seed=2, verified=False)
    assert act(rows_file, "combine", *pair, "--method", "linear", "--output_dir", tmp_path / "linear") == 0
    printed = capsys.readouterr().out
    assert "is NOT the weighted sum of the updates; take --method cat or svd" in printed
    assert "base not verified" in printed and not (tmp_path / "linear/base.json").exists()
    assert not certificate(tmp_path / "linear")["is_same"]


def test_adapters_of_a_four_bit_base_are_combined_and_measured_on_it(make_adapter, rows_file, tmp_path):
    pair = [make_adapter(seed=seed) for seed in (11, 12)]
    for folder in pair:
        record = json.loads((folder / "base.json").read_text())
        (folder / "base.json").write_text(json.dumps(record | {"load_in_4bit": True}))
    assert act(rows_file, "combine", *pair, "--num_rows", 2, "--output_dir", tmp_path / "both") == 0
    assert json.loads((tmp_path / "both/base.json").read_text())["load_in_4bit"]
    assert certificate(tmp_path / "both")["max_logit_difference"] <= 1e-3


def test_what_dare_drops_is_drawn_from_its_seed(make_adapter, rows_file, tmp_path):
    made = []
    for number, seed in enumerate((3, 3)):
        out = tmp_path / str(number)
        words = ["--method", "dare_ties", "--density", 0.5, "--seed", seed, "--num_rows", 1, "--output_dir", out]
        torch.rand(number + 1)
        assert act(rows_file, "combine", make_adapter(), make_adapter(seed=2), *words) == 0
        assert certificate(out)["max_logit_difference"] <= 1e-4
        made.append(load_file(out / WEIGHTS))
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


@pytest.mark.parametrize("config", [lora(rank_pattern={"q_proj": 6}), lora(use_rslora=True, modules_to_save=["norm"])])
def test_pruning_is_numpys_svd_of_each_update(config, make_adapter, rows_file, tiny_folder, tmp_path, capsys):
    adapter, out = make_adapter(config), tmp_path / "small"
    assert act(rows_file, "prune", adapter, "--rank", 3, "--output_dir", out) == 0
    whole, small = deltas(adapter, tiny_folder), deltas(out, tiny_folder)
    figures = certificate(out)["modules"]
    for name, delta in whole.items():
        u, values, v = np.linalg.svd(delta.double().numpy())
        assert np.abs(small[name].numpy() - (u[:, :3] * values[:3]) @ v[:3]).max() <= 1e-5
        if delta.any():
            assert figures[name.removesuffix(".weight")] == pytest.approx(
                [np.linalg.norm(values), np.linalg.norm(values[3:])], rel=1e-3
            )
    printed = capsys.readouterr().out
    assert "cut off" in printed
    if not config.modules_to_save:
        assert "the pruned adapter is NOT the trained one; raise --rank" in printed
    else:
        kept = "base_model.model.model.norm.weight"
        assert torch.equal(load_file(out / WEIGHTS)[kept], load_file(adapter / WEIGHTS)[kept])


def test_a_difference_is_extracted_by_svd_and_what_lora_cant_hold_is_named(
    make_model, rows_file, tiny_folder, tmp_path, capsys
):
    tuned, out = make_model("all", only="layers"), tmp_path / "low"
    assert act(rows_file, "extract", tuned, tiny_folder, "--rank", 5, "--output_dir", out) == 0
    after, before = (load_file(folder / "model.safetensors") for folder in (tuned, tiny_folder))
    kept = total = 0
    for name, delta in deltas(out, tiny_folder).items():
        u, values, v = np.linalg.svd((after[name] - before[name]).double().numpy())
        assert np.abs(delta.numpy() - (u[:, :5] * values[:5]) @ v[:5]).max() <= 1e-5
        kept, total = kept + (values[:5] ** 2).sum(), total + (values**2).sum()
    assert certificate(out)["explained"] == pytest.approx(kept / total, rel=1e-4)
    printed = capsys.readouterr().out
    assert f"the rank holds {kept / total:.2%} of the squared norm" in printed
    assert "NOT held, since LoRA adapts linear layers: 4 tensors (model.layers." in printed
    assert "base and adapter are NOT the trained model" in printed
    words = ["--rank", 64, "--save_whole", "--output_dir", tmp_path / "whole"]
    assert act(rows_file, "extract", tuned, tiny_folder, *words) == 0
    assert certificate(tmp_path / "whole")["max_logit_difference"] <= 1e-3
    assert "saved as whole modules, since LoRA can't hold them: 4 tensors" in capsys.readouterr().out


def slerped(a, b, t):
    angle = np.arccos(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


MIXED = {
    "linear": lambda a, b, base: 0.25 * a + 0.75 * b,
    "slerp": lambda a, b, base: slerped(a, b, 0.75),
    "ties": lambda a, b, base: (
        base + ties([torch.tensor(a - base), torch.tensor(b - base)], torch.tensor([0.25, 0.75]), 0.2).numpy()
    ),
}


@pytest.mark.parametrize("method", MIXED)
def test_whole_models_are_mixed_tensor_by_tensor(method, make_model, rows_file, tiny_folder, tmp_path, capsys):
    a, b, out = make_model("one"), make_model("two", seed=2), tmp_path / "mixed"
    base = ["--model_name_or_path", tiny_folder] if method == "ties" else []
    words = ["--models", f"{a},{b}", "--method", method, "--weights", 0.25, 0.75, "--output_dir", out, *base]
    assert act(rows_file, "merge", *words) == 0
    one, two, start = (load_file(folder / "model.safetensors") for folder in (a, b, tiny_folder))
    for name, tensor in load_file(out / "model.safetensors").items():
        parts = [each[name].double().numpy() for each in (one, two, start)]
        if method != "slerp" or "_proj" in name:  # a slerp of equal tensors is that tensor
            assert np.abs(tensor.numpy() - MIXED[method](*parts)).max() <= 1e-5, name
        else:
            assert torch.equal(tensor, one[name])
    record = certificate(out)
    assert record["is_same"] and record["max_logit_difference"] <= 1e-3 and len(record["from"]) == 2
    assert "from each parent:" in capsys.readouterr().out and (out / "chat_template.jinja").is_file()


def test_diff_shows_norms_cosine_divergence_and_answers(make_adapter, rows_file, tiny_folder, capsys):
    a, b = make_adapter(), make_adapter(lora(r=8), seed=2)
    assert act(rows_file, "diff", a, b, "--num_answers", 1) == 0
    printed = capsys.readouterr().out
    parts = [deltas(folder, tiny_folder) for folder in (a, b)]
    x, y = (torch.cat([part[f"model.layers.{n}.mlp.up_proj.weight"].flatten() for n in (0, 1)]) for part in parts)
    row = next(line.split() for line in printed.splitlines() if line.startswith("up_proj"))
    wanted = [2, float(x.norm()), float(y.norm()), float(x @ y / x.norm() / y.norm())]
    assert [float(cell) for cell in row[1:]] == pytest.approx(wanted, rel=1e-2, abs=1e-3)
    assert "B is NOT A" in printed and "> Write in upper case." in printed and re.search(r"^  A  ", printed, re.M)


def test_diff_of_models_shows_how_far_each_kind_moved(make_model, rows_file, tiny_folder, capsys):
    tuned = make_model("moved", only="down_proj")
    assert act(rows_file, "diff", tuned, tuned, "--num_answers", 0) == 0
    assert "NOT" not in capsys.readouterr().out
    assert act(rows_file, "diff", tiny_folder, tuned, "--num_answers", 0) == 2  # the base has no template of its own
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    one, two = (load_file(folder / "model.safetensors") for folder in (tiny_folder, tuned))
    names = [name for name in one if "down_proj" in name]
    moved, size = ((sum(t.norm() ** 2 for t in ts)) ** 0.5 for ts in ([two[n] - one[n] for n in names], [one[n] for n in names]))  # fmt: skip
    assert float(rows["down_proj"][4]) == pytest.approx(100 * float(moved / size), rel=1e-2)
    assert rows["q_proj"][3] == "0"


def merged_four_bit(adapter, base, out):
    """Merged into 4-bit weights and read back, as `merge_and_unload` of a quantised base does."""
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=four_bit_config("float32"))
    plain = AutoModelForCausalLM.from_pretrained(merge_adapter(adapter, out.with_name("exact")))
    plain.save_pretrained(out)
    four = AutoModelForCausalLM.from_pretrained(out, quantization_config=four_bit_config("float32"))
    del model
    four.dequantize(dtype=torch.float32)
    tensors = {name: value for name, value in four.state_dict().items() if name in plain.state_dict()}
    plain.load_state_dict(tensors, strict=False)
    plain.save_pretrained(out)


def edited(change):
    """A merge in float32 with its tensors changed."""

    def make(adapter, base, out):
        merge_adapter(adapter, out)
        tensors = load_file(out / "model.safetensors")
        change(tensors, load_file(base / "model.safetensors"))
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})

    return make


def rescaled(factor):
    def change(tensors, base):
        tensors.update({name: base[name] + factor * (tensors[name] - base[name]) for name in base})

    return edited(change)


def swap_base(tensors, base):
    torch.manual_seed(9)
    tensors.update({name: value + 0.05 * torch.randn_like(value) for name, value in tensors.items()})


def transpose(tensors, base):
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = base[name] + (tensors[name] - base[name]).T.contiguous()


def permute(tensors, base):
    for name in base:
        if "q_proj" in name:
            delta = tensors[name] - base[name]
            tensors[name] = base[name] + delta.view(4, 2, 8, 64).transpose(1, 2).reshape(delta.shape)


def tied(adapter, base, out):
    """An embedding that was adapted apart from its head, merged into the one tensor that both share."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    model.save_pretrained(out)


EMBEDDING = lora(target_modules=["q_proj", "embed_tokens"])
FAULTS = {
    "clean merge in float32": (lora(), lambda adapter, base, out: merge_adapter(adapter, out), True),
    "clean merge in bfloat16": (lora(), lambda adapter, base, out: merge_adapter(adapter, out, dtype="bfloat16"), True),
    "clean merge of an untied embedding": (EMBEDDING, lambda adapter, base, out: merge_adapter(adapter, out), True),
    "merge into 4 bits": (lora(), merged_four_bit, False),
    "embedding and head tied": (EMBEDDING, tied, False),
    "alpha twice as large": (lora(), rescaled(2), False),
    "alpha half as large": (lora(), rescaled(0.5), False),
    "not merged at all": (lora(), rescaled(0), False),
    "another base": (lora(), edited(swap_base), False),
    "an update transposed": (lora(), edited(transpose), False),
    "rows of q in llama.cpp's order": (lora(), edited(permute), False),
}


@pytest.mark.parametrize(("config", "make", "passes"), FAULTS.values(), ids=FAULTS)
def test_the_certificate_passes_what_is_right_and_catches_what_is_not(
    config, make, passes, make_adapter, rows_file, tiny_folder, tmp_path
):
    adapter, out = make_adapter(config), tmp_path / "merged"
    make(adapter, tiny_folder, out)
    save_text(out, tiny_folder)
    record, _ = compared(str(adapter), str(out), Measuring(data=str(rows_file)), 0)
    assert record["is_same"] is passes, record


def padded(folder):
    """With the embedding that PEFT saves where a vocabulary was resized, of more rows than the base."""
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.model.embed_tokens.weight"] = torch.zeros(304, 64)
    save_file(tensors, folder / WEIGHTS)


def renamed(folder):
    """Under another prefix, as other trainers save."""
    tensors = {name.removeprefix("base_model.model."): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)


def poisoned(folder):
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS)


ELSEWHERE = {
    "padded vocabulary": (padded, "holds base_model.model.model.embed_tokens.weight, an embedding of 304 rows"),
    "another prefix": (renamed, "has tensor model.layers.0.mlp.up_proj.lora_A.weight where"),
    "nan": (poisoned, "holds NaN or infinity"),
}


@pytest.mark.parametrize(("change", "message"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_adapters_from_elsewhere_are_refused_by_name(change, message, make_adapter, rows_file, tmp_path, capsys):
    good, bad = make_adapter(), tmp_path / "bad"
    shutil.copytree(make_adapter(seed=13), bad)
    change(bad)
    actions = [("combine", good, bad), *([("prune", bad, "--rank", 2)] if change is not padded else [])]
    for words in actions:
        assert act(rows_file, *words, "--output_dir", tmp_path / "out") == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "out").exists()


DORA, WHOLE = lora(use_dora=True), lora(modules_to_save=["norm"])
TOKENS = lora(trainable_token_indices={"embed_tokens": [5, 7]})
IA3 = IA3Config(task_type=TaskType.CAUSAL_LM, target_modules=["k_proj"], feedforward_modules=[])
COMBINE, PRUNE = ("combine", "{good}", "{bad}"), ("prune", "{bad}", "--rank", 2)
REFUSED = {
    "dora": (COMBINE, {"config": DORA}, "is a DoRA, whose magnitudes are no sum, so it can't be combined; merge it"),
    "whole modules": (COMBINE, {"config": WHOLE}, "replaces modules as a whole (modules_to_save), so it can't"),
    "trained tokens": (COMBINE, {"config": TOKENS}, "has trained token rows, so it can't be combined"),
    "ia3": (COMBINE, {"config": IA3}, "is ia3, so it can't be combined; give a LoRA"),
    "ia3 pruned": (PRUNE, {"config": IA3}, "is ia3, so it can't be pruned; give a LoRA"),
    "tied": (COMBINE, {"config": EMBEDDING}, "adapts an embedding that is tied to the head"),
    "template": (COMBINE, {"template": "chatml"}, "have different chat templates"),
    "vocabulary": (COMBINE, {"more": ("<new>",)}, 'different vocabularies (token "<new>" is not in both alike)'),
    "ranks": (
        (*COMBINE, "--method", "ties"),
        {"config": lora(r=8)},
        "--method ties adds up factors, and ranks differ: 4",
    ),
    "rank is large": ((*COMBINE, "--method", "svd", "--rank", 65), {}, "--rank 65 is more than"),
    "rank has no effect": ((*COMBINE, "--rank", 4), {}, "--rank has no effect on --method cat"),
    "density has no effect": ((*COMBINE, "--density", 0.4), {}, "--density has no effect on --method cat"),
    "one adapter": (("combine", "{good}"), {}, "give two adapters or more"),
    "weights": ((*COMBINE, "--weights", 1), {}, "--weights has 1 numbers for 2 adapters; give one for each"),
    "weights are nan": ((*COMBINE, "--weights", "nan", 1), {}, "--weights nan 1; give finite numbers, not all 0"),
    "max_kl": ((*COMBINE, "--max_kl", 0), {}, "--max_kl is 0; give a number above 0"),
    "rank already": (("prune", "{bad}", "--rank", 4), {}, "has rank 4 already; give --rank below that"),
    "adapters as models": (("merge", "--models", "{good},{bad}"), {}, "is an adapter; ftkit adapters combine takes"),
    "nothing to extract": (("extract", "{base}", "{base}"), {}, "there is nothing to extract"),
    "slerp of three": (("merge", "--models", "a,b,c", "--method", "slerp"), {}, "goes from one model to another"),
    "ties without base": (("merge", "--models", "a,b", "--method", "ties"), {}, "add --model_name_or_path BASE"),
}


@pytest.mark.parametrize(("words", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cant_be_done_is_one_line_and_leaves_nothing(
    words, settings, message, make_adapter, rows_file, tiny_folder, tmp_path, capsys
):
    names = {"good": make_adapter(seed=5), "bad": make_adapter(**{"seed": 6, **settings}), "base": tiny_folder}
    words = [str(word).format(**names) for word in words]
    assert act(rows_file, *words, "--output_dir", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1], error
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_models_of_different_shapes_templates_and_bases_are_refused_by_name(
    make_model, make_adapter, rows_file, tiny_folder, tmp_path, capsys
):
    a, b, c = make_model("p"), make_model("q", template="chatml"), make_model("r", rms_norm_eps=1e-3)
    other = make_adapter(base=a, seed=7)
    for words, message in (
        (("merge", "--models", f"{a},{b}"), f"{a} and {b} have different chat templates"),
        (("merge", "--models", f"{a},{c}"), "are different models: rms_norm_eps is 1e-06 in the one, 0.001"),
        (("combine", make_adapter(), other), "have different bases ("),
        (("extract", make_model("s", only="embed"), tiny_folder, "--save_whole"), "(tied): no adapter holds it"),
        (("extract", make_model("s", only="embed"), tiny_folder), "differs from"),
    ):
        assert act(rows_file, *words, "--output_dir", tmp_path / "out") == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
