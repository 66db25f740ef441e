"""Hostile files end in one line: no hang, no traceback, and no code of theirs is run."""

import json
import os
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hostile import (
    ADAPTED,
    BENCH,
    CHECK,
    CPU_SECONDS,
    EXPORT,
    GENERATE,
    GO_ON,
    INFO,
    MERGE,
    OWN_MODEL,
    OWN_TOKENIZER,
    PLAIN_TURN,
    PLAN,
    PUSH,
    SHELL,
    SHOW,
    Case,
    adapter,
    both,
    changed,
    code,
    config,
    replaced,
    run_hostile,
    split,
    task,
    template,
    tokenizer,
    written,
)  # fmt: skip
from safetensors.torch import load_file, save_file

from ftkit.config.errors import LimitError, UserError

DEEP = "[" * 200_000
GETS_OS = "{{ lipsum.__globals__['os'].system('touch canary') }}"
GROWS = "{% set x = namespace(v='a') %}{% for i in range(99) %}{% set x.v = x.v ~ x.v %}{% endfor %}{{ x.v }}"
SQUARES = "{% set x = namespace(v=7) %}{% for i in range(99) %}{% set x.v = x.v * x.v %}{% endfor %}{{ x.v }}"
SUMS = "{% set x = [[1] * 99999] * 99999 %}{{ x | sum(start=[]) | length }}"
FIBONACCI = "{% macro f(n) %}{% if n > 1 %}{{ f(n - 1) }}{{ f(n - 2) }}{% endif %}{% endmacro %}{{ f(64) }}"
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
LATE = "{% if messages | length > 16 %}" + LOOPS + "{% endif %}" + PLAIN_TURN


def huge_template(folder: Path) -> None:
    """Made where it is used: 70 MB."""
    template("{# a #}" * 10_000_000)(folder)


def many_tokens(folder: Path) -> None:
    """Made where they are used."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    tokenizer(added_tokens=[{"id": n, "content": f"<{n}>", **plain} for n in range(400_000)])(folder)


TEMPLATES = [
    Case("nested loops", template(LOOPS), GENERATE),
    Case("nested loops, shown", template(LOOPS), SHOW),
    Case("nested loops, checked", template(LOOPS), CHECK),
    Case("nested loops, planned", template(LOOPS), PLAN),
    Case("nested loops, pushed", template(LOOPS + PLAIN_TURN), PUSH),
    Case("loops only in long conversations", both(template(LATE), written("rows.jsonl", json.dumps({"messages": [
        {"role": role, "content": "a"} for role in ("user", "assistant") * 9]}) + "\n")), SHOW),
    Case("a long range", template("{{ range(10 ** 12) | list }}"), GENERATE),
    Case("a repeated letter", template("{{ 'a' * 10000000000 }}"), GENERATE),
    Case("a repeated letter beyond memory", template("{{ 'a' * 1000000000000000 }}"), SHOW),
    Case("a repeated list", template("{{ [0] * 10000000000 }}"), GENERATE),
    Case("a power", template("{{ 10 ** 999999999 }}"), GENERATE),
    Case("a power of a variable", template("{% set x = 9 %}{{ x ** 999999999 }}"), SHOW),
    Case("squares of squares", template(SQUARES), GENERATE),
    Case("text that doubles", template(GROWS), GENERATE),
    Case("lists joined one by one", template(SUMS), GENERATE),
    Case("a macro that calls itself", template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), GENERATE),
    Case("a macro that calls itself twice", template(FIBONACCI), GENERATE),
    Case("a wide centre", template("{{ 'a' | center(10000000000) }}"), GENERATE),
    Case("a wide number", template("{{ '%9999999999d' % 1 }}"), GENERATE),
    Case("a wide format", template("{{ '{:>9999999999}'.format(1) }}"), GENERATE),
    Case("a wide indent", template("{{ messages | tojson(indent=9999999999) }}"), GENERATE),
    Case("wide batches", template("{{ [1] | batch(9999999999, 0) | list }}"), GENERATE),
    Case("many words", template("{{ lipsum(n=1000000) }}"), GENERATE),
    Case("replaced by more", template("{{ ('a' * 99999) | replace('a', 'b' * 999999) }}"), GENERATE),
    Case("endless output", template("{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}"), GENERATE),
    Case("classes of a text", template("{{ ''.__class__.__mro__[1].__subclasses__() }}"), GENERATE),
    Case("the shell, by a global", template(GETS_OS), GENERATE),
    Case("the shell, by cycler", template("{{ cycler.__init__.__globals__.os.popen('touch canary').read() }}"), SHOW),
    Case("the shell, by namespace", template("{{ namespace.__init__.__globals__ }}{{ " + SHELL + " }}"), GENERATE),
    Case("the shell, by an attribute filter", template("{{ ''|attr('__class__')|attr('__base__') }}"), GENERATE),
    Case("the shell, by a format", template("{{ '{0.__class__.__init__.__globals__}'.format(namespace) }}"), SHOW),
    Case("the shell, in a declared heading", template("{#- headings: $(touch canary) -#}" + LOOPS), GENERATE),
    Case("another file", template("{% include '/etc/passwd' %}"), GENERATE),
    Case("an import", template("{% import 'os' as os %}{{ os.system('touch canary') }}"), GENERATE),
    Case("no end of a loop", template("{% for m in messages %}{{ m.content"), GENERATE),
    Case("an unknown filter", template("{{ messages | evil }}"), GENERATE),
    Case("a division by zero", template("{{ 1 // 0 }}"), GENERATE),
    Case("an unknown role", template("{{ raise_exception('no\\nsuch\\nrole') }}"), GENERATE),
    Case("deep parentheses", template("{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}"), GENERATE),
    Case("deep conditions", template("{% if 1 %}" * 20000 + "{% endif %}" * 20000), GENERATE),
    Case("a huge template", huge_template, GENERATE),
    Case("unclosed comments", template("{#- control tokens: " * 6000), GENERATE),
    Case("many control tokens", template("{#- control tokens: " + "<x> " * 30000 + "-#}" + PLAIN_TURN), GENERATE),
    Case("bytes that are no text", written("model/chat_template.jinja", b"\xff\xfe{{ messages }}"), GENERATE),
    Case("a number for a template", both(changed("model/tokenizer_config.json", chat_template=5),
         lambda folder: (folder / "model/chat_template.jinja").unlink()), GENERATE),
    Case("a person's own template file", template(LOOPS), GENERATE + " --template model/chat_template.jinja"),
]  # fmt: skip

MODELS = [
    Case("code for the tokenizer", code("model/tokenizer_config.json", **OWN_TOKENIZER), GENERATE),
    Case("code for a tokenizer of its own class", both(code("model/tokenizer_config.json", **OWN_TOKENIZER),
         changed("model/tokenizer_config.json", tokenizer_class="Own")), SHOW),
    Case("code for the configuration", code("model/config.json", **OWN_MODEL), GENERATE),
    Case("code for a model of its own type", both(code("model/config.json", **OWN_MODEL), config(model_type="own")), GENERATE),
    Case("the same, planned", both(code("model/config.json", **OWN_MODEL), config(model_type="own")), PLAN),
    Case("the same, with false given", both(code("model/config.json", **OWN_MODEL), config(model_type="own")),
         PLAN + " --trust_remote_code false"),
    Case("the same, pushed", both(code("model/config.json", **OWN_MODEL), config(model_type="own")), PUSH),
    Case("the same, exported", both(code("model/config.json", **OWN_MODEL), config(model_type="own")), EXPORT),
    Case("code of another repository", both(config(auto_map={"AutoConfig": "other/repo--own.Own"}, model_type="own")), GENERATE),
    Case("code for generation", both(code("model/config.json"), written("model/custom_generate/generate.py",
         "open('canary', 'w').close()\ndef generate(*a, **k): pass\n")), GENERATE),
    Case("a kernel of a repository", config(_attn_implementation="other/kernel", attn_implementation="other/kernel"), GENERATE),
    Case("an adapter inside the model", written("model/adapter_config.json",
         '{"peft_type": "LORA", "base_model_name_or_path": "/nowhere"}'), GENERATE),
    Case("a million layers", config(num_hidden_layers=1_000_000), GENERATE),
    Case("a million layers, planned", config(num_hidden_layers=1_000_000), PLAN),
    Case("no number of layers", config(num_hidden_layers="many"), GENERATE),
    Case("minus one layer", config(num_hidden_layers=-1), PLAN),
    Case("a vocabulary of a trillion", config(vocab_size=10**12), GENERATE),
    Case("a vocabulary of a billion", config(vocab_size=10**9), PLAN),
    Case("a hidden size of a billion", config(hidden_size=10**9, head_dim=16), GENERATE),
    Case("an MLP of a trillion", config(intermediate_size=10**12), GENERATE),
    Case("no heads", config(num_attention_heads=0), GENERATE),
    Case("heads that divide nothing", config(num_attention_heads=7, num_key_value_heads=3), GENERATE),
    Case("a trillion positions", config(max_position_embeddings=10**12), GENERATE),
    Case("a billion labels", config(num_labels=10**9), GENERATE),
    Case("an unknown activation", config(hidden_act="os.system"), GENERATE),
    Case("an unknown dtype", config(dtype="os"), GENERATE),
    Case("an unknown rope", config(rope_parameters={"rope_type": "evil", "rope_theta": 1e4}), GENERATE),
    Case("a rope of text", config(rope_parameters="evil"), PLAN),
    Case("a type that is a list", config(model_type=["llama"]), GENERATE),
    Case("a type that is a path", config(model_type="../../os"), GENERATE),
    Case("a picture's model", config(model_type="vit"), GENERATE),
    Case("a translator's model", config(model_type="t5"), GENERATE),
    Case("an unknown quantisation", config(quantization_config={"quant_method": "evil"}), GENERATE),
    Case("a quantisation of text", config(quantization_config="evil"), GENERATE),
    Case("deep JSON", written("model/config.json", '{"model_type": "llama", "a": ' + DEEP), GENERATE),
    Case("deep JSON, planned", written("model/config.json", '{"model_type": "llama", "a": ' + DEEP), PLAN),
    Case("huge JSON", written("model/config.json", '{"model_type": "llama"' + " " * 10**8 + "}"), GENERATE),
    Case("a list for a configuration", written("model/config.json", "[1]"), GENERATE),
    Case("a configuration of bytes", written("model/config.json", b"\x80\x81"), GENERATE),
    Case("generation without an end", changed("model/generation_config.json", eos_token_id="x"), GENERATE),
    Case("a billion beams", changed("model/generation_config.json", num_beams=10**9), GENERATE),
    Case("generation as a list", written("model/generation_config.json", "[]"), GENERATE),
    Case("deep JSON for generation", written("model/generation_config.json", DEEP), GENERATE),
    Case("weights that end early", written("model/model.safetensors", b"\x10\0\0\0\0\0\0\0{}"), GENERATE),
    Case("a header of an exabyte", written("model/model.safetensors", b"\xff" * 7 + b"\x0f{}"), GENERATE),
    Case("a deep header", written("model/model.safetensors", len(DEEP).to_bytes(8, "little") + DEEP.encode()), GENERATE),
    Case("a pickle", lambda folder: (folder / "model/model.safetensors").rename(folder / "model/pytorch_model.bin"), GENERATE),
    Case("an index of other files", both(lambda folder: (folder / "model/model.safetensors").unlink(),
         written("model/model.safetensors.index.json", '{"weight_map": {"a": "../../../etc/passwd"}}')), GENERATE),
    Case("an index without a map", both(lambda folder: (folder / "model/model.safetensors").unlink(),
         written("model/model.safetensors.index.json", "[]")), GENERATE),
    Case("a device for a configuration", lambda folder: [(folder / "model/config.json").unlink(),
         (folder / "model/config.json").symlink_to("/dev/zero")], GENERATE),
]  # fmt: skip

TOKENIZERS = [
    Case("a backtracking split", tokenizer(pre_tokenizer=split("(a+)+$")), GENERATE),
    Case("a backtracking split, shown", tokenizer(pre_tokenizer=split("([ -~]+)+\\n\\n\\n")), SHOW),
    Case("a backtracking normalizer", tokenizer(normalizer=replaced("([ -~][ -~]+)+\\n\\n\\n", "z")), GENERATE),
    Case("text that doubles in the normalizer", tokenizer(normalizer={"type": "Sequence", "normalizers":
         [{"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}] * 40}), GENERATE),
    Case("a pattern that is none", tokenizer(pre_tokenizer=split("(((")), GENERATE),
    Case("many added tokens", many_tokens, GENERATE),
    Case("an empty added token", tokenizer(added_tokens=[{"id": 0, "content": "", "special": True, "single_word": False,
         "lstrip": False, "rstrip": False, "normalized": False}]), GENERATE),
    Case("an id beyond all", tokenizer(added_tokens=[{"id": 2**31, "content": "<eos>", "special": True,
         "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}]), GENERATE),
    Case("merges of nothing", lambda folder: tokenizer(model={"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]})(folder), GENERATE),
    Case("an unknown tokenizer", tokenizer(model={"type": "Evil"}), GENERATE),
    Case("deep JSON for a tokenizer", written("model/tokenizer.json", DEEP), GENERATE),
    Case("a cut tokenizer", written("model/tokenizer.json", '{"version": "1.0", "model": {'), GENERATE),
    Case("a deep tokenizer configuration", written("model/tokenizer_config.json", '{"a":' + DEEP), GENERATE),
    Case("a list for a tokenizer configuration", written("model/tokenizer_config.json", "[]"), GENERATE),
    Case("an unknown tokenizer class", changed("model/tokenizer_config.json", tokenizer_class="os.system"), GENERATE),
    Case("an end token of another kind", changed("model/tokenizer_config.json", eos_token=5), GENERATE),
    Case("a length without end", changed("model/tokenizer_config.json", model_max_length="x"), GENERATE),
    Case("a lock of a stranger", written("model/template.lock.json", DEEP), GENERATE),
    Case("a lock without parts", written("model/template.lock.json", '{"version": 1}'), GENERATE),
]  # fmt: skip

ADAPTERS = [
    Case("a backtracking target", adapter(target_modules="(([a-z0-9_.]+)+)+!"), ADAPTED),
    Case("a backtracking target, merged", adapter(target_modules="(([a-z0-9_.]+)+)+!"), MERGE),
    Case("a backtracking target, inspected", adapter(target_modules="(([a-z0-9_.]+)+)+!"), INFO),
    Case("a backtracking target, trained on", adapter(target_modules="(([a-z0-9_.]+)+)+!"), GO_ON),
    Case("a backtracking rank", adapter(rank_pattern={"(([a-z0-9_.]+)+)+!": 4}), ADAPTED),
    Case("a backtracking alpha", adapter(alpha_pattern={"(([a-z0-9_.]+)+)+!": 4}), INFO),
    Case("a backtracking alpha without a base", adapter(alpha_pattern={"(([a-z0-9_.]+)+)+!": 4}, base_model_name_or_path="/gone"), INFO),
    Case("a backtracking exclusion", adapter(exclude_modules="(([a-z0-9_.]+)+)+!"), ADAPTED),
    Case("a backtracking layer", adapter(layers_to_transform=[0], layers_pattern="(([a-z0-9_.]+)+)+!"), ADAPTED),
    Case("a target that is no pattern", adapter(target_modules="((("), ADAPTED),
    Case("a hundred thousand layers", adapter(layer_replication=[[0, 100_000]]), ADAPTED),
    Case("a layer a hundred thousand times", adapter(layer_replication=[[0, 1]] * 100_000), INFO),
    Case("a replication of text", adapter(layer_replication="evil"), ADAPTED),
    Case("a rank of a billion", adapter(r=10**9), ADAPTED),
    Case("a rank of zero", adapter(r=0), INFO),
    Case("a rank of text", adapter(r="eight"), INFO),
    Case("an alpha of text", adapter(lora_alpha="x"), INFO),
    Case("no rank at all", written("adapter/adapter_config.json", '{"peft_type": "LORA", "base_model_name_or_path": "model"}'), INFO),
    Case("an unknown method", adapter(peft_type="EVIL"), ADAPTED),
    Case("a method that is a list", adapter(peft_type=["LORA"]), ADAPTED),
    Case("a method of other adapters", adapter(peft_type="XLORA", adapters={"0": "/nowhere"}), ADAPTED),
    Case("a module to import", adapter(megatron_config={"a": 1}, megatron_core="own"), ADAPTED),
    Case("a soft prompt whose text needs code", both(code("adapter/tokenizer_config.json", **OWN_TOKENIZER), adapter(
         peft_type="PROMPT_TUNING", task_type="CAUSAL_LM", num_virtual_tokens=4, prompt_tuning_init="TEXT",
         prompt_tuning_init_text="a", tokenizer_name_or_path="adapter", tokenizer_kwargs={"trust_remote_code": True})), GO_ON),
    Case("a soft prompt of a trillion", adapter(peft_type="PROMPT_TUNING", task_type="CAUSAL_LM", num_virtual_tokens=10**12), ADAPTED),
    Case("a token of a trillion", adapter(trainable_token_indices=[10**12]), ADAPTED),
    Case("a base that is a number", adapter(base_model_name_or_path=5), ADAPTED),
    Case("a base that is itself", adapter(base_model_name_or_path="adapter"), ADAPTED),
    Case("a base that is a device", adapter(base_model_name_or_path="/dev/zero"), ADAPTED),
    Case("deep JSON for an adapter", written("adapter/adapter_config.json", '{"peft_type":' + DEEP), ADAPTED),
    Case("deep JSON for an adapter, listed", written("adapter/adapter_config.json", '{"peft_type":' + DEEP), "adapters list ."),
    Case("a huge adapter configuration", written("adapter/adapter_config.json", '{"peft_type": "LORA"' + " " * 10**8 + "}"), INFO),
    Case("a record of a stranger", written("adapter/base.json", DEEP), INFO),
    Case("settings of a stranger", written("adapter/run.yaml", "a: " + DEEP), INFO),
    Case("settings that run code", written("adapter/run.yaml", "!!python/object/apply:os.system ['touch canary']"), INFO),
    Case("code beside an adapter", code("adapter/adapter_config.json", AutoModel="own.Own"), ADAPTED),
]  # fmt: skip

TASKS = [
    Case("a backtracking task", task(prompt="{{ ('a' * 64 ~ '!') | regex_replace('(a+)+$', '') }}"), BENCH),
    Case("nested loops in a task", task(prompt=LOOPS), BENCH),
    Case("a power in a task", task(prompt="{{ 10 ** 999999999 }}"), BENCH),
    Case("a repeated letter in a task", task(prompt="{{ 'a' * 10000000000 }}"), BENCH),
    Case("text that doubles in a task", task(prompt=GROWS), BENCH),
    Case("the shell, by a task", task(prompt=GETS_OS), BENCH),
    Case("a task that is code", written("task.yaml", "!!python/object/apply:os.system ['touch canary']"), BENCH),
    Case("a deep task", written("task.yaml", "name: " + DEEP), BENCH),
    Case("a task of laughs", written("task.yaml", "name: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
        f"k{n}: &b{n} [{', '.join(['*a' if not n else f'*b{n - 1}'] * 9)}]" for n in range(12))), BENCH),
    Case("settings of laughs", written("task.yaml", "seed: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
        f"{name}: &b{n} [{', '.join(['*a' if not n else f'*b{n - 1}'] * 9)}]" for n, name in enumerate(
        ["learning_rate", "max_length", "optim", "run_name", "dtype", "template", "max_steps", "output_dir"]))), "sft --config TASK --plan"),
    Case("deep settings", written("task.yaml", "seed: " + DEEP), "sft --config TASK --plan"),
    Case("deep rows", written("rows.jsonl", '{"text": ' + DEEP + "\n"), "data check ROWS"),
]  # fmt: skip


def tensors(change) -> Callable[[Path], None]:
    """Other tensors in the adapter's file."""

    def spoil(folder: Path) -> None:
        path = folder / "adapter/adapter_model.safetensors"
        found = load_file(path)
        change(found)
        save_file(found, path)

    return spoil


def first(value: float):
    """A change of one value of one tensor."""
    return lambda found: next(iter(found.values())).view(-1)[:1].fill_(value)


def pickled(folder: Path) -> None:
    weights = folder / "adapter/adapter_model.safetensors"
    weights.rename(weights.with_name("adapter_model.bin"))


def archived(folder: Path) -> None:
    shutil.make_archive(str(folder / "packed"), "zip", folder / "adapter")
    shutil.rmtree(folder / "adapter")
    (folder / "packed.zip").rename(folder / "adapter")


def linked(target: str, name: str) -> Callable[[Path], None]:
    """A link in place of a file of the adapter."""

    def spoil(folder: Path) -> None:
        (folder / "adapter" / name).unlink()
        (folder / "adapter" / name).symlink_to(target)

    return spoil


def piped(folder: Path) -> None:
    path = folder / "adapter/adapter_model.safetensors"
    path.unlink()
    os.mkfifo(path)


WEIGHTS = "adapter_model.safetensors"
SERVED = [  # beside those of ADAPTERS
    Case("NaN", tensors(first(float("nan"))), "holds NaN or infinity"),
    Case("infinity", tensors(first(float("inf"))), "holds NaN or infinity"),
    Case("a zero update", tensors(lambda found: [value.zero_() for value in found.values()]), "changes nothing"),
    Case("no tensors", tensors(dict.clear), "is empty"),
    Case("a tensor more", tensors(lambda found: found.update(more=torch.ones(2))), "has no place in this model"),
    Case("a tensor less", tensors(dict.popitem), "is missing"),
    Case("renamed tensors", tensors(lambda found: found.update({f"inner.{name}": found.pop(name) for name in list(found)})),
         "was renamed or trained on another model"),
    Case("ranks that differ from the configuration's", adapter(r=8), "has shape"),
    Case("a rank of 60,000", adapter(r=60_000), "has shape"),
    Case("a cut file", lambda folder: os.truncate(folder / "adapter" / WEIGHTS, 1000), "not a readable safetensors file"),
    Case("an empty file", written(f"adapter/{WEIGHTS}", b""), "not a readable safetensors file"),
    Case("a header of an exabyte", written(f"adapter/{WEIGHTS}", b"\xff" * 7 + b"\x0f{}"), "not a readable safetensors file"),
    Case("a pickle alone", pickled, "a pickle, which can run code when loaded"),
    Case("an archive", archived, "no such folder; an adapter is the output folder of a run"),
    Case("an archive as weights", written(f"adapter/{WEIGHTS}", b"PK\x03\x04" + bytes(100)), "not a readable safetensors file"),
    Case("a link to a device", linked("/dev/zero", WEIGHTS), "missing"),
    Case("a link to nothing", linked("/nowhere", WEIGHTS), "missing"),
    Case("a link to passwords", linked("/etc/passwd", "adapter_config.json"), "not valid JSON"),
    Case("a pipe", piped, "missing"),
    Case("another base", changed("adapter/base.json", name="x", sha256="0" * 64), "was trained on other weights"),
    Case("targets of a number", adapter(target_modules=5), ""),
    Case("a target of numbers", adapter(target_modules=[5]), ""),
    Case("tokens of text", adapter(trainable_token_indices=["a"]), "trainable_token_indices are not token ids"),
    Case("tokens of text, by module", adapter(trainable_token_indices={"embed_tokens": "a"}), "trainable_token_indices are not token ids"),
    Case("a negative token", adapter(trainable_token_indices=[-1]), "trainable_token_indices are not token ids"),
    Case("tokens of a module that is not there", adapter(trainable_token_indices={"nowhere": [1]}), ""),
    Case("a pattern of a number", adapter(rank_pattern={"q_proj": "x"}), ""),
    Case("a scaling of text by module", adapter(alpha_pattern={"q_proj": "x"}), ""),
    Case("modules to save of a number", adapter(modules_to_save=5), ""),
]  # fmt: skip
TAKEN = {  # nothing of it is read by a server, which knows its base
    "a base that is itself", "a base that is a device", "settings of a stranger", "settings that run code",
    "code beside an adapter",
}  # fmt: skip
SLOW_PATTERNS = ("a backtracking target", "a backtracking rank", "a backtracking alpha", "a backtracking exclusion")
REFUSED_BY_SERVER = [
    case for case in (*ADAPTERS, *SERVED) if not case.name.startswith(SLOW_PATTERNS) and case.name not in TAKEN
]

CASES = [*TEMPLATES, *MODELS, *TOKENIZERS, *ADAPTERS, *TASKS]
QUICK = [case for case in CASES if case.command.split()[0] in ("generate", "data", "adapters")]  # no training imported
HARMLESS = {  # what ends well: nothing of it is read, or it says so in its place
    "deep JSON for an adapter, listed",
    "an empty added token",
    "an id beyond all",
    "an unknown tokenizer class",
    "nested loops, pushed",
    "many control tokens",
    "an unknown quantisation",
    "code beside an adapter",
    "code for generation",
    "code for the configuration",
    "code for the tokenizer",
}


@pytest.fixture(scope="session")
def warm() -> None:
    """What commands import that ask a model, so that the forked processes do not."""
    import trl.chat_template_utils  # noqa: F401

    import ftkit.inference.engine  # noqa: F401
    from ftkit.config.hardware import probe

    probe()


@pytest.fixture(scope="session")
def warm_training(warm) -> None:
    """What all others import."""
    import ftkit.commands.adapters.merge  # noqa: F401
    import ftkit.commands.export  # noqa: F401
    import ftkit.evaluation.bench.bench  # noqa: F401
    import ftkit.training.methods.sft  # noqa: F401


@pytest.fixture(scope="session")
def good(tiny_folder, word_rows, tmp_path_factory) -> Path:
    """model/ with a template, adapter/ of it, and rows.jsonl."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("good")
    shutil.copytree(tiny_folder, folder / "model")
    (folder / "model" / "chat_template.jinja").write_text(PLAIN_TURN)
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(folder / "adapter")
    changed("adapter/adapter_config.json", base_model_name_or_path="model")(folder)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in word_rows))
    return folder


def hold(case: Case, good: Path, folder: Path) -> None:
    """Run the case, and hold how it ended against what is promised."""
    shutil.copytree(good, folder, dirs_exist_ok=True)
    ended = run_hostile(case, folder)
    said = f"{case.name}: exit {ended.code} after {ended.cpu_seconds:.1f} s of CPU: {ended.output[-3000:]}"
    assert not ended.ran_code, said
    assert ended.code is not None and ended.cpu_seconds <= CPU_SECONDS, said
    assert "Traceback" not in ended.output and "backtrace" not in ended.output, said
    assert ended.code == (0 if case.name in HARMLESS else 2), said


@pytest.mark.slow
def test_the_good_folders_pass(warm_training, good, tmp_path):
    for number, command in enumerate((GENERATE, SHOW, CHECK, PLAN, EXPORT, ADAPTED, INFO, MERGE, GO_ON, BENCH)):
        spoil = task() if command == BENCH else lambda folder: None
        folder = tmp_path / str(number)
        shutil.copytree(good, folder)
        ended = run_hostile(Case("good", spoil, command), folder)
        assert ended.code == 0, ended.output


def test_the_names_are_different_and_as_many_as_promised():
    assert len({case.name for case in CASES}) == len(CASES) >= 70


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_hostile_files_end_in_one_line(case, warm_training, good, tmp_path):
    hold(case, good, tmp_path / "case")


@pytest.mark.parametrize("case", random.Random(0).sample(QUICK, 8), ids=lambda case: case.name.replace(" ", "-"))
def test_a_sample_of_them_does(case, warm, good, tmp_path):
    hold(case, good, tmp_path / "case")


@pytest.fixture(scope="module")
def registry(warm, good):
    from ftkit.inference.asking import ModelSettings
    from ftkit.inference.batching.registry import Registry
    from ftkit.inference.batching.request import Limits

    return Registry.load_base(ModelSettings(str(good / "model"), dtype="float32"), Limits())


@pytest.mark.parametrize("case", REFUSED_BY_SERVER, ids=lambda case: case.name.replace(" ", "-"))
def test_a_server_refuses_them_in_one_line(case, registry, good, tmp_path, monkeypatch):
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    case.spoil(tmp_path)
    with ThreadPoolExecutor(1) as thread:  # as a server does, where no timer can stop it
        error = thread.submit(registry.load, "evil", str(tmp_path / "adapter")).exception(60)
        assert isinstance(error, UserError | LimitError), repr(error)
        assert "\n" not in str(error) and len(str(error)) < 1000 and registry.names() == ["base"]
        assert case not in SERVED or case.command in str(error)
    assert not (tmp_path / "canary").exists()


def test_a_server_that_refused_some_takes_a_good_one(registry, good):
    assert registry.load("good", str(good / "adapter")).num_bytes
    registry.unload("good")
