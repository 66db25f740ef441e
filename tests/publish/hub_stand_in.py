"""A stand-in for the Hugging Face Hub over real HTTP, for the real huggingface_hub client.

with HubStandIn() as hub:  # then HF_ENDPOINT=hub.endpoint, HF_TOKEN=WRITE_TOKEN, HF_HUB_DISABLE_XET=1
    ...
    hub.files("owner/name")  # {path: bytes} on main
"""

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

WRITE_TOKEN = "hf_" + "w" * 34
READ_TOKEN = "hf_" + "r" * 34
ROLES = {WRITE_TOKEN: "write", READ_TOKEN: "read"}
OWNERS = ("owner", "team")  # whom both tokens belong to
LFS_SUFFIXES = (".safetensors", ".gguf", ".png", ".bin")
REPO = r"(?P<repo>[^/]+/[^/]+)"
HANG_SECONDS = 30


@dataclass
class Repository:
    """Branches name commits; a commit is {path: content}."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Add a commit with a new hash to a branch; return the hash."""
        oid = hashlib.sha1(f"{branch} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid


class HubStandIn:
    """The server. `requests` lists (method, path) in order; `fail(method, path)` may answer instead.

    What `fail` returns: None (serve it), an HTTP status, "hang" (answer far too late), "drop" (close the connection),
    "lose" (serve it, and close the connection without the answer) or "lose 504" (serve it, and answer 504).
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.fail = lambda method, path: None
        self.after_request = lambda method, path: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.hub = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def create(self, repo_id: str, *, private: bool = False, files: dict[str, bytes] | None = None) -> Repository:
        """A repository as the Hub makes it: with one commit that holds .gitattributes."""
        repository = self.repositories[repo_id] = Repository(private)
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})})
        return repository

    def files(self, repo_id: str, branch: str = "main") -> dict[str, bytes]:
        """What a branch holds, without the Hub's own .gitattributes."""
        repository = self.repositories[repo_id]
        files = repository.commits[repository.branches[branch]]
        return {path: content for path, content in files.items() if path != ".gitattributes"}


class Answer(Exception):
    """Ends a request with a status and a JSON body."""

    def __init__(self, status: int, body=None, error_code: str = ""):
        self.status, self.body, self.error_code = status, body, error_code


class Handler(BaseHTTPRequestHandler):
    """One request; the routes are methods named in ROUTES."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    @property
    def hub(self) -> HubStandIn:
        return self.server.hub

    def _serve(self):
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = parse_qs(url.query)
        self.body = self._read_body()
        self.hub.requests.append((self.command, path))
        self.hub.bodies.append(self.body)
        failure = self.hub.fail(self.command, path)
        if failure in ("hang", "drop"):
            time.sleep(HANG_SECONDS if failure == "hang" else 0)
            self.close_connection = True
            self.connection.close()
            return
        try:
            if isinstance(failure, int):
                raise Answer(failure, {"error": "said so"})
            self._route(path)
        except Answer as served:
            if failure == "lose":
                self.close_connection = True
                self.connection.close()
                return
            answer = Answer(504, {"error": "said so"}) if failure == "lose 504" else served
            headers = {"X-Error-Code": answer.error_code} if answer.error_code else {}
            self._send(answer.status, json.dumps(answer.body).encode(), headers)
        self.hub.after_request(self.command, path)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, body: bytes, headers: dict[str, str]):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _route(self, path: str):
        for methods, pattern, name in ROUTES:
            if self.command in methods and (match := re.fullmatch(pattern, path)):
                return getattr(self, name)(**{name: part for name, part in match.groupdict().items() if part})
        raise Answer(404, {"error": f"no route {self.command} {path}"})

    def _role(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in ROLES:
            raise Answer(401, {"error": "Invalid credentials in Authorization header"})
        return ROLES.get(token)

    def _may_write(self, owner: str):
        if self._role() is None:
            raise Answer(401, {"error": "Invalid username or password."})
        if self._role() != "write" or owner not in OWNERS:
            raise Answer(403, {"error": f"You don't have the rights to write under the namespace {owner}"})

    def _repository(self, repo: str) -> Repository:
        repository = self.hub.repositories.get(repo)
        if repository is None or (repository.private and self._role() is None):
            raise Answer(404, {"error": "Repository not found"}, "RepoNotFound")
        return repository

    def _commit(self, repo: str, rev: str) -> tuple[str, dict[str, bytes]]:
        repository = self._repository(repo)
        oid = repository.branches.get(rev, rev)
        if oid not in repository.commits:
            raise Answer(404, {"error": f"Invalid rev id: {rev}"}, "RevisionNotFound")
        return oid, repository.commits[oid]

    def whoami(self):
        if self._role() is None:
            raise Answer(401, {"error": "Invalid username or password."})
        raise Answer(200, {"type": "user", "name": OWNERS[0], "orgs": [{"name": OWNERS[1]}]})

    def create(self):
        asked = json.loads(self.body)
        owner = asked.get("organization") or OWNERS[0]
        self._may_write(owner)
        repo = f"{owner}/{asked['name']}"
        url = f"{self.hub.endpoint}/{repo}"
        if repo in self.hub.repositories:
            raise Answer(409, {"error": "You already created this model repo", "url": url})
        self.hub.create(repo, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        raise Answer(200, {"url": url, "name": repo})

    def validate_yaml(self):
        raise Answer(200, {"errors": [], "warnings": []})

    def branch(self, repo: str, rev: str):
        self._may_write(repo.split("/")[0])
        repository = self._repository(repo)
        if rev in repository.branches:
            raise Answer(409, {"error": "Reference already exists"})
        repository.branches[rev] = repository.branches["main"]
        raise Answer(200, {})

    def preupload(self, repo: str, rev: str):
        self._may_write(repo.split("/")[0])
        _, files = self._commit(repo, rev)
        answers = []
        for file in json.loads(self.body)["files"]:
            large = file["path"].endswith(LFS_SUFFIXES)
            oid = oid_of(files[file["path"]], large) if file["path"] in files else None
            mode = "lfs" if large else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise Answer(200, {"files": answers})

    def lfs_batch(self, repo: str):
        self._may_write(repo.split("/")[0])
        self._repository(repo)
        answers = []
        for asked in json.loads(self.body)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.lfs:
                answer["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{asked['oid']}"}}
            answers.append(answer)
        raise Answer(200, {"transfer": "basic", "objects": answers})

    def lfs_put(self, oid: str):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Answer(400, {"error": "the content is not that of the hash"})
        self.hub.lfs[oid] = self.body
        raise Answer(200, {})

    def commit(self, repo: str, rev: str):
        self._may_write(repo.split("/")[0])
        head, files = self._commit(repo, rev)
        files = dict(files)
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header" and value.get("parentCommit", head) != head:
                raise Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            if operation["key"] == "deletedFile":
                del files[value["path"]]
        oid = self._repository(repo).commit(rev, files)
        raise Answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{oid}"})

    def info(self, repo: str, rev: str = "main"):
        oid, files = self._commit(repo, rev)
        siblings = [{"rfilename": path, "size": len(content)} for path, content in sorted(files.items())]
        private = self._repository(repo).private
        raise Answer(
            200, {"id": repo, "modelId": repo, "sha": oid, "private": private, "tags": [], "siblings": siblings}
        )

    def tree(self, repo: str, rev: str, under: str = ""):
        _, files = self._commit(repo, rev)
        prefix = under.removeprefix("/") + "/" if under else ""
        entries = [tree_entry(path, content) for path, content in sorted(files.items()) if path.startswith(prefix)]
        if prefix and not entries:
            raise Answer(404, {"error": "not found"}, "EntryNotFound")
        raise Answer(200, entries)

    def resolve(self, repo: str, rev: str, file: str):
        oid, files = self._commit(repo, rev)
        if file not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
            return
        headers = {"ETag": f'"{oid_of(files[file], file.endswith(LFS_SUFFIXES))}"', "X-Repo-Commit": oid}
        self._send(200, files[file], headers)


def oid_of(content: bytes, large: bool) -> str:
    """The hash by which the Hub knows a file: SHA-256 of a large one, git's SHA-1 of a small one."""
    if large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def tree_entry(path: str, content: bytes) -> dict:
    """One file as the tree listing shows it."""
    entry = {"type": "file", "path": path, "size": len(content), "oid": oid_of(content, False)}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": oid_of(content, True), "size": len(content), "pointerSize": 130}
    return entry


ROUTES = (
    (("GET",), "/api/whoami-v2", "whoami"),
    (("POST",), "/api/repos/create", "create"),
    (("POST",), "/api/validate-yaml", "validate_yaml"),
    (("POST",), f"/api/models/{REPO}/branch/(?P<rev>.+)", "branch"),
    (("POST",), f"/api/models/{REPO}/preupload/(?P<rev>.+)", "preupload"),
    (("POST",), f"/{REPO}.git/info/lfs/objects/batch", "lfs_batch"),
    (("PUT",), "/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    (("POST",), f"/api/models/{REPO}/commit/(?P<rev>.+)", "commit"),
    (("GET",), f"/api/models/{REPO}", "info"),
    (("GET",), f"/api/models/{REPO}/revision/(?P<rev>.+)", "info"),
    (("GET",), f"/api/models/{REPO}/tree/(?P<rev>[^/]+)(?P<under>/.*)?", "tree"),
    (("GET", "HEAD"), f"/{REPO}/resolve/(?P<rev>[^/]+)/(?P<file>.+)", "resolve"),
)
