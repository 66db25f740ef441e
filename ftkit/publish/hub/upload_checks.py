"""What is checked of every file before it is published: no secret in text, whole and finite weights, fitting tokens."""

import json
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.model.finite import is_finite

# Forms that the issuers document for secret scanners; a secret itself is never printed.
SECRETS = {
    "a Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}",
    "an API key": r"(?<![\w-])sk-(?=[\w-]*\d)[A-Za-z0-9_-]{20,}",
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,})",
    "a Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"\b[a-z][a-z+]+://[^\s/:@\"'<>]+:[^\s/:@\"'<>]+@[\w.-]+",
}
ANY_SECRET = re.compile("|".join(f"({pattern})" for pattern in SECRETS.values()))
EMBEDDING_NAMES = ("embed_tokens.weight", "wte.weight", "embed_in.weight")


def check_secrets(path: Path, content: bytes | None, token: str | None) -> None:
    """Raise UserError with file and line for text that looks like a secret, or contains `token`.

    content: what is published in place of the file, or None.
    """
    text = (path.read_bytes() if content is None else content).decode("utf-8", errors="replace")
    match = ANY_SECRET.search(text)
    start = match.start() if match else text.find(token) if token else -1
    if start < 0:
        return
    what = list(SECRETS)[match.lastindex - 1] if match else "the token of this push"
    line = text.count("\n", 0, start) + 1
    raise UserError(
        f"{path}:{line}: looks like {what}; remove it from the file (and revoke it, if it was shown to others)"
    )


def check_weights(paths: list[Path]) -> None:
    """Raise UserError for a damaged safetensors file, for NaN or infinite values, for a secret in its header."""
    for path in paths:
        if not path.is_file() or path.is_symlink():
            raise UserError(f"{path}: missing (or a link), though the weights' index names it; save the model again")
        try:
            with safe_open(path, framework="pt") as file:
                check_secrets(path, json.dumps(file.metadata() or {}).encode(), None)
                for name in file.keys():
                    tensor = file.get_tensor(name)
                    if tensor.is_floating_point() and not is_finite(tensor):
                        raise UserError(f"{path}: tensor {name} holds NaN or infinity; the run went wrong")
        except SafetensorError as error:
            raise UserError(f"{path}: not a whole safetensors file ({error}); save the model again") from error


def check_vocabulary_of(folder: Path, weights: list[Path]):
    """Return the folder's tokenizer; raise UserError if it has ids that the model has no embedding for.

    weights: the files that are loaded of a model; none for an adapter, whose base has the embedding.
    """
    from ftkit.model.loading import load_tokenizer

    tokenizer = load_tokenizer(folder)
    rows = embedding_rows(folder, weights) if weights else None
    if rows is not None and len(tokenizer) > rows:
        raise UserError(
            f"{folder}: its tokenizer has {len(tokenizer)} tokens and the model embeds {rows}; "
            "put the tokenizer there that the model was trained with"
        )
    return tokenizer


def embedding_rows(folder: Path, weights: list[Path]) -> int | None:
    """Rows of a model's token embedding as saved; raises UserError where config.json says another number."""
    config = read_object(folder / "config.json")
    said = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    for path in weights:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                if name.endswith(EMBEDDING_NAMES):
                    rows = file.get_slice(name).get_shape()[0]
                    if said is not None and rows != said:
                        raise UserError(f"{path}: {name} has {rows} rows, config.json says vocab_size {said}")
                    return rows
    return said
