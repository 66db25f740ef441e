"""Adapters handed to a vLLM server that someone runs: checked here, loaded there, and asked there whether they act.

for line in hand_over(Vllm("http://127.0.0.1:8000", key), {"first": "runs/first"}): print(line)

vLLM lists an adapter and answers under its name also where it has found none of the names in its file, and after a
replacement it may answer from what it has kept of the one before. What it says to the golden prompts of a run shows it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.config.paste import command
from ftkit.inference.completion import refusal
from ftkit.inference.endpoint import check_address
from ftkit.inference.golden import FILE, Golden, Precision, Top, read_golden
from ftkit.model.adapters.files import adapter_fingerprint
from ftkit.model.adapters.loading import check_tensors
from ftkit.model.loading import local_adapter_folder

SECONDS = 600  # that loading an adapter may take
NO_ROUTE = "Not Found"  # FastAPI's words, where the routes of adapters are switched off
ALLOW = "start it with --enable-lora, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
PROBES = ((1, 2, 3), (5, 6, 7, 8))  # token ids that any model has, for adapters without golden prompts
PRECISION = Precision("bfloat16")  # what a GPU computes in where nobody said otherwise


@dataclass(frozen=True)
class Vllm:
    """A server. url: with /v1 or without. key: of --api-key there."""

    url: str
    key: str = field(default="", repr=False)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer to a request, a POST where there is a body.

        Raises UserError where there is no server, and with its own reason where it refuses.
        """
        import httpx2

        address = self.url.rstrip("/").removesuffix("/v1") + path
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        method = "GET" if body is None else "POST"
        try:
            answer = httpx2.request(method, address, json=body, headers=headers, timeout=SECONDS)
        except httpx2.HTTPError as error:
            raise UserError(
                f"{address}: no answer ({type(error).__name__}); start vLLM, or correct the address"
            ) from error
        if answer.status_code == 200:
            return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
        reason = " ".join(refusal(answer.content)[0].split())[:300]
        hint = f"; {ALLOW}" if reason == NO_ROUTE else ""
        raise UserError(f"{address}: status {answer.status_code}: {reason}{hint}")

    def next_token(self, model: str, prompt: list[int]) -> Top:
        """The likeliest token after a prompt of token ids."""
        body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 1}
        choice = self.ask("/v1/completions", body | {"return_token_ids": True})["choices"][0]
        return Top(choice["token_ids"][0], choice["logprobs"]["token_logprobs"][0])


def hand_over(server: Vllm, adapters: Mapping[str, str]) -> Iterator[str]:
    """A line about each adapter, once the server answers as it.

    Raises UserError for an adapter that is not sound, that the server does not take, or that does not act there.
    """
    check_address(server.url, "OPENAI_API_KEY")
    if not adapters:
        raise UserError("--backend vllm hands over adapters; name them: --adapter NAME=PATH")
    folders = {name: Path(local_adapter_folder(path)).resolve() for name, path in adapters.items()}
    for folder in folders.values():
        check_tensors(folder)
    models = server.ask("/v1/models")["data"]
    base = next((one["id"] for one in models if not one.get("parent")), None)
    if base is None or base in folders:
        raise UserError(f"{server.url}: serves no base beside {', '.join(folders)}; give other names")
    for name, folder in folders.items():
        if name in [one["id"] for one in models]:
            server.ask("/v1/unload_lora_adapter", {"lora_name": name})
        server.ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        yield f"{name}: {adapter_fingerprint(folder)[:12]}, {acts(server, base, name, folder)}"


def acts(server: Vllm, base: str, name: str, folder: Path) -> str:
    """In words, how far the adapter there is from what was recorded. Raises UserError where it does not act."""
    golden = read_golden(folder)
    prompts = [list(ids) for ids in golden.prompts] if golden else [list(ids) for ids in PROBES]
    of_base, found = ([server.next_token(one, ids) for ids in prompts] for one in (base, name))
    if of_base == found and (golden is None or golden.base != golden.result):
        raise UserError(
            f"{server.url}: {name} is loaded and answers as {base} does: it is not applied; look in the server's log "
            f"for ignored weights, or merge it: {command('adapters', 'merge', folder)}"
        )
    if golden is None:
        return f"acts; what it should say is not known (it has no {FILE})"
    far = largest_difference(golden, found)
    if far > golden.tolerance(PRECISION):
        raise UserError(
            f"{server.url}: {name} acts otherwise than recorded at training, by {far:.2g} nats "
            f"({golden.tolerance(PRECISION):g} allowed); one that had this name before may have been kept: take "
            "another name, or start the server again"
        )
    return f"acts as at training: {far:.2g} nats from it on {len(prompts)} prompts"


def largest_difference(golden: Golden, found: list[Top]) -> float:
    """In nats, between the likeliest tokens now and those recorded. Another token counts by its own log-probability:
    two that were nearly as likely may change places."""
    return max(abs(now.log_prob - then.log_prob) for now, then in zip(found, golden.result, strict=True))
