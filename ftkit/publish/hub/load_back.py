"""The load-back check: what was pushed is downloaded and loaded in a fresh process, and must be what lies here.

print(load_back(plan, "owner/name", commit, token))
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers import CONFIG_MAPPING

from ftkit.config.errors import UserError
from ftkit.config.json_object import read_object
from ftkit.model.adapters.embeddings import stored_vocabulary
from ftkit.model.adapters.files import adapter_labels, resolve_base
from ftkit.model.configuration_ftgpt import AUTO_MAP, CODE_FILES
from ftkit.publish.card.model_card import is_encoder
from ftkit.publish.hub.upload_plan import UploadPlan, reason_to_skip_code

MAX_DIFFERENCE = 1e-5  # between logits; same files, same machine, same code: it is 0.0 as a rule
# The longest that the fresh process may take: to start and run, and to download at 1 MiB/s.
BASE_SECONDS, BYTES_PER_SECOND = 600, 2**20
# What a stranger need not have. Where peft is not needed it is hidden too.
HIDDEN = ("ftkit", "trl", "datasets", "bitsandbytes")
# Where models are kept, and the processes of a launcher, of which the fresh one is none.
NOT_INHERITED = (
    "HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_MODULES_CACHE", "RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_",
    "TORCHELASTIC_", "ACCELERATE_", "FSDP_", "PMI_", "PMIX_", "MPI_", "OMPI_", "MV2_",
)  # fmt: skip


def load_back(plan: UploadPlan, repo_id: str, commit: str, token: str | None) -> str:
    """Download the commit into a temporary cache and load it, without ftkit; return what was found in one line.

    All files must have the SHA-256 of those sent; the logits of a rendered prompt must equal those of the local folder
    (a .gguf file, an embedding model, an adapter whose base is not here, and a model that needs code other than FTGPT's
    own are compared by their hashes alone).
    Raises UserError if the commit cannot be loaded, or is something else.
    """
    base = local_base(plan.folder) if plan.kind == "adapter" else None
    loadable, runs_code, config = plan.kind == "model" or base is not None, False, {}
    if loadable:
        model_folder = Path(base or plan.folder)
        config, runs_code = read_object(model_folder / "config.json"), has_own_code(model_folder)
    needs_code = bool(config.get("auto_map")) and config.get("model_type") not in {*CONFIG_MAPPING} - {"ftgpt"}
    encodes = is_encoder(plan.folder)
    loadable = loadable and (runs_code or not needs_code) and not encodes
    labels = adapter_labels(plan.folder) if plan.kind == "adapter" else None
    job = {
        "repo_id": repo_id,
        "commit": commit,
        "folder": str(plan.folder.resolve()),
        "sha256": {file.name: file.sha256() for file in plan.files},
        "kind": plan.kind if loadable else "files",
        "base": base,
        "runs_code": runs_code,
        "classifier": bool(labels)
        or any("SequenceClassification" in name for name in config.get("architectures") or []),
        "vocabulary": stored_vocabulary(plan.folder) if plan.kind == "adapter" else None,
        "num_labels": len(labels) if labels else None,
        "hidden": HIDDEN if plan.kind == "adapter" else (*HIDDEN, "peft"),
    }
    outcome = run_fresh(job, token, BASE_SECONDS + sum(file.size for file in plan.files) / BYTES_PER_SECOND)
    pushed, wrong, num_files = f"{repo_id} at {commit[:8]}", outcome["wrong"], len(plan.files)
    if wrong:
        raise UserError(f"{pushed}: {len(wrong)} files are not what was sent, such as {wrong[0]}; push again")
    if not loadable:
        reason = "a .gguf file is not run here" if plan.kind == "gguf" else "its base is not here, so it was not run"
        reason = "an embedding model has no logits to compare" if encodes else reason
        reason = "it needs code that is not ftkit's, so it was not run" if needs_code else reason
        return f"{pushed}: loaded back, {num_files} files equal by SHA-256; {reason}"
    if not outcome["finite"] or not outcome["same_tokens"] or outcome["difference"] > MAX_DIFFERENCE:
        raise UserError(f"{pushed}: loads, but not as {plan.folder}: {describe(outcome)}; do not use it")
    return (
        f"{pushed}: loaded back in a fresh process without ftkit: {num_files} files equal by SHA-256, logits equal "
        f"on {outcome['num_tokens']} tokens (largest difference {outcome['difference']:.1g})"
    )


def has_own_code(folder: Path) -> bool:
    """Whether a folder is an FTGPT whose code is, byte by byte, that of this ftkit: the only code that is run."""
    own = read_object(folder / "config.json").get("auto_map") == AUTO_MAP
    return own and all(
        (folder / name).is_file() and not reason_to_skip_code(folder / name, name) for name in CODE_FILES
    )


def describe(outcome: dict) -> str:
    """What differs, in words."""
    if not outcome["same_tokens"]:
        return "the prompt gives different tokens"
    return f"logits differ by {outcome['difference']:.3g}" if outcome["finite"] else "its logits are not finite"


def local_base(folder: Path) -> str | None:
    """The local folder of an adapter's base; None where it is not found."""
    try:
        return str(Path(resolve_base(folder)).resolve())
    except UserError:
        return None


def run_fresh(job: dict, token: str | None, timeout_seconds: float) -> dict:
    """Run the job in a fresh process with a cache of its own; return its outcome. The token goes by environment.

    Raises UserError where it ends with an error or takes longer than `timeout_seconds`.
    """
    pushed = f"{job['repo_id']} at {job['commit'][:8]}: was pushed but"
    script = Path(__file__).with_name("fresh_process.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="ftkit-load-back-") as home:
        try:
            done = subprocess.run(
                [sys.executable, "-c", script],
                input=json.dumps(job),
                capture_output=True,
                text=True,
                cwd=home,
                env=fresh_environment(home, token),
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired as error:
            waited = f"{timeout_seconds:.0f} seconds"
            raise UserError(f"{pushed} was not loaded in a fresh process within {waited}; load it yourself") from error
    if done.returncode:
        reason = done.stderr.strip().split("\n")[-1] or "no reason given"
        reason = reason.replace(token, "TOKEN") if token else reason
        raise UserError(f"{pushed} does not load in a fresh process: {reason}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def fresh_environment(home: str, token: str | None) -> dict[str, str]:
    """The variables of the fresh process: a cache of its own in `home`, the network, and the token if there is one."""
    from huggingface_hub import constants

    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return inherited | {
        "HF_HOME": home,
        "HF_ENDPOINT": constants.ENDPOINT,
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **({"HF_TOKEN": token} if token else {}),
    }
