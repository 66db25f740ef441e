"""What is benchmarked, loaded as a command line says, and the processes that share the work."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("ftkit", "torch", "transformers", "tokenizers", "peft", "datasets", "evaluate", "sacrebleu", "rouge_score")
PLAIN = "none"  # --template: no chat template


def load_subject(args) -> tuple:
    """(Subject, what results.json tells of it).

    Raises UserError for what can't be loaded, and a template that renders other tokens than in training.
    """
    from ftkit.config.hardware import use_all_cores
    from ftkit.config.quiet import quiet_libraries
    from ftkit.data.templates.lock import verify_lock
    from ftkit.evaluation.bench.units import Subject

    if args.endpoint:
        from ftkit.inference.endpoint import Endpoint

        endpoint = Endpoint(args.endpoint, args.model_name_or_path, concurrency=args.concurrency, seed=args.seed)
        return Subject(endpoint=endpoint), {"name": args.model_name_or_path, "endpoint": args.endpoint}
    quiet_libraries()
    use_all_cores()
    model, tokenizer, folder, adapter, dtype = load_weights(args)
    template = template_of(tokenizer, args.template)
    if template:
        is_gguf = str(args.model_name_or_path).endswith(".gguf")  # its lock lies beside the file
        verify_lock(adapter or (args.model_name_or_path if is_gguf else folder), tokenizer)
    subject = Subject(model, tokenizer, template, None, args.max_batch_tokens, args.batch_size)
    return subject, identity(args, folder, adapter, dtype, template)


def load_weights(args) -> tuple:
    """Model, tokenizer, folder of the base, folder of the adapter or None, and precision."""
    import torch

    from ftkit.config.hardware import probe
    from ftkit.inference.engine import base_folder, tokenizer_of
    from ftkit.model.adapters.loading import put_adapter
    from ftkit.model.adapters.methods import four_bit_config
    from ftkit.model.loading import check_vocabulary, load_model, load_tokenizer, local_adapter_folder

    adapter = local_adapter_folder(args.adapter) if args.adapter else None
    folder = base_folder(args, {"adapter": adapter} if adapter else {})
    device = probe().device
    dtype = args.dtype or ("float32" if device == "cpu" else "bfloat16")
    tokenizer = load_tokenizer(tokenizer_of(adapter, folder) if adapter else folder)
    model = load_model(
        folder,
        dtype=dtype,
        quantization_config=four_bit_config(dtype) if args.load_in_4bit else None,
        trust_remote_code=args.trust_remote_code,
    )
    if adapter:
        model = put_adapter(model, adapter, tokenizer, base_folder=folder)
    else:
        check_vocabulary(model, tokenizer)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return model.eval().to(device), tokenizer, folder, adapter, dtype


def template_of(tokenizer, name: str):
    """The template that tasks ask for; None with "none", and with "auto" where the tokenizer has none."""
    from ftkit.data.templates.templates import install_template

    if name == PLAIN or (name == "auto" and not tokenizer.chat_template):
        return None
    return install_template(tokenizer, name)


def versions() -> dict[str, str]:
    """Versions of the libraries that scores depend on."""
    return {name: version(name) for name in LIBRARIES}


def identity(args, folder: str, adapter: str | None, dtype: str, template) -> dict:
    """What results.json tells of the model."""
    from ftkit.model.adapters.files import WEIGHTS_FILE, base_fingerprint

    found = {"name": args.model_name_or_path or folder, "adapter": args.adapter, "dtype": dtype}
    found |= {"load_in_4bit": args.load_in_4bit, "ftgpt": args.ftgpt, "weights_hash": base_fingerprint(folder)}
    if adapter:
        found["adapter_hash"] = hashlib.sha256((Path(adapter) / WEIGHTS_FILE).read_bytes()).hexdigest()
    found["template"] = template.name if template else PLAIN
    found["template_hash"] = template.fingerprint if template else None
    return found


@contextmanager
def open_world() -> Iterator:
    """The processes that a launcher started, as a World; closed at the end."""
    from ftkit.config.launch import check_world, world_size
    from ftkit.evaluation.bench.bench import World

    check_world(use_cpu=True)
    if world_size() == 1:
        yield World()
        return
    import torch.distributed

    torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield World(torch.distributed.get_rank(), torch.distributed.get_world_size(), torch.distributed.barrier)
    finally:
        torch.distributed.destroy_process_group()
