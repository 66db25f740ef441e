"""Pushes a model or adapter folder to the Hugging Face Hub: an allow-list of files, one commit, loaded back afterwards.

    result = push_folder("runs/mine", "owner/name", private=True)
    repo_id = check_push("owner/name")  # before hours of training: token, name and right to write

The token is that of HF_TOKEN or `hf auth login`, or passed in; it is never printed. Nothing is half done: files become
visible by one commit at the end, and a push that was cut off is repeated by the same command.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub.errors import HTTPError

from ftkit.config.errors import UserError, first_line
from ftkit.model.configuration_ftgpt import CODE_FILES
from ftkit.publish.hub.load_back import load_back
from ftkit.publish.hub.upload_plan import (
    CONFIG_FILES,
    LICENSE_FILES,
    RESULT_FILES,
    TOKENIZER_FILES,
    UploadFile,
    UploadPlan,
    format_plan,
    plan_upload,
)

MAIN = "main"
REFUSALS = (400, 401, 403, 404, 413, 422)  # statuses by which the Hub says that it has taken nothing
HUB_ERRORS = (HTTPError, OSError, RuntimeError, ValueError)  # of the upload threads, of an odd answer
REQUEST_TIMEOUT_SECONDS = 60  # of silence; huggingface_hub's own client waits for ever
# Loaded in place of, or together with, what is pushed now, if they stayed from an earlier push.
STALE = re.compile(r"(pytorch_|adapter_)?model(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")


@dataclass(frozen=True)
class PushResult:
    """What was pushed. commit: its hash, "" for a dry run; check: the load-back check's line, "" if not asked for."""

    repo_id: str
    url: str
    commit: str
    plan: UploadPlan
    deleted: list[str] = field(default_factory=list)
    check: str = ""

    @property
    def files(self) -> list[str]:
        """Names of the files pushed."""
        return [file.name for file in self.plan.files]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(name, reason) of the others."""
        return self.plan.skipped

    def report(self) -> str:
        """What happened, for a person."""
        if not self.commit:
            return f"{format_plan(self.plan, self.repo_id)}\nnothing was sent (--dry_run)"
        lines = [format_plan(self.plan, self.repo_id)]
        if self.deleted:
            lines.append(f"deleted there, where an earlier push left them: {', '.join(self.deleted)}")
        lines += [self.check] if self.check else []
        return "\n".join([*lines, f"pushed: {self.url}"])


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    dry_run: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    check: bool = True,
) -> PushResult:
    """Push the files of `plan_upload` in one commit, then load that commit back in a fresh process.

    repo_id: owner/name, or a name under the token's own account. The repository is made where there is none. What an
    earlier push left of weights, configuration, tokenizer and results, and this one does not replace, is deleted in the
    same commit, as it would be loaded or read as part of it; .gguf files, licences and all else stay.
    revision: a branch, made where there is none. dry_run: no request at all.
    Raises UserError as `plan_upload` does; for a token, name or right that is missing; if `private` is asked for and
    the repository is public; if the Hub does not answer as it should (nothing is committed then); if the load-back
    fails (the commit is there then).
    """
    check_repo_id(repo_id)
    if dry_run:
        return PushResult(repo_id, "", "", plan_upload(folder, repo_id))
    token = token_or_refuse(token)
    plan = plan_upload(folder, repo_id, token=token)
    branch = revision or MAIN
    with hub_errors(repo_id, token), patient_client():
        api = hub_api(token)
        full_id = make_repository(api, repo_id, private=private)
        if full_id != repo_id:
            plan = plan_upload(folder, full_id, token=token)
        if branch != MAIN:
            api.create_branch(full_id, branch=branch, exist_ok=True)
        commit, url, deleted = commit_plan(api, plan, full_id, branch, commit_message)
    line = load_back(plan, full_id, commit, token) if check else ""
    return PushResult(full_id, url, commit, plan, deleted, line)


def check_push(repo_id: str, token: str | None = None, *, private: bool = False) -> str:
    """Make sure, before a run, that its result can be pushed; return the repository's full name.

    The repository is made, empty, where there is none, and the Hub is asked whether a file could be added.
    Raises UserError where it could not.
    """
    from huggingface_hub import CommitOperationAdd

    check_repo_id(repo_id)
    token = token_or_refuse(token)
    with hub_errors(repo_id, token), patient_client():
        api = hub_api(token)
        full_id = make_repository(api, repo_id, private=private)
        # Asks how a small file would be uploaded, which needs the right to write; sends none.
        api.preupload_lfs_files(full_id, [CommitOperationAdd("README.md", b"# " + full_id.encode())])
    return full_id


def check_repo_id(repo_id: str) -> None:
    """Raise UserError for what is no repository's name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = first_line(error).split(". Use")[0].split(":")[0]
        raise UserError(f'"{repo_id}" is not a repository on the Hub ({reason}); write OWNER/NAME') from error


def token_or_refuse(token: str | None) -> str:
    """The token given, or that of HF_TOKEN or of the stored login."""
    from huggingface_hub import get_token

    token = token or get_token()
    if not token:
        raise UserError("no token for the Hub; run `hf auth login`, or set HF_TOKEN to one that may write")
    return token


def hub_api(token: str):
    """The client, which asks the endpoint of HF_ENDPOINT."""
    from huggingface_hub import HfApi

    return HfApi(token=token, library_name="ftkit")


def make_repository(api, repo_id: str, *, private: bool) -> str:
    """Make the repository if it is not there; return its full name. Raises UserError if it is public against a wish."""
    full_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
    if private and not api.repo_info(full_id).private:
        raise UserError(
            f"{full_id}: exists and is public, but private was asked for; make it private in its settings on the Hub, "
            "or choose another name"
        )
    return full_id


def commit_plan(api, plan: UploadPlan, repo_id: str, branch: str, message: str | None) -> tuple[str, str, list[str]]:
    """Upload and commit; return the commit's hash, the repository's address and the names that were deleted."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head = api.repo_info(repo_id, revision=branch).sha
    there = api.list_repo_files(repo_id, revision=head)
    names = {file.name for file in plan.files}
    deleted = sorted(name for name in there if name not in names and is_stale(name, plan.kind))
    added = [
        CommitOperationAdd(file.name, str(file.path) if file.content is None else file.content) for file in plan.files
    ]
    api.preupload_lfs_files(repo_id, added, revision=branch)
    operations = [*added, *(CommitOperationDelete(name, is_folder=False) for name in deleted)]
    message = message or f"Push {plan.folder.resolve().name} with ftkit"
    try:
        oid = api.create_commit(repo_id, operations, commit_message=message, revision=branch, parent_commit=head).oid
    except HUB_ERRORS as error:
        if not (oid := taken_commit(api, plan, repo_id, branch, head, deleted, error)):
            raise
    return oid, f"{api.endpoint}/{repo_id}" + (f"/tree/{branch}" if branch != MAIN else ""), deleted


def taken_commit(
    api, plan: UploadPlan, repo_id: str, branch: str, head: str, deleted: list[str], error: Exception
) -> str | None:
    """The commit that the branch has now, if it holds what was sent although the Hub's answer was `error` or got lost.

    head: what the branch had before. None where nothing was committed, or something else. Raises UserError where the
    Hub can't be asked.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    if isinstance(error, HfHubHTTPError) and error.response.status_code in REFUSALS:
        return None
    try:
        oid = api.repo_info(repo_id, revision=branch).sha
        entries = api.list_repo_tree(repo_id, revision=oid, recursive=True) if oid != head else ()
        there = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    except HUB_ERRORS as second:
        raise UserError(
            f"{repo_id}: no answer to the commit came, and the Hub can't be asked whether it was taken; run the same "
            "command again, which commits only what is missing there"
        ) from second
    is_ours = all(file.name in there and is_content(there[file.name], file) for file in plan.files)
    return oid if there and is_ours and not there.keys() & set(deleted) else None


def is_content(entry, file: UploadFile) -> bool:
    """Whether a file of a repository has the content that is pushed: by its SHA-256, or git's SHA-1 of a small one."""
    if entry.lfs:
        return entry.lfs.sha256 == file.sha256()
    content = file.path.read_bytes() if file.content is None else file.content
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_stale(name: str, kind: str) -> bool:
    """Whether a file of the repository that this push does not replace would be loaded, or read, as part of it."""
    if kind == "gguf":
        return False
    told = RESULT_FILES - LICENSE_FILES
    return bool(STALE.fullmatch(name)) or name in {*TOKENIZER_FILES, *CONFIG_FILES, *CODE_FILES, *told}


@contextlib.contextmanager
def patient_client() -> Iterator[None]:
    """Let huggingface_hub give up on a Hub that is silent, keep its retries to itself, and only then."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http, logging

    factory, verbosity = _http._GLOBAL_CLIENT_FACTORY, logging.get_verbosity()

    def client():
        made = factory()
        made.timeout = REQUEST_TIMEOUT_SECONDS
        return made

    set_client_factory(client)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        set_client_factory(factory)


@contextlib.contextmanager
def hub_errors(repo_id: str, token: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line without the token."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except UserError:
        raise
    except HUB_ERRORS as error:
        cause = error
        while not isinstance(cause, HfHubHTTPError) and cause.__cause__ is not None:
            cause = cause.__cause__
        raise UserError(f"{repo_id}: {explain(cause)}".replace(token, "TOKEN")) from None


def explain(error: Exception) -> str:
    """What the Hub or the network said, and what to do. Nothing was committed where an error came."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return explain_status(error.response.status_code, error.server_message or first_line(error))
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; nothing was committed: run the same command again"
    if isinstance(error, ValueError):
        return f"the Hub's answer is not understood ({first_line(error)}); nothing was committed: see HF_ENDPOINT"
    name = type(error).__name__
    what = "did not answer in time" if "Timeout" in name else f"could not be reached ({first_line(error) or name})"
    return f"the Hub {what}; nothing was committed: run the same command again"


def explain_status(status: int, said: str) -> str:
    """What an HTTP status of the Hub means here, and what to do. said: by the Hub."""
    said = " ".join(said.split())
    if status == 401:
        return "the Hub does not accept the token (401); run `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 403:
        return f"the token may not write there (403: {said}); use one with write access, or another owner"
    if status in (409, 412):
        return f"somebody else has committed meanwhile ({status}: {said}); run the same command again"
    if status >= 500 or status in (408, 429):
        return f"the Hub answered {status}; nothing was committed: run the same command again later"
    return f"the Hub refuses it ({status}: {said}); nothing was committed"
