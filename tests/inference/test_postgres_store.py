"""The store on a real PostgreSQL with pgvector, started for the test; skipped where the packages are missing."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from ftkit.config.errors import UserError
from ftkit.inference.retrieval import postgres_store
from ftkit.inference.retrieval.building import index_documents
from ftkit.inference.retrieval.index import Index
from ftkit.inference.retrieval.postgres_store import new_table, without_password

USER = "postgres"  # the server refuses to run as root


def installations() -> dict[str, Path]:
    """Folders of PostgreSQL's programs: Debian's, and one with pgvector, Debian's too or that of the package pgserver."""
    debian = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    share = "/usr/share/postgresql/{}/extension/vector.control"
    found = {"words": debian[-1]} if debian else {}
    with_vectors = [path for path in debian if Path(share.format(path.parts[3])).exists()]
    found |= {"vectors": with_vectors[-1]} if with_vectors else {}
    spec = importlib.util.find_spec("pgserver")
    if spec and not with_vectors:
        found["vectors"] = Path(spec.submodule_search_locations[0]) / "pginstall/bin"
    return found


@contextlib.contextmanager
def server(folder: Path, binary: Path):
    """The address of a server of its own, on a free port."""
    as_user = []
    if os.getuid() == 0:
        shutil.chown(folder, USER)
        as_user = ["runuser", "-u", USER, "--"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": folder}
    initial = ["-D", folder / "data", "-A", "trust", "-U", "me", "-N", "-E", "UTF8", "--locale=C"]
    subprocess.run([*as_user, binary / "initdb", *initial], **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*as_user, binary / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"]
    subprocess.run([*control, "-o", options, "start"], **run)
    try:
        yield f"postgresql://me:secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **run)


def address_of(kind: str):
    pytest.importorskip("psycopg", reason="needs: pip install 'ftkit[rag]'")
    if kind not in installations():
        pytest.skip("needs: apt-get install postgresql (with pgvector; or pip install --no-deps pgserver)")
    with tempfile.TemporaryDirectory(prefix="ftkit-pg-") as folder:  # pytest's own are closed to other users
        with server(Path(folder), installations()[kind]) as found:
            yield found


@pytest.fixture(scope="module")
def address():
    """Of a server with pgvector."""
    yield from address_of("vectors")


@pytest.fixture(scope="module")
def debian_address():
    """Of Debian's server."""
    yield from address_of("words")


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Plans\n\nPlan A has mail.\n\n# More\n\nPlan B has daily backups.\n")
    (folder / "b.txt").write_text("A crow is a bird. \u53e5")
    return folder


@pytest.mark.processes
def test_a_server_holds_the_same_passages_as_a_file(address, tmp_path, docs, letter_encoder):
    for out, store in (("file", ""), ("server", address)):
        outcome = index_documents(tmp_path / out, [docs], embedder="letters", store=store)
        assert (outcome.num_added, outcome.num_passages) == (2, 3)
    assert (
        "secret" not in (tmp_path / "server/index.json").read_text() and not (tmp_path / "server/index.sqlite").exists()
    )
    file, server = Index.open(tmp_path / "file"), Index.open(tmp_path / "server")
    assert list(server.passages()) == list(file.passages()) and len(server) == 3
    ours, theirs = (index.search("daily backups", method="dense") for index in (file, server))
    assert [one.passage for one in theirs] == [one.passage for one in ours]
    assert [one.score for one in theirs] == pytest.approx([one.score for one in ours], abs=1e-5)
    assert [one.passage.id for one in server.search("Who has 'backups' OR & | !", method="bm25")] == [f"{docs}/a.md#2"]
    assert server.search("daily backups", 1)[0].passage.id == f"{docs}/a.md#2"
    assert server.search("?!", method="bm25") == [] == server.search("the of and", method="bm25")


@pytest.mark.processes
def test_a_server_follows_the_documents(address, tmp_path, docs, letter_encoder):
    out = tmp_path / "x"
    index_documents(out, [docs], embedder="letters", store=address)
    (docs / "b.txt").unlink()
    (docs / "c.txt").write_text("New.")
    outcome = index_documents(out, [docs], embedder="letters", store=address)
    assert (outcome.num_added, outcome.num_kept, outcome.num_removed, outcome.num_passages) == (1, 1, 1, 3)
    letter_encoder.fingerprint = "others"
    assert index_documents(out, [docs], embedder="letters", store=address).num_added == 2


@pytest.mark.processes
def test_words_alone_need_no_pgvector(debian_address, tmp_path, docs):
    index_documents(tmp_path / "x", [docs], store=debian_address)
    index = Index.open(tmp_path / "x")
    assert len(index) == 3 and index.search("Who backs up daily?", 1)[0].passage.id == f"{docs}/a.md#2"


@pytest.mark.processes
def test_a_server_without_pgvector_is_named(debian_address, tmp_path, docs, letter_encoder):
    if "vectors" in installations() and installations()["vectors"] == installations()["words"]:
        pytest.skip("this server has pgvector")
    with pytest.raises(UserError, match="vector.*; install pgvector there"):
        index_documents(tmp_path / "x", [docs], embedder="letters", store=debian_address)


@pytest.mark.processes
def test_what_a_server_refuses_is_one_line_without_the_password(debian_address, tmp_path, docs):
    address = debian_address
    wrong = address.replace("/postgres", "/nowhere")
    with pytest.raises(UserError, match='database "nowhere" does not exist') as caught:
        index_documents(tmp_path / "x", [docs], store=wrong)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    index_documents(tmp_path / "y", [docs], store=address)
    settings = (tmp_path / "y/index.json").read_text()
    table = settings.partition('"table": "')[2].partition('"')[0]
    (tmp_path / "y/index.json").write_text(settings.replace(table, "ftkit_gone_00000000"))
    with pytest.raises(UserError, match="holds no table ftkit_gone_00000000; run ftkit index again"):
        Index.open(tmp_path / "y")
    (tmp_path / "y/index.json").write_text(settings.replace(table, "x; DROP TABLE y"))
    with pytest.raises(UserError, match="is no table of an index"):
        Index.open(tmp_path / "y")


ADDRESSES = [
    ("postgresql://me:se:cr@et@host:5432/db?sslmode=require", "postgresql://me@host:5432/db?sslmode=require"),
    ("postgres://host/db?password=x&user=me", "postgres://host/db?user=me"),
    ("postgresql:///db", "postgresql:///db"),
]


@pytest.mark.parametrize(("address", "shown"), ADDRESSES)
def test_no_password_is_kept(address, shown):
    assert without_password(address) == shown


def test_a_table_has_a_name_of_its_own(tmp_path):
    names = {new_table(tmp_path / "My Docs; DROP"), new_table(tmp_path / "My Docs; DROP")}
    assert len(names) == 2 and all(postgres_store.TABLE.fullmatch(name) for name in names)


def test_without_psycopg_the_extra_is_named(tmp_path, docs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(UserError, match=r"needs psycopg; pip install 'ftkit\[rag\]'"):
        index_documents(tmp_path / "x", [docs], store="postgresql://host/db")
