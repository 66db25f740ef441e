"""Runs alone in a fresh Python process, without ftkit: downloads a pushed commit and loads it as a stranger would.

Reads a job (see `ftkit.publish.hub.load_back`) as one JSON object from stdin; the outcome is the last line of stdout.
It imports no ftkit, so that what loads here loads where only torch and transformers (for an adapter: and peft) are.
"""

import hashlib
import json
import sys
from pathlib import Path

QUESTION = [{"role": "user", "content": "What is two plus two?"}]  # the prompt whose logits are compared
HASH_CHUNK_BYTES = 2**22


def main() -> None:
    """Do the job on stdin."""
    job = json.load(sys.stdin)
    for name in job["hidden"]:
        sys.modules[name] = None  # importing it fails, as where it is not installed
    from huggingface_hub import snapshot_download

    names = list(job["sha256"])
    folder = Path(snapshot_download(job["repo_id"], revision=job["commit"], allow_patterns=names))
    wrong = [name for name in names if not (folder / name).is_file() or sha256(folder / name) != job["sha256"][name]]
    outcome = {"wrong": wrong}
    if not wrong and job["kind"] != "files":
        # One after the other, so that one model's memory is enough.
        here = logits_of(job, job["folder"], {})
        there = logits_of(job, job["repo_id"], {"revision": job["commit"]})
        outcome |= compare(here, there)
    print("\n" + json.dumps(outcome))


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def logits_of(job: dict, name: str, where: dict):
    """(token ids of the rendered prompt, float32 logits (T, V)) of a model named by folder or Hub id."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    trust = job["runs_code"]
    code = where | ({"code_revision": where.get("revision")} if trust else {})
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust, **code)
    if tokenizer.chat_template:
        ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True)["input_ids"]
    else:
        ids = tokenizer(QUESTION[0]["content"])["input_ids"]
    auto = AutoModelForSequenceClassification if job["classifier"] else AutoModelForCausalLM
    settings = {"dtype": "auto", "use_safetensors": True}
    settings |= {"num_labels": job["num_labels"]} if job["num_labels"] else {}
    if job["kind"] == "adapter":
        from peft import PeftModel

        model = auto.from_pretrained(job["base"], trust_remote_code=trust, **settings)
        rows = model.get_input_embeddings().num_embeddings
        if rows != (wanted := job["vocabulary"] or max(rows, len(tokenizer))):
            torch.manual_seed(0)  # rows that the adapter does not carry are drawn, here and there the same
            model.resize_token_embeddings(wanted, mean_resizing=False)
        model = PeftModel.from_pretrained(model, name, **where)
    else:
        model = auto.from_pretrained(name, trust_remote_code=trust, **code, **settings)
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([ids])).logits.float()
    return ids, logits[0]


def compare(here: tuple, there: tuple) -> dict:
    """The outcome of comparing ids and logits."""
    (ids_here, logits_here), (ids_there, logits_there) = here, there
    same = ids_here == ids_there and logits_here.shape == logits_there.shape
    finite = bool(logits_here.isfinite().all() and logits_there.isfinite().all())
    difference = float((logits_here - logits_there).abs().max()) if same and finite else None
    return {"num_tokens": len(ids_here), "same_tokens": same, "finite": finite, "difference": difference}


if __name__ == "__main__":
    main()
