"""`ftkit adapters` finds, describes and merges; adapters swap in a chat and answer side by side; mistakes are one line."""

import io
import json

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.commands import chat, generate
from ftkit.commands.adapters import adapters
from ftkit.config.errors import UserError
from ftkit.config.parser import run
from ftkit.data.templates.templates import install_template
from ftkit.inference.asking import BASE, asking_parser, model_settings, parse_adapters, sampling_of
from ftkit.inference.engine import Engine
from ftkit.inference.side_by_side import models_to_compare, side_by_side
from ftkit.model.adapters.files import record_base

QUESTION = [{"role": "user", "content": "Say it."}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))


def lora(**changes) -> LoraConfig:
    return LoraConfig(
        **{"task_type": TaskType.CAUSAL_LM, "r": 4, "lora_alpha": 8, "target_modules": "all-linear", **changes}
    )


def soft_prompt() -> PromptTuningConfig:
    return PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=4)


@pytest.fixture
def make_run(tiny_folder, tmp_path):
    """Writes what `ftkit sft` leaves of an adapter: weights (random), tokenizer with template, base.json, run.yaml."""

    def make(name="a", config=None, *, template="alpaca", seed=1, add_tokens=False, **settings):
        folder = tmp_path / "runs" / name
        torch.manual_seed(seed)
        tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
        install_template(tokenizer, template, add_tokens=add_tokens)
        base = AutoModelForCausalLM.from_pretrained(tiny_folder)
        if add_tokens:
            base.resize_token_embeddings(len(tokenizer))
            config = lora(trainable_token_indices={"embed_tokens": list(range(300, len(tokenizer)))})
        model = get_peft_model(base, config or lora())
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder, save_embedding_layers=False)
        tokenizer.save_pretrained(folder)
        record_base(folder, tiny_folder, str(tiny_folder))
        settings = {"model_name_or_path": str(tiny_folder), "template": template, **settings}
        (folder / "run.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
        return folder

    return make


FLAGS = ["--max_new_tokens", "5", "--dtype", "float32"]


def chat_args(*flags):
    return asking_parser("ftkit chat", "").parse_args([*FLAGS, *map(str, flags)])


def load(*flags) -> Engine:
    return Engine.load(model_settings(chat_args(*flags)), with_base=True)


@torch.inference_mode()
def logits(engine: Engine, name: str) -> torch.Tensor:
    with engine.speaking(name):
        return engine.model(input_ids=torch.tensor([engine.prompt_ids(QUESTION, name)])).logits


@pytest.mark.parametrize("config", [lora, soft_prompt], ids=["lora", "soft prompt"])
def test_swaps_give_the_logits_of_each_model_loaded_alone(config, make_run, tiny_folder):
    a, b = make_run("a", config()), make_run("b", config(), seed=2, template="phi3")
    together = load("--adapter", a, "--adapter", f"two={b}")
    assert list(together.voices) == [BASE, "a", "two"]
    first = {name: logits(together, name) for name in together.voices}
    for name in ("a", "two", "a", BASE, "a", BASE, "two"):
        assert torch.equal(logits(together, name), first[name])
    alone = {
        "a": (load("--adapter", a), "a"),
        "two": (load("--adapter", b), "b"),
        BASE: (load("--model_name_or_path", tiny_folder, "--template", "alpaca"), BASE),
    }
    for name, (engine, own) in alone.items():
        assert torch.equal(logits(engine, own), first[name])
        assert engine.voice(own).template.fingerprint == together.voice(name).template.fingerprint
        assert name == BASE or engine.voice(own).digest == together.voice(name).digest


def answers_in(tmp_path, *flags) -> dict:
    path = tmp_path / "answers.jsonl"
    generate.main([*FLAGS, "--output_file", str(path), *map(str, flags)])
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    return records


@pytest.mark.parametrize("config", [lora, soft_prompt], ids=["lora", "soft prompt"])
def test_adapters_answer_side_by_side_as_they_do_alone(config, make_run, tiny_folder, tmp_path, capsys):
    a, b = make_run("a", config()), make_run("b", config(), seed=2)
    prompts = ["--prompt", "Say it.", "--prompt", "More."]
    both = answers_in(tmp_path, "--adapter", a, "--adapter", b, *prompts)
    alone = [answers_in(tmp_path, "--adapter", folder, *prompts) for folder in (a, b)]
    assert [record["answers"] for record in both] == [
        {"a": first["answers"], "b": second["answers"]} for first, second in zip(*alone, strict=True)
    ]
    capsys.readouterr()
    whole = answers_in(tmp_path, "--compare", f"{tiny_folder},{a},{b}", "--template", "alpaca", *prompts)
    assert [{name: record["answers"][name] for name in ("a", "b")} for record in whole] == [r["answers"] for r in both]
    base = answers_in(tmp_path, "--model_name_or_path", tiny_folder, "--template", "alpaca", *prompts)
    assert [record["answers"]["llama"] for record in whole] == [record["answers"] for record in base]
    assert "llama answers (1 of 3)" in capsys.readouterr().err


def test_answers_side_by_side_stand_in_columns():
    shown = side_by_side({"base": ["one\n\nline"], "tuned": ["two", ""]})
    assert shown.splitlines() == ["  base   one", "", "         line", "  tuned  two", ""][:4]
    assert side_by_side({"a": ["x"]}) == "  a  x"


def test_generate_prints_the_question_over_the_answers_of_all(make_run, capsys):
    generate.main(
        [*FLAGS, "--adapter", str(make_run("a")), "--adapter", f"two={make_run('b', seed=2)}", "--prompt", "Say it."]
    )
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "> Say it."
        and any(line.startswith("  a") for line in lines)
        and any(line.startswith("  two") for line in lines)
    )


def test_chat_swaps_adapters_and_keeps_the_conversation_as_text(make_run, capsys):
    together = load("--adapter", make_run("a"), "--adapter", make_run("b", seed=2, template="phi3"))
    lines = "Say it.\n/adapter b\nMore.\n/adapter base\nAgain.\n/adapter\n/adapter bb\n/exit\n"
    chat.talk(together, sampling_of(chat_args()), None, io.StringIO(lines))
    printed = capsys.readouterr()
    assert "b answers" in printed.err and "base answers; there are: base, a, b" in printed.err
    assert 'no adapter "bb"; did you mean "b"?' in printed.err
    expected, history = [], []
    for name, text in (("a", "Say it."), ("b", "More."), ("base", "Again.")):
        history.append({"role": "user", "content": text})
        ids = torch.tensor([together.prompt_ids(history, name)])
        with together.speaking(name) as voice:
            output = together.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False,
                eos_token_id=together.end_token_ids(name), pad_token_id=1,
            )  # fmt: skip
        answer = voice.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()
        history.append({"role": "assistant", "content": answer})
        expected.append(answer)
    place = 0
    for answer in expected:
        place = printed.out.index(answer, place) + len(answer)


def test_compare_asks_everyone_the_same_and_leaves_the_conversation_alone(make_run, capsys, monkeypatch):
    asked = []
    together = load("--adapter", make_run("a"), "--adapter", make_run("b", seed=2))
    stream = together.stream
    monkeypatch.setattr(
        together,
        "stream",
        lambda messages, *settings, **further: asked.append(list(messages)) or stream(messages, *settings, **further),
    )
    chat.talk(
        together,
        sampling_of(chat_args()),
        "Be brief.",
        io.StringIO("/compare\nSay it.\n/compare\n/compare More.\nAgain.\n"),
    )
    printed = capsys.readouterr()
    assert "nothing was asked yet; ask, or write /compare TEXT" in printed.err
    assert printed.out.count("[base]") == printed.out.count("[a]") == printed.out.count("[b]") == 2
    contents = [[message["content"] for message in messages] for messages in asked]
    said = contents[4][2]
    assert contents[0] == contents[1] == contents[2] == contents[3] == ["Be brief.", "Say it."]
    assert contents[4] == contents[5] == contents[6] == ["Be brief.", "Say it.", said, "More."]
    assert contents[7] == ["Be brief.", "Say it.", said, "Again."]


def test_added_tokens_are_never_mixed(make_run, capsys, monkeypatch):
    a, b, plain = (
        make_run("a", add_tokens=True),
        make_run("b", add_tokens=True, seed=2, template="chatml"),
        make_run("plain"),
    )
    c = make_run("c", add_tokens=True, seed=3, template="chatml")
    together = load("--adapter", b, "--adapter", c)
    assert list(together.voices) == ["b", "c"]  # the base has never seen these tokens
    assert not torch.equal(logits(together, "b"), logits(together, "c"))
    monkeypatch.setattr("sys.stdin", io.StringIO("/exit\n"))
    chat.main([*FLAGS, "--adapter", str(b)])
    assert "the base can't be asked" in capsys.readouterr().err
    assert a.is_dir()
    with pytest.raises(UserError, match=r'adapter b and adapter plain have different vocabularies \(token "<\|im_'):
        load("--adapter", b, "--adapter", plain)


def test_list_finds_adapters_without_reading_weights(make_run, tmp_path, capsys):
    make_run("a"), make_run("deep/b", lora(use_dora=True, r=8)), make_run("soft", soft_prompt())
    make_run("a/checkpoint-5"), make_run("cut/checkpoint-7")
    (make_run("broken") / "adapter_config.json").write_text("{")
    (make_run("untyped") / "adapter_config.json").write_text("{}")
    (make_run("unrecorded") / "base.json").write_text("[")
    adapters.main(["list", str(tmp_path / "runs")])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {row[0].removeprefix(f"{tmp_path}/runs/"): row[1:] for row in rows[1:]}
    assert shown.keys() == {"a", "deep/b", "soft", "cut/checkpoint-7", "broken", "untyped", "unrecorded"}
    assert shown["a"][:2] == ["LoRA", "4"] and shown["a"][-1].endswith("llama") and shown["a"][3] == "MiB"
    assert shown["deep/b"][:3] == ["LoRA", "DoRA", "8"] and shown["soft"][:3] == ["prompt", "tuning", "4"]
    assert shown["unrecorded"][-1] == "base.json"
    assert shown["broken"][0] == shown["untyped"][0] == "unreadable"
    adapters.main(["list", "--checkpoints", str(tmp_path / "runs")])
    assert "a/checkpoint-5" in capsys.readouterr().out


def test_list_says_when_there_is_none(tmp_path, capsys):
    adapters.main(["list", str(tmp_path)])
    assert "no adapter below" in capsys.readouterr().err


def test_info_tells_method_base_checks_and_the_norm_of_the_update(make_run, tiny_folder, capsys):
    folder = make_run("a", lora(lora_alpha=12), load_in_4bit=True)
    adapters.main(["info", str(folder)])
    printed = capsys.readouterr().out
    assert "LoRA, r 4, alpha 12 (update x 3)" in printed and "(weights match, SHA-256 " in printed
    assert (
        "the base in 4 bits" in printed
        and "every tensor has its place in the base" in printed
        and "alpaca (" in printed
    )
    tensors = load_file(folder / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.{}.mlp.up_proj.lora_{}.weight"
    weights = load_file(tiny_folder / "model.safetensors")
    products = [3 * tensors[prefix.format(i, "B")] @ tensors[prefix.format(i, "A")] for i in range(2)]
    norms = [product.norm().item() for product in products]
    share = (
        sum(norm / weights[f"model.layers.{i}.mlp.up_proj.weight"].norm().item() for i, norm in enumerate(norms)) / 2
    )
    row = next(line.split() for line in printed.splitlines() if line.startswith("up_proj"))
    assert row[1] == "2" and float(row[2]) == pytest.approx(sum(norms) / 2, rel=1e-3)
    assert float(row[3]) == pytest.approx(max(norms), rel=1e-3) and float(row[4]) == pytest.approx(
        100 * share, rel=1e-2
    )


def test_info_scales_each_update_by_the_rank_and_alpha_of_its_module(make_run, capsys):
    folder = make_run("a", lora(rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 20}, target_modules=["q_proj", "embed_tokens"]))  # fmt: skip
    adapters.main(["info", str(folder)])
    printed = capsys.readouterr().out
    assert "r 4, alpha 8 (update x 2) in most modules, on" in printed
    tensors = load_file(folder / "adapter_model.safetensors")
    module = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    norms = [(10 * tensors[module.format(i, "B")] @ tensors[module.format(i, "A")]).norm().item() for i in range(2)]
    rows = {line.split()[0]: line.split() for line in printed.split("\n") if line.strip()}
    assert float(rows["q_proj"][3]) == pytest.approx(max(norms), rel=1e-3)
    embedding = "base_model.model.model.embed_tokens.lora_embedding_{}"
    norm = (2 * tensors[embedding.format("B")] @ tensors[embedding.format("A")]).norm().item()
    assert float(rows["embed_tokens"][3]) == pytest.approx(norm, rel=1e-3)


def test_info_names_what_fails_instead_of_refusing(make_run, tmp_path, capsys):
    folder = make_run()
    edit(folder, lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    assert run(adapters.main, ["info", str(folder)]) == 2
    printed = capsys.readouterr()
    assert "FAILS: " in printed.out and "NaN or infinity" in printed.out and "Frobenius" not in printed.out
    assert "adapter_model.safetensors: tensor " in printed.err and printed.err.count("\n") == 1
    soft = make_run("soft", soft_prompt())
    (soft / "base.json").unlink()
    adapters.main(["info", str(soft)])
    assert "prompt tuning, 4 virtual tokens" in (printed := capsys.readouterr().out) and "can't be verified" in printed
    record = json.loads((make_run("moved") / "base.json").read_text())
    (tmp_path / "runs" / "moved" / "base.json").write_text(json.dumps(record | {"sha256": "0" * 64}))
    adapters.main(["info", str(tmp_path / "runs" / "moved")])
    assert "has other weights" in capsys.readouterr().out


def test_info_of_an_adapter_that_was_never_trained_ends_with_2(make_run, capsys):
    folder = make_run()
    edit(folder, lambda tensors: [tensor.zero_() for tensor in tensors.values()])
    assert run(adapters.main, ["info", str(folder)]) == 2
    assert "the adapter changes nothing" in capsys.readouterr().err


def merged(folder, tmp_path, *flags) -> dict:
    out = tmp_path / f"merged{len(list(tmp_path.iterdir()))}"
    adapters.main(["merge", str(folder), "--output_dir", str(out), "--num_rows", "4", *map(str, flags)])
    return json.loads((out / "merge.json").read_text())


@pytest.fixture
def rows_file(tmp_path, word_rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    return path


def test_merge_measures_the_folder_it_wrote_against_base_and_adapter(make_run, tmp_path, rows_file, capsys):
    folder = make_run()
    exact = merged(folder, tmp_path, "--dtype", "float32", "--file", rows_file)
    assert exact["num_rows"] == 4 and exact["num_tokens"] >= 8 and exact["top1_agreement"] == 1.0
    assert abs(exact["mean_kl"]) < 1e-6 and exact["max_logit_difference"] < 1e-4
    assert exact["reference"] == "base and adapter in float32" and str(rows_file) in exact["rows"]
    printed = capsys.readouterr()
    assert "100.00 % of tokens the same" in printed.out and "next: ftkit chat --model" in printed.err
    rounded = merged(folder, tmp_path, "--file", rows_file)
    assert rounded["dtype"] == "bfloat16" and 1e-6 < rounded["mean_kl"] < 0.05


def test_a_merge_of_qlora_is_measured_against_the_four_bit_base(make_run, tmp_path, rows_file, capsys):
    folder = make_run(load_in_4bit=True, dtype="float32")
    trained = merged(folder, tmp_path, "--dtype", "float32", "--file", rows_file)
    assert trained["reference"] == "the 4-bit base and adapter, as trained (float32)"
    assert trained["max_logit_difference"] <= 1e-4 * trained["max_abs_logit"]
    original = merged(folder, tmp_path, "--dtype", "float32", "--file", rows_file, "--original_weights")
    assert original["mean_kl"] > 1000 * abs(trained["mean_kl"]) and original["merged_into"] == "the base's own weights"
    assert "the merged model is NOT the trained one" in capsys.readouterr().out


def test_rows_are_the_runs_held_out_ones_where_it_has_them_else_bundled(make_run, tmp_path, rows_file, capsys):
    own = merged(make_run("a", dataset_name=str(rows_file), test_size=3, seed=1), tmp_path)
    assert own["num_rows"] == 3 and own["rows"] == f"held-out rows of the run, {rows_file}"
    gone = merged(make_run("b", dataset_name="/gone/rows.jsonl", test_size=3), tmp_path)
    assert gone["rows"] == "test rows of the bundled dataset instructions"
    assert "the run's own rows can't be used" in capsys.readouterr().err


def edit(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def rename(folder):
    edit(folder, lambda tensors: tensors.update(renamed=tensors.pop(sorted(tensors)[0])))


def poison(folder):
    edit(folder, lambda tensors: tensors[sorted(tensors)[3]].fill_(float("inf")))


def blank(folder):
    edit(folder, lambda tensors: [tensor.zero_() for tensor in tensors.values()])


def other_base(folder):
    record = json.loads((folder / "base.json").read_text())
    (folder / "base.json").write_text(json.dumps(record | {"sha256": "ab" * 32, "name": "another"}))


def lost_base(folder):
    for name in ("run.yaml", "base.json"):
        (folder / name).unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone"}))


BROKEN = {
    "renamed key": (rename, "has tensor renamed where"),
    "infinity": (poison, "holds NaN or infinity"),
    "zero update": (blank, "changes nothing"),
    "wrong base": (other_base, 'its base "another" has SHA-256 abababababab'),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "adapter_model.safetensors: missing",
    ),
    "broken config": (
        lambda folder: (folder / "adapter_config.json").write_text("["),
        "adapter_config.json:1: not valid JSON",
    ),
    "base is gone": (lost_base, "its base is not here (/gone: no such folder"),
}


def assert_one_line(main, argv, message, capsys):
    capsys.readouterr()
    assert run(main, [str(part) for part in argv]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and not any("Traceback" in line for line in error), error


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_adapter_is_one_line_in_every_command(change, message, make_run, tmp_path, capsys):
    good, bad = make_run("good"), make_run("bad", seed=2)
    change(bad)
    assert_one_line(generate.main, [*FLAGS, "--adapter", bad, "--prompt", "x"], message, capsys)
    assert_one_line(
        chat.main, [*FLAGS, "--adapter", good, "--adapter", bad], message, capsys
    ) if "gone" not in message else None
    assert_one_line(adapters.main, ["merge", bad, "--output_dir", tmp_path / "out"], message, capsys)
    assert not (tmp_path / "out").exists()


MISTAKES = {
    "no action": (adapters.main, [], "an action is missing; give one of: list, info, merge"),
    "unknown action": (adapters.main, ["mrege"], 'unknown action "mrege"; did you mean "merge"?'),
    "no such folder": (adapters.main, ["list", "nosuch"], "nosuch: no such folder"),
    "info of nothing": (adapters.main, ["info", "nosuch"], "nosuch: no adapter_config.json in it"),
    "no adapter": (adapters.main, ["info"], "the following arguments are required: adapter"),
    "merge into nothing": (adapters.main, ["merge", "A"], "--output_dir is missing"),
    "merge into 4 bits": (
        adapters.main,
        ["merge", "A", "--output_dir", "O", "--dtype", "nf4"],
        "--dtype nf4; allowed are bfloat16, float32, float16",
    ),
    "used folder": (adapters.main, ["merge", "A", "--output_dir", "A"], "exists and is not empty"),
    "no rows": (adapters.main, ["merge", "A", "--output_dir", "O", "--num_rows", "0"], "--num_rows is 0"),
    "two sources": (
        adapters.main,
        ["merge", "A", "--output_dir", "O", "--file", "x", "--dataset_name", "y"],
        "drop one",
    ),
    "no such rows": (
        adapters.main,
        ["merge", "A", "--output_dir", "O", "--file", "nosuch.jsonl"],
        "nosuch.jsonl: no such file",
    ),
    "not an adapter": (adapters.main, ["merge", "M", "--output_dir", "O"], "no adapter_config.json in it"),
    "soft prompt": (adapters.main, ["merge", "S", "--output_dir", "O"], "there is nothing to merge"),
    "unknown flag": (adapters.main, ["merge", "A", "--ouput_dir", "O"], "did you mean --output_dir"),
    "no path": (
        generate.main,
        ["--adapter", "x=", "--prompt", "x"],
        '--adapter "x=": the path is missing; write --adapter PATH',
    ),
    "no name": (generate.main, ["--adapter", "=A", "--prompt", "x"], "the name is missing"),
    "odd name": (generate.main, ["--adapter", "a b=A", "--prompt", "x"], "a name has letters"),
    "called base": (generate.main, ["--adapter", "base=A", "--prompt", "x"], '"base" is the model without adapters'),
    "named twice": (
        generate.main,
        ["--adapter", "n=A", "--adapter", "n=A", "--prompt", "x"],
        "already; name it, NAME=PATH",
    ),
    "missing folder": (chat.main, ["--adapter", "x=nosuch"], "nosuch: no such folder"),
    "a model as adapter": (chat.main, ["--adapter", "M"], "no adapter_config.json in it"),
    "mixed methods": (chat.main, ["--adapter", "A", "--adapter", "S"], "is PROMPT_TUNING, the adapters before it LORA"),
    "one model": (generate.main, ["--compare", "M", "--prompt", "x"], "give two models or more"),
    "empty model": (generate.main, ["--compare", "M,", "--prompt", "x"], "give two models or more"),
    "same name": (generate.main, ["--compare", "x=M,x=A", "--prompt", "x"], "x is named twice"),
    "same model": (generate.main, ["--compare", "M,M", "--prompt", "x"], "is named twice"),
    "second is missing": (
        generate.main,
        ["--compare", "M,/nosuch/model", "--prompt", "x"],
        "/nosuch/model: no such folder",
    ),
    "compare and model": (
        generate.main,
        ["--compare", "M,A", "--adapter", "A", "--prompt", "x"],
        "drop --model_name_or_path and --adapter",
    ),
}


@pytest.mark.parametrize(("main", "argv", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(main, argv, message, make_run, tiny_folder, tmp_path, capsys):
    places = {
        "A": str(make_run("a")),
        "S": str(make_run("s", soft_prompt())),
        "M": str(tiny_folder),
        "O": str(tmp_path / "o"),
    }
    filled = []
    for part in argv:
        for letter, place in places.items():
            if part == letter or part.endswith(f"={letter}"):
                part = part[: -len(letter)] + place
        if "," in part:
            part = ",".join(p if p not in places else places[p] for p in part.split(","))
            part = part.replace("x=M,x=A", f"x={places['M']},x={places['A']}")
        filled.append(part)
    assert_one_line(main, filled, message, capsys)


def test_names_come_from_folders_unless_given(tmp_path):
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert parse_adapters(["runs/first", f"x={odd}"]) == {"first": "runs/first", "x": str(odd)}
    assert parse_adapters([str(odd)]) == {"a-b": str(odd)}
    assert parse_adapters(["runs/lr=1e-4", "my run"]) == {"lr-1e-4": "runs/lr=1e-4", "my-run": "my run"}
    assert models_to_compare("one/m,two/m,three/n,x=y") == {
        "one/m": "one/m",
        "two/m": "two/m",
        "n": "three/n",
        "x": "y",
    }


def test_the_actions_are_explained(capsys):
    with pytest.raises(SystemExit, match="0"):
        adapters.main(["--help"])
    assert "ftkit adapters merge" in capsys.readouterr().out
