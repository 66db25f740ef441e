"""Pushes go to a stand-in of the Hub through the real client: what arrives, what is refused, what a failure leaves."""

import contextlib
import json
import tempfile
import threading

import hub_stand_in
import huggingface_hub
import pytest
import torch
from hub_stand_in import READ_TOKEN, WRITE_TOKEN
from huggingface_hub.utils import _http

from ftkit.config.errors import UserError
from ftkit.publish.hub import hub as hub_module
from ftkit.publish.hub.hub import check_push, push_folder

REPO = "owner/name"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
PUSHED = {
    "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
}  # fmt: skip


def commits(server, repo_id=REPO) -> int:
    """Commits of a repository beside the one it is made with."""
    repository = server.repositories.get(repo_id)
    return len(repository.commits) - 1 if repository else 0


def one_line(error) -> str:
    """The message, which is one line and holds no token."""
    text = str(error.value)
    assert "\n" not in text and WRITE_TOKEN not in text and READ_TOKEN not in text
    return text


def test_a_push_is_one_commit_of_the_folders_bytes(hub, pushed_folder):
    result = push_folder(pushed_folder, REPO, private=True, check=False)
    files = hub.files(REPO)
    assert set(files) == PUSHED == set(result.files)
    assert all(files[name] == (pushed_folder / name).read_bytes() for name in PUSHED - {"README.md"})
    assert b'model_id = "owner/name"' in files["README.md"] and not (pushed_folder / "README.md").exists()
    assert commits(hub) == 1 and result.commit == hub.repositories[REPO].branches["main"]
    assert result.url == f"{hub.endpoint}/{REPO}"
    assert hub.repositories[REPO].private
    assert WRITE_TOKEN not in result.report()


def test_pickles_links_and_all_else_stay_here(hub, pushed_folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (pushed_folder / "added_tokens.json").symlink_to(tmp_path / "secret.json")
    for name in ("training_args.bin", "pytorch_model.bin", "optimizer.pt", "state.pkl", ".netrc", "notes.txt", "run.yaml",
                 "samples.jsonl", "report.html", "extra.py", "model-00001-of-00002.safetensors"):  # fmt: skip
        (pushed_folder / name).write_bytes(b"x: 1")
    (pushed_folder / "checkpoint-3").mkdir()
    (pushed_folder / "checkpoint-3" / "model.safetensors").write_bytes(b"x")
    result = push_folder(pushed_folder, REPO, check=False)
    assert set(hub.files(REPO)) == PUSHED
    assert not any(b"training_args" in body or b"netrc" in body for body in hub.bodies)
    reasons = dict(result.skipped)
    assert reasons["training_args.bin"] == "a pickle or array file, which can run code when loaded"
    assert reasons["checkpoint-3/"] == "a checkpoint" and reasons[".netrc"] == "hidden"
    assert reasons["added_tokens.json"].startswith("a symbolic link")
    assert reasons["samples.jsonl"] == "holds rows of the data"
    assert reasons["model-00001-of-00002.safetensors"] == "weights that nothing loads, left by an earlier save"
    assert len(reasons) == 13 and all(name in result.report() for name in reasons)


def test_what_an_earlier_push_left_is_deleted_in_the_same_commit_and_the_rest_stays(hub, pushed_folder):
    old = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "adapter_config.json", "pytorch_model.bin",
           "added_tokens.json", "base.json")  # fmt: skip
    kept = {"model.gguf": b"g", "LICENSE": b"l", "notes/thoughts.md": b"n"}
    hub.create(REPO, files={**dict.fromkeys(old, b"old"), "config.json": b"old", **kept})
    result = push_folder(pushed_folder, REPO, check=False)
    assert result.deleted == sorted(old) and commits(hub) == 1
    assert set(hub.files(REPO)) == PUSHED | set(kept)
    assert "deleted there, where an earlier push left them: adapter_config.json" in result.report()


def test_the_same_push_again_makes_no_second_commit(hub, pushed_folder):
    first = push_folder(pushed_folder, REPO, check=False)
    assert push_folder(pushed_folder, REPO, check=False).commit == first.commit
    assert commits(hub) == 1


def test_a_branch_is_made_and_main_is_left_alone(hub, pushed_folder):
    result = push_folder(pushed_folder, REPO, revision="v2", commit_message="second try", check=False)
    assert set(hub.files(REPO, "v2")) == PUSHED and not hub.files(REPO)
    assert result.url.endswith("/owner/name/tree/v2")
    assert any(b'"summary": "second try"' in body or b'"summary":"second try"' in body for body in hub.bodies)


def test_a_name_without_an_owner_is_put_under_the_tokens_account(hub, pushed_folder):
    assert push_folder(pushed_folder, "solo", check=False).repo_id == "owner/solo"
    assert b'model_id = "owner/solo"' in hub.files("owner/solo")["README.md"]


def test_a_public_repository_is_not_taken_for_a_private_one(hub, pushed_folder):
    hub.create(REPO)
    with pytest.raises(UserError, match="exists and is public, but private was asked for"):
        push_folder(pushed_folder, REPO, private=True, check=False)
    assert commits(hub) == 0 and not hub.lfs


@pytest.mark.parametrize(
    ("path", "failure", "message"),
    [
        ("/api/repos/create", 401, "does not accept the token"),
        ("/api/repos/create", 403, r"may not write there \(403: .*said so"),
        ("/api/repos/create", 503, "the Hub answered 503; nothing was committed"),
        ("/api/models/owner/name/preupload/main", 403, "may not write there"),
        ("/api/models/owner/name/preupload/main", 429, "the Hub answered 429; nothing was committed"),
        ("/owner/name.git/info/lfs/objects/batch", 413, r"the Hub refuses it \(413: .*\); nothing was committed"),
        ("/lfs/", 500, "the Hub answered 500; nothing was committed"),
        ("/lfs/", "drop", "could not be reached .*; nothing was committed: run the same command again"),
        ("/api/models/owner/name/commit/main", 500, "the Hub answered 500; nothing was committed"),
        ("/api/models/owner/name/commit/main", "drop", "could not be reached .*nothing was committed"),
        ("/api/repos/create", "hang", "did not answer in time; nothing was committed"),
    ],
)
def test_a_failure_is_one_line_and_no_commit_and_the_push_can_be_repeated(
    hub, pushed_folder, path, failure, message, monkeypatch
):
    monkeypatch.setattr(hub_module, "REQUEST_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(hub_stand_in, "HANG_SECONDS", 2)
    hub.fail = lambda method, asked: failure if asked.startswith(path) else None
    with pytest.raises(UserError, match=message) as error:
        push_folder(pushed_folder, REPO, check=False)
    assert one_line(error).startswith("owner/name: ")
    assert commits(hub) == 0
    hub.fail = lambda method, asked: None
    push_folder(pushed_folder, REPO, check=False)
    assert set(hub.files(REPO)) == PUSHED and commits(hub) == 1


COMMIT = "/api/models/owner/name/commit/main"


@pytest.mark.parametrize("lost", ["lose", "lose 504"])
@pytest.mark.parametrize("times", [1, 99], ids=["once", "always"])
def test_a_commit_whose_answer_is_lost_is_found_again(hub, pushed_folder, lost, times):
    asked = []

    def fail(method, path):
        asked.extend([path] * (path == COMMIT))
        return lost if path == COMMIT and len(asked) <= times else None

    hub.fail = fail
    result = push_folder(pushed_folder, REPO, check=False)
    assert set(hub.files(REPO)) == PUSHED and commits(hub) == 1
    assert result.commit == hub.repositories[REPO].branches["main"]


def test_a_commit_of_somebody_else_is_not_taken_for_the_lost_one(hub, pushed_folder):
    def fail(method, path):
        if path == COMMIT:
            hub.repositories[REPO].commit("main", {name: b"theirs" for name in PUSHED})
            return "drop"

    hub.fail = fail
    with pytest.raises(UserError, match="could not be reached .*nothing was committed"):
        push_folder(pushed_folder, REPO, check=False)


def test_nothing_is_claimed_of_a_commit_that_the_hub_cannot_be_asked_about(hub, pushed_folder):
    gone = []

    def fail(method, path):
        gone.extend([path] * (path == COMMIT))
        return ("lose" if path == COMMIT else 503) if gone else None

    hub.fail = fail
    with pytest.raises(
        UserError, match="can't be asked whether it was taken; run the same command again, which"
    ) as error:
        push_folder(pushed_folder, REPO, check=False)
    one_line(error)
    hub.fail = lambda method, path: None
    push_folder(pushed_folder, REPO, check=False)
    assert set(hub.files(REPO)) == PUSHED and commits(hub) == 1


def test_a_hub_that_is_not_there_is_one_line(hub, pushed_folder, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="owner/name: the Hub could not be reached .*refused") as error:
        push_folder(pushed_folder, REPO)
    one_line(error)


def test_the_clients_own_settings_are_back_afterwards(hub, pushed_folder):
    factory, verbosity = _http._GLOBAL_CLIENT_FACTORY, huggingface_hub.logging.get_verbosity()
    hub.fail = lambda method, path: 401
    with pytest.raises(UserError):
        push_folder(pushed_folder, REPO)
    assert (_http._GLOBAL_CLIENT_FACTORY, huggingface_hub.logging.get_verbosity()) == (factory, verbosity)


def test_a_commit_by_somebody_else_meanwhile_is_not_overwritten(hub, pushed_folder):
    hub.create(REPO)

    def meddle(method, path):
        if "preupload" in path and commits(hub) == 0:
            hub.repositories[REPO].commit("main", {"theirs.txt": b"t"})

    hub.after_request = meddle
    with pytest.raises(UserError, match="somebody else has committed meanwhile"):
        push_folder(pushed_folder, REPO, check=False)
    assert hub.files(REPO) == {"theirs.txt": b"t"}


def test_without_a_token_or_online_nothing_is_asked(hub, pushed_folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="no token for the Hub; run `hf auth login`, or set HF_TOKEN"):
        push_folder(pushed_folder, REPO)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set, so nothing can be pushed; unset it"):
        push_folder(pushed_folder, REPO, token=WRITE_TOKEN)
    assert not hub.requests


def test_a_dry_run_makes_no_request_and_lists_every_file_with_its_size(hub, pushed_folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    (pushed_folder / "training_args.bin").write_bytes(b"x")
    result = push_folder(pushed_folder, REPO, dry_run=True)
    assert not hub.requests and not result.commit
    listed = [line.split()[0] for line in result.report().splitlines() if line.startswith("  ")]
    assert listed == [*sorted(PUSHED), "training_args.bin"]
    size = (pushed_folder / "config.json").stat().st_size
    assert f"{size} B" in result.report() and result.report().endswith("nothing was sent (--dry_run)")


@pytest.mark.parametrize("repo_id", ["a/b/c", "owner/na me", "-owner/x", "owner/x.git", ""])
def test_what_is_no_repository_is_refused_before_anything(hub, pushed_folder, repo_id):
    for ask in (lambda: push_folder(pushed_folder, repo_id), lambda: check_push(repo_id)):
        with pytest.raises(UserError, match="is not a repository on the Hub .*; write OWNER/NAME") as error:
            ask()
        one_line(error)
    assert not hub.requests


def test_a_run_finds_out_at_its_start_whether_it_can_push(hub, monkeypatch):
    assert check_push("mine", private=True) == "owner/mine"
    assert hub.repositories["owner/mine"].private and not hub.files("owner/mine")
    with pytest.raises(UserError, match="may not write there"):
        check_push("owner/mine", READ_TOKEN)  # the repository is there, so only asking for an upload tells
    with pytest.raises(UserError, match="may not write there"):
        check_push("stranger/name")
    with pytest.raises(UserError, match="does not accept the token"):
        check_push("owner/mine", "hf_" + "x" * 34)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="no token for the Hub"):
        check_push("owner/mine")


def test_a_pushed_model_is_loaded_by_its_name(hub, pushed_folder):
    from ftkit.model.loading import load_model, load_tokenizer, local_model_folder

    push_folder(pushed_folder, REPO, private=True, check=False)
    local = local_model_folder(REPO)
    assert local != str(pushed_folder)
    ids = torch.tensor([load_tokenizer(local)("balm")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(load_model(local)(ids).logits, load_model(pushed_folder)(ids).logits)


def test_a_pushed_adapter_is_found_by_its_name_and_knows_its_base(hub, adapter_folder, chat_folder):
    from ftkit.model.adapters.files import recorded_base
    from ftkit.model.adapters.loading import check_adapter_folder
    from ftkit.model.loading import local_adapter_folder

    result = push_folder(adapter_folder, REPO, check=False)
    local = local_adapter_folder(REPO)
    check_adapter_folder(local, chat_folder)
    assert recorded_base(local)["name"] == "my-model"
    config = json.loads(hub.files(REPO)["adapter_config.json"])
    assert config["base_model_name_or_path"] == "my-model"  # the folder's path is nobody else's business
    assert str(chat_folder.parent) not in b"".join(hub.files(REPO).values()).decode(errors="ignore")
    assert 'note: the base "my-model" is not a model on the Hub' in result.report()


def files_with(secret: str, folder) -> set:
    """Files below a folder that hold a text, as they are at this moment."""
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone since
            if path.is_file() and secret.encode() in path.read_bytes():
                found.add(path)
    return found


@pytest.mark.parametrize("check", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["pushed", "loaded back"])
def test_the_token_is_in_no_file_at_any_moment(hub, pushed_folder, tmp_path, monkeypatch, check):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen, over = set(), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.update(files_with(WRITE_TOKEN, tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        push_folder(pushed_folder, REPO, check=check)
        push_folder(pushed_folder, REPO, token=WRITE_TOKEN, check=False)
        (tmp_path / "planted").write_text(WRITE_TOKEN)
        over.wait(0.5)
    finally:
        over.set()
        watcher.join()
    assert seen | files_with(WRITE_TOKEN, tmp_path) == {tmp_path / "planted"}
