"""The template lock: proves that a folder still renders and tokenizes a conversation as it did when it was trained.

    write_lock(output_dir, make_lock(tokenizer, "alpaca"))     # training, once the template is on the tokenizer
    verify_lock(folder, tokenizer)                             # whoever uses the folder later, before weights are read

`template.lock.json` holds golden conversations with their token ids (rendered with a fixed clock: some templates print
today's date), the template, the control tokens with their ids, and a checksum of every entry of the vocabulary.
"""

import base64
import gc
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from itertools import zip_longest
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.config.files import write_text
from ftkit.config.foreign import foreign
from ftkit.config.json_object import read_object
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.rows.thoughts import THOUGHT
from ftkit.data.rows.tools import with_tools
from ftkit.data.templates.rendering import has_place_for_thoughts, own_template, render
from ftkit.data.templates.tools import tool_place

logger = logging.getLogger(__name__)

LOCK_FILE = "template.lock.json"
TRAINED = ("run.yaml", "receipt.json", "adapter_config.json")  # files that a folder has after fine-tuning
LOCK_VERSION = 1
RESTORE = "restore it, or train again"
FIXED_CLOCK = "{%- macro strftime_now(format) -%}1 January 2026{%- endmacro -%}"  # stands in for transformers' own
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token")
CHECKSUM_BYTES = 2  # of each entry of the vocabulary
NUL = "\0"  # between the parts of an entry of the vocabulary
SHOWN_CHARACTERS = 30  # of a template, on either side of a difference
TRICKY_TEXT = (
    "Don't SHOUT:  2 spaces,\ta tab, 12345.67 €; naïve e\u0301 Ünïcode 鳥 🙂 привет\n\n\n- [x] if(a<=b) {\n    c\n}"
)
# Fixed for ever: verifying renders the conversations that a lock holds, these are for new ones.
QUESTION = {"role": "user", "content": TRICKY_TEXT}
ANSWER = {"role": "assistant", "content": '"Crow," it said.\n1. Eel'}
SYSTEM = {"role": "system", "content": "Be brief."}
WITH_INPUT = {"role": "user", "content": f"Add.{INPUT_MARKER}1 2"}
GOLDEN = (
    # messages, whether they end where the assistant's answer starts
    ([QUESTION], True),
    ([QUESTION, ANSWER], False),
    ([SYSTEM, QUESTION, ANSWER, WITH_INPUT], True),
    ([SYSTEM, QUESTION, ANSWER, WITH_INPUT, ANSWER], False),
    ([WITH_INPUT, ANSWER, QUESTION, ANSWER], False),
)
GOLDEN_THOUGHTS = (  # of templates with a place for them
    ([QUESTION, ANSWER | {THOUGHT: "Crow,\n\nor eel?"}, WITH_INPUT], True),
    ([WITH_INPUT, ANSWER | {THOUGHT: ""}, QUESTION, ANSWER | {THOUGHT: TRICKY_TEXT}], False),
)
CALL = {"id": "callgold1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": TRICKY_TEXT}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "callgold1", "name": "add", "content": '{"sum": "é\\n2"}'}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": TRICKY_TEXT,
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}
GOLDEN_CALLS = (  # of those with a place for calls and results
    ([QUESTION, CALLED, RESULT], True),
    ([QUESTION, CALLED, RESULT, ANSWER], False),
)


class LockState(Enum):
    """What is known of a folder: LOCKED renders as it was trained; UNLOCKED came without a lock, so nothing is known.

    The third state, a mismatch, is a UserError.
    """

    LOCKED = "locked"
    UNLOCKED = "unlocked"


def make_lock(tokenizer: PreTrainedTokenizerBase, name: str | None = None) -> dict:
    """Return the JSON-able lock of a tokenizer with the chat template that is on it, if there is one.

    name: of the template, for people.
    """
    source = own_template(tokenizer) if tokenizer.chat_template else None
    entries = vocabulary_entries(tokenizer)
    conversations = golden_conversations(tokenizer) if source else ()
    cases = [{"messages": messages, "add_generation_prompt": ends_open} for messages, ends_open in conversations]
    golden = [case | golden_tokens(case, tokenizer) for case in cases]
    golden.append({"text": TRICKY_TEXT} | golden_tokens({"text": TRICKY_TEXT}, tokenizer))
    return {
        "version": LOCK_VERSION,
        "template": {"name": name, "sha256": sha256(source) if source else None, "source": source},
        "tokenizer": {
            "sha256": sha256("\n".join(entries)),
            "num_tokens": len(entries),
            "entry_checksums": base64.b64encode(b"".join(map(checksum, entries))).decode(),
        },
        "control_tokens": control_tokens(tokenizer),
        "named_tokens": named_tokens(tokenizer),
        "golden": golden,
    }


def golden_conversations(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[list[dict], bool], ...]:
    """What a template is held to: with thoughts and tools where it has a place for them."""
    found, place = GOLDEN, tool_place(tokenizer)
    if has_place_for_thoughts(own_template(tokenizer)):
        found += GOLDEN_THOUGHTS
    for messages, ends_open in GOLDEN_CALLS if place and place.takes_turns else ():
        found += ((with_tools(messages, [ADD] if place.takes_tools else []), ends_open),)
    return found


def write_lock(folder: str | Path, lock: dict) -> Path:
    """Write FOLDER/template.lock.json, which appears whole or not at all, and return its path."""
    path = Path(folder) / LOCK_FILE
    write_text(path, json.dumps(lock, indent=1, ensure_ascii=False) + "\n")
    return path


def read_lock(folder: str | Path) -> dict | None:
    """The lock of a folder (for a .gguf file: of the folder it lies in), or None; raise UserError if it is broken."""
    folder = Path(folder)
    path = (folder.parent if folder.suffix == ".gguf" else folder) / LOCK_FILE
    if not path.is_file():
        return None
    lock = read_object(path, RESTORE)
    if "version" not in lock:
        raise UserError(f"{path}: not as training writes it (no version); {RESTORE}")
    if lock["version"] != LOCK_VERSION:
        raise UserError(f"{path}: has version {lock['version']}, this ftkit knows {LOCK_VERSION}; upgrade ftkit")
    return lock


def verify_lock(folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> LockState:
    """Hold a tokenizer, with the template that is on it now, against the lock of the folder it is used for.

    folder: of a model, an adapter or a checkpoint, or a .gguf file. A trained one without a lock is a warning; a model
    as it was published has none, and asks nothing of anyone.
    Raises UserError that names the first differing token on a mismatch, and for a broken lock.
    """
    lock = read_lock(folder)
    if lock is None:
        if any((Path(folder) / name).is_file() for name in TRAINED):
            logger.warning("%s has no %s: nothing proves that it is asked as it was trained", folder, LOCK_FILE)
        return LockState.UNLOCKED
    raise_on(folder, lock, first_difference, tokenizer)
    return LockState.LOCKED


def verify_tokenizer(folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> LockState:
    """As `verify_lock` for the tokenizer alone: what training needs that is about to put another template on it."""
    lock = read_lock(folder)
    if lock is None:
        return LockState.UNLOCKED
    raise_on(folder, lock, tokenizer_difference, tokenizer)
    return LockState.LOCKED


def copy_lock(source: str | Path, target: str | Path) -> None:
    """Give the folder `target`, which has the tokenizer and template of `source`, its lock, if it has one."""
    if lock := read_lock(source):
        write_lock(target, lock)


def raise_on(
    folder: str | Path, lock: dict, find: Callable[[dict, PreTrainedTokenizerBase], str | None],
    tokenizer: PreTrainedTokenizerBase,
) -> None:  # fmt: skip
    """Raise UserError for a difference that `find` finds, or where the lock lacks what it looks at."""
    with foreign(Path(folder) / LOCK_FILE, "not as training writes it", RESTORE):
        difference = find(lock, tokenizer)
    if difference:
        name = lock["template"]["name"] or ("its own" if lock["template"]["source"] else "none")
        raise UserError(
            f"{folder}: it was trained with different tokens (template {name}): {difference}; restore the files of the "
            "tokenizer and drop --template, or train with --template to write a new lock"
        )


def first_difference(lock: dict, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """In words, the first token of a golden conversation that is another one now, or else what differs unseen."""
    if lock["template"]["source"] is None:  # trained on plain text: no template can contradict it
        return tokenizer_difference(lock, tokenizer)
    return (
        rendering_difference(lock, tokenizer)
        or tokenizer_difference(lock, tokenizer)
        or template_difference(lock["template"]["source"], own_template(tokenizer))
    )


def rendering_difference(lock: dict, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """In words, the first token of a golden conversation that is another one now."""
    if lock["template"]["source"] and not tokenizer.chat_template:
        return "the tokenizer has no chat template now"
    conversations = (case for case in lock["golden"] if "messages" in case)
    differences = (golden_difference(case, golden_tokens(case, tokenizer)) for case in conversations)
    return next(filter(None, differences), None)


def tokenizer_difference(lock: dict, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """In words, the first control token, entry of the vocabulary, or token of a text that is another one now."""
    texts = [case for case in lock["golden"] if "text" in case]
    return (
        next(filter(None, (golden_difference(case, golden_tokens(case, tokenizer)) for case in texts)), None)
        or control_difference(lock["control_tokens"], tokenizer)
        or named_difference(lock["named_tokens"], tokenizer)
        or vocabulary_difference(lock["tokenizer"], tokenizer)
    )


def golden_tokens(case: dict, tokenizer: PreTrainedTokenizerBase) -> dict:
    """{"ids", "tokens"} of a golden text or conversation; {"refused": True} where the template takes no such one."""
    if "text" in case:
        ids = tokenizer(case["text"], verbose=False)["input_ids"]
    else:
        try:
            text = render_with_fixed_clock(case["messages"], tokenizer, case["add_generation_prompt"])
        except UserError:
            return {"refused": True}
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return {"ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)}


def render_with_fixed_clock(
    messages: list[dict], tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool = False
) -> str:
    """As `render`, on one day for ever."""
    template = own_template(tokenizer)
    clock = FIXED_CLOCK if "strftime_now" in template else ""
    return render(messages, tokenizer, add_generation_prompt, clock + template)


def golden_difference(case: dict, now: dict) -> str | None:
    """In words, the first token that differs from the recorded one."""
    turns = "a text" if "text" in case else " ".join(message["role"] for message in case["messages"])
    if case.get("refused") or now.get("refused"):
        if case.get("refused") == now.get("refused"):
            return None
        return f"the template {'refuses' if now.get('refused') else 'takes'} a conversation of {turns} now"
    recorded, found = zip(case["ids"], case["tokens"], strict=True), zip(now["ids"], now["tokens"], strict=True)
    for position, (old, new) in enumerate(zip_longest(recorded, found)):
        if old != new:
            return (
                f"token {position} of the golden conversation ({turns}) was {token_text(old)} and is {token_text(new)}"
            )
    return None


def token_text(token: tuple[int, str] | None) -> str:
    """A token as a person reads it, with its id."""
    return f"{token[1]!r} (id {token[0]})" if token else "none"


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The special tokens and their ids, by id."""
    return {token.content: id for id, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special}


def control_difference(recorded: dict[str, int], tokenizer: PreTrainedTokenizerBase) -> str | None:
    """In words, the first control token that is gone, moved or new."""
    found = control_tokens(tokenizer)
    for token in [*recorded, *found]:
        if recorded.get(token) != found.get(token):
            old, new = (f"id {ids[token]}" if token in ids else "none" for ids in (recorded, found))
            return f"control token {token!r} was {old} and is {new}"
    return None


def named_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, str | None]:
    """The tokens that templates and generation know by name."""
    return {name: getattr(tokenizer, name, None) for name in NAMED_TOKENS}


def named_difference(recorded: dict[str, str | None], tokenizer: PreTrainedTokenizerBase) -> str | None:
    """In words, the first of the named tokens that is another one."""
    for name, token in named_tokens(tokenizer).items():
        if recorded.get(name) != token:
            return f"{name} was {recorded.get(name)!r} and is {token!r}"
    return None


def vocabulary_entries(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """One text for each id: the token, and after NULs what it is merged from, its score, or how it is cut out."""
    if not tokenizer.is_fast:
        return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    with no_garbage_collection():
        state = json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    details: dict[str, str] = {}
    for merge in model.get("merges") or ():
        first, second = merge if isinstance(merge, list) else merge.split(" ")
        details[first + second] = details.get(first + second, "") + NUL + first
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: [token, score]
        details = {token: f"{NUL}{score}" for token, score in vocabulary}
        vocabulary = {token: id for id, (token, _) in enumerate(vocabulary)}
    for added in state["added_tokens"]:
        vocabulary[added["content"]] = added["id"]
        details[added["content"]] = details.get(added["content"], "") + NUL + json.dumps(added, sort_keys=True)
    return [token + details.get(token, "") for token in sorted(vocabulary, key=vocabulary.get)]


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Inside, no collection runs: the many lists of a vocabulary's merges would start one of the whole heap."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def checksum(entry: str) -> bytes:
    """A few bytes that distinguish an entry from another in its place; the SHA-256 of all shows that one differs."""
    return zlib.crc32(entry.encode("utf-8", "surrogatepass")).to_bytes(4, "big")[-CHECKSUM_BYTES:]


def vocabulary_difference(recorded: dict, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """In words, the first entry of the vocabulary that is another one."""
    entries = vocabulary_entries(tokenizer)
    if sha256("\n".join(entries)) == recorded["sha256"]:
        return None
    for id, (entry, old) in enumerate(zip_longest(entries, old_checksums(recorded))):
        if entry is None:
            return f"the vocabulary had {recorded['num_tokens']} tokens and has {len(entries)}"
        if old is None or checksum(entry) != old:
            return f"token {entry.partition(NUL)[0]!r} (id {id}) was a different one, or was made of different parts"
    return "two entries of the vocabulary differ"


def old_checksums(recorded: dict) -> Iterator[bytes]:
    """The checksum of each entry, as recorded."""
    data = base64.b64decode(recorded["entry_checksums"])
    return (data[start : start + CHECKSUM_BYTES] for start in range(0, len(data), CHECKSUM_BYTES))


def template_difference(recorded: str, source: str) -> str | None:
    """In words, the first place where the template's own text differs."""
    if recorded == source:
        return None
    place = len(os.path.commonprefix([recorded, source]))
    start = max(0, place - SHOWN_CHARACTERS)
    old, new = (text[start : place + SHOWN_CHARACTERS] for text in (recorded, source))
    line = recorded.count("\n", 0, place) + 1
    return f"line {line} of the chat template was {old!r} and is {new!r}, though no golden conversation shows it"


def sha256(text: str) -> str:
    """In hexadecimal, of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
