"""Every block of the guides runs, in order, in one folder a guide, offline; what a guide shows is what is printed."""

import re
from pathlib import Path

import pytest
from guide_blocks import Block, blocks_of, commands_of, missing_line, run_block

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted((ROOT / "examples/guides").glob("*.md"))


@pytest.mark.processes
@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_every_block_of_a_guide_runs_and_prints_what_is_shown(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    for block in blocks_of(path.read_text(encoding="utf-8")):
        if block.mark == "parse":
            continue
        printed = run_block(block)
        if block.shown is not None:
            missing = missing_line(block.shown, printed)
            assert missing is None, f"{path.name}:{block.line}: not printed: {missing}\n{printed}"


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_every_file_that_a_guide_links_to_exists(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_blocks_are_read_with_what_is_shown_after_them():
    page = "a\n\n```bash\necho 1\n```\n\n```text\n1\n```\n\n```bash parse\nftkit push\n```\nwords\n\n```text\nb\n```\n"
    assert blocks_of(page) == [Block("bash", "", "echo 1\n", 3, ("1",)), Block("bash", "parse", "ftkit push\n", 11)]


def test_commands_keep_here_documents_and_join_continued_lines():
    assert commands_of("cat > a <<'EOF'\nx\ny\nEOF\n# a comment\nftkit sft \\\n  --lora_r 8\n") == [
        "cat > a <<'EOF'\nx\ny\nEOF",
        "ftkit sft --lora_r 8",
    ]


@pytest.mark.parametrize(
    ("shown", "is_missing"),
    [
        (["loss 1.25", "done in 4.0 s"], False),
        (["loss 1.99", "done in 7 s"], False),
        (["loss 1.25"], True),  # a line was left out unsaid
        (["loss 1.25", "..."], False),
        (["...", "done in 3 s"], False),
        (["loss 1.25", "3 rows"], True),
        (["done in 3 s", "loss 1.25"], True),
    ],
)
def test_what_is_shown_must_be_printed_in_order(shown, is_missing):
    assert (missing_line(tuple(shown), "loss 1.31\ndone in 5.1 s\n") is not None) == is_missing


def test_a_command_that_fails_fails_its_block(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="ended with exit code 2"):
        run_block(Block("bash", "", "ftkit data check missing.jsonl\n", 1))
    assert "missing.jsonl" in run_block(Block("bash", "refused", "ftkit data check missing.jsonl\n", 1))
