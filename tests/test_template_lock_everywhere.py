"""A changed template, control token or tokenizer stops every command, before weights are read, and is named."""

import json
import shutil

import pytest

from ftkit.cli import dispatch
from ftkit.config.errors import UserError
from ftkit.data.templates.lock import LOCK_FILE, read_lock
from ftkit.model import loading

FLAGS = ["--max_steps", "1", "--logging_steps", "1", "--disable_tqdm", "--bf16", "false", "--dtype", "float32"]


def ftkit(*arguments):
    """Run a command as `ftkit ARGUMENTS` does; its UserError comes through."""
    dispatch(list(map(str, arguments)))


@pytest.fixture(scope="module")
def files(tmp_path_factory, word_rows):
    folder = tmp_path_factory.mktemp("rows")
    pairs = [{**row, "chosen": row["output"], "rejected": row["input"]} for row in word_rows]
    for name, rows in (
        ("rows", word_rows),
        ("pairs", [{k: v for k, v in row.items() if k != "output"} for row in pairs]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def trained(tiny_folder, files, tmp_path_factory):
    """{"adapter": a LoRA run with a checkpoint, "model": what it merges into}."""
    out = tmp_path_factory.mktemp("trained")
    ftkit(
        "sft", "--model_name_or_path", tiny_folder, "--dataset_name", files / "rows.jsonl", "--output_dir", out / "run",
        "--template", "alpaca", "--use_peft", "--learning_rate", "1e-2", "--save_steps", "1", "--save_strategy", "steps", *FLAGS,
    )  # fmt: skip
    ftkit(
        "adapters",
        "merge",
        out / "run",
        "--output_dir",
        out / "merged",
        "--num_rows",
        "2",
        "--file",
        files / "rows.jsonl",
    )
    return {"adapter": out / "run", "model": out / "merged"}


def space_in_the_template(folder):
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("### Response:\\n'", "### Response:\\n '"))
    return r"token \d+ of the golden conversation \(user\) was none and is 'Ġ'"


def other_control_token(folder):
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    for token, content in zip(state["added_tokens"], ("<pad>", "<eos>"), strict=True):
        token["content"] = content
        state["model"]["vocab"][content] = token["id"]
    path.write_text(json.dumps(state))
    return r"token \d+ of the golden conversation \(user assistant\) was '<eos>' \(id 0\) and is '<eos>' \(id 1\)"


def lost_merge(folder):
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    token = "".join(state["model"]["merges"].pop())
    path.write_text(json.dumps(state))
    return f"token .*{token}"


MUTATIONS = [space_in_the_template, other_control_token, lost_merge]


def commands(kind, folder, files, out):
    """Every command that uses the folder, as command lines."""
    named = ["--adapter", folder] if kind == "adapter" else ["--model_name_or_path", folder]
    yield "sft", *named, "--dataset_name", files / "rows.jsonl", "--output_dir", out, *FLAGS
    yield "dpo", *named, "--dataset_name", files / "pairs.jsonl", "--output_dir", out, *FLAGS
    yield "kto", *named, "--dataset_name", files / "pairs.jsonl", "--output_dir", out, *FLAGS
    for command in ("grpo", "ppo"):
        yield command, *named, "--dataset_name", files / "rows.jsonl", "--rewards", "json", "--output_dir", out, *FLAGS
    yield "distill", *named, "--teacher", "base", "--dataset_name", files / "rows.jsonl", "--output_dir", out, *FLAGS
    if kind == "model":
        yield "reward", *named, "--dataset_name", files / "pairs.jsonl", "--output_dir", out, *FLAGS
    yield "generate", *named, "--prompt", "x"
    yield "chat", *named
    yield (
        "export",
        *(["--adapter", folder] if kind == "adapter" else [folder]),
        "--format",
        "llama",
        "--output_dir",
        out,
    )
    yield "push", folder, "someone/name", "--dry_run"
    if kind == "adapter":
        yield "adapters", "merge", folder, "--output_dir", out, "--file", files / "rows.jsonl"


def test_every_folder_that_training_and_merging_write_has_the_lock(trained):
    (checkpoint,) = trained["adapter"].glob("checkpoint-*")
    assert read_lock(trained["adapter"]) == read_lock(checkpoint) == read_lock(trained["model"])
    assert read_lock(checkpoint)["template"]["name"] == "alpaca"
    assert LOCK_FILE in json.loads((checkpoint / "manifest.json").read_text())["files"]


@pytest.mark.parametrize("mutate", MUTATIONS)
@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_every_command_refuses_what_was_trained_with_other_tokens(trained, files, tmp_path, monkeypatch, kind, mutate):
    folder = tmp_path / "folder"
    shutil.copytree(trained[kind], folder)
    message = mutate(folder)
    for arguments in commands(kind, folder, files, tmp_path / "out"):
        if arguments[0] not in ("push",):  # which looks at the weights first
            monkeypatch.setattr(
                loading.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("weights were read")
            )
        with pytest.raises(UserError, match=f"it was trained with different tokens.*{message}"):
            ftkit(*arguments)
        monkeypatch.undo()


@pytest.fixture(scope="module")
def classifiers(tiny_folder, files, word_rows, tmp_path_factory):
    """{"adapter", "model"}: classifiers trained with LoRA and in full."""
    out = tmp_path_factory.mktemp("classifiers")
    rows = [
        {"text": row["input" if number % 2 else "output"], "label": number % 2} for number, row in enumerate(word_rows)
    ]
    (files / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for kind, method in (("adapter", ["--use_peft"]), ("model", [])):
        ftkit(
            "classify", "--model_name_or_path", tiny_folder, "--dataset_name", files / "labels.jsonl",
            "--output_dir", out / kind, *method, *FLAGS,
        )  # fmt: skip
    return {kind: out / kind for kind in ("adapter", "model")}


@pytest.mark.parametrize("mutate", [other_control_token, lost_merge])
@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_classifier_refuses_another_tokenizer(classifiers, files, tmp_path, monkeypatch, kind, mutate):
    folder = tmp_path / "folder"
    shutil.copytree(classifiers[kind], folder)
    found = mutate(folder)  # in the golden conversation, which a lock without a template has not
    message = "control token '<eos>' was id 0 and is id 1" if mutate is other_control_token else found
    for loader in ("load_classifier", "load_base"):
        monkeypatch.setattr(
            f"ftkit.model.trained_classifier.{loader}", lambda *_, **__: pytest.fail("weights were read")
        )
    with pytest.raises(UserError, match=f"it was trained with different tokens.*{message}"):
        ftkit("classify", "--predict", files / "labels.jsonl", "--model_name_or_path", folder)


@pytest.mark.parametrize("mutate", [other_control_token, lost_merge])
@pytest.mark.parametrize("command", ["classify", "pretrain"])
def test_training_without_a_template_refuses_another_tokenizer(trained, classifiers, files, tmp_path, command, mutate):
    folder = tmp_path / "folder"
    shutil.copytree(trained["model"], folder)
    mutate(folder)
    flags = [*FLAGS, "--block_size", "16"] if command == "pretrain" else FLAGS
    rows = files / "labels.jsonl"
    with pytest.raises(UserError, match="it was trained with different tokens"):
        ftkit(command, "--model_name_or_path", folder, "--dataset_name", rows, "--output_dir", tmp_path / "out", *flags)


def test_an_explicit_template_trains_under_a_new_lock(trained, files, tmp_path):
    ftkit(
        "sft", "--adapter", trained["adapter"], "--dataset_name", files / "rows.jsonl", "--output_dir", tmp_path / "out",
        "--template", "chatml", *FLAGS,
    )  # fmt: skip
    assert read_lock(tmp_path / "out")["template"]["name"] == "chatml"


def test_going_on_keeps_the_name_of_the_template(trained, files, tmp_path):
    ftkit(
        "sft",
        "--adapter",
        trained["adapter"],
        "--dataset_name",
        files / "rows.jsonl",
        "--output_dir",
        tmp_path / "out",
        *FLAGS,
    )
    assert read_lock(tmp_path / "out") == read_lock(trained["adapter"])


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_another_template_is_refused_where_nothing_is_trained(trained, command):
    flags = ["--prompt", "x"] if command == "generate" else []
    with pytest.raises(
        UserError, match="trained with different tokens .template alpaca.: token 0 of .*drop --template"
    ):
        ftkit(command, "--adapter", trained["adapter"], "--template", "chatml", *flags)


def test_exports_are_locked_and_a_gguf_file_is_verified(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    ftkit("export", trained["model"], "--format", "llama", "--output_dir", tmp_path / "plain")
    assert read_lock(tmp_path / "plain") == read_lock(trained["model"])
    ftkit("export", trained["model"], "--format", "gguf", "--output_dir", tmp_path / "gguf")
    lock = read_lock(tmp_path / "gguf")
    assert "{%- generation -%}" not in lock["template"]["source"]
    assert [case["ids"] for case in lock["golden"][:-1]] == [
        case["ids"] for case in read_lock(trained["model"])["golden"][:-1]
    ]
    file = tmp_path / "gguf" / "model.gguf"
    ftkit("generate", "--model_name_or_path", file, "--prompt", "x", "--max_new_tokens", "2")
    ftkit("push", tmp_path / "gguf", "someone/name", "--dry_run")
    assert "template.lock.json" in capsys.readouterr().out
    lock["golden"][0]["tokens"][0] = "changed"
    (tmp_path / "gguf" / LOCK_FILE).write_text(json.dumps(lock))
    for arguments in (
        ["generate", "--model_name_or_path", file, "--prompt", "x"],
        ["push", tmp_path / "gguf", "someone/name", "--dry_run"],
    ):
        with pytest.raises(UserError, match="token 0 of the golden conversation .user. was 'changed'"):
            ftkit(*arguments)
