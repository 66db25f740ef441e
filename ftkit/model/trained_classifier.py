"""A classifier that was trained, for use: a whole model, or an adapter on its base.

model, tokenizer, labels = load_trained_classifier("runs/spam")
"""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.config.errors import UserError
from ftkit.config.paste import command
from ftkit.data.templates.lock import read_lock, verify_lock
from ftkit.model.adapters.files import CONFIG_FILE, adapter_labels, resolve_base, tokenizer_folder
from ftkit.model.adapters.loading import put_adapter
from ftkit.model.adapters.merging import load_base, trained_quantization
from ftkit.model.classifier import load_classifier, stored_labels, stored_problem
from ftkit.model.loading import load_tokenizer, local_model_folder


def load_trained_classifier(
    name: str | Path,
    *,
    base: str | None = None,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """The model in evaluation mode, its tokenizer, which pads on the right, and its classes in order.

    name: output folder of `ftkit classify`, a checkpoint in it, or any other sequence classifier's folder or Hub id.
    base: of an adapter, where it is not where the run found it. dtype: of the weights; an adapter's base that was
    quantised in training is quantised again. Raises UserError for a folder that is not a classifier, or
    has lost its head.
    """
    is_adapter = (Path(name) / CONFIG_FILE).is_file()
    folder = resolve_base(name, base) if is_adapter else local_model_folder(name)
    labels = adapter_labels(name, folder) if is_adapter else stored_labels(folder)
    if labels is None:
        raise UserError(f"{name}: is not a classifier; train one: {command('classify', '--model', folder)}")
    tokenizer = load_tokenizer(
        tokenizer_folder(name, folder) if is_adapter else folder, trust_remote_code=trust_remote_code
    )
    tokenizer.padding_side = "right"
    if read_lock(name):
        verify_lock(name, tokenizer)
    settings = {"dtype": dtype, "attn_implementation": attn_implementation, "trust_remote_code": trust_remote_code}
    if is_adapter:
        model = load_base(folder, name, trained_quantization(name), **settings)
        return put_adapter(model, name, tokenizer, base_folder=folder), tokenizer, labels
    loaded = load_classifier(
        folder, labels, pad_token_id=tokenizer.pad_token_id, problem_type=stored_problem(folder), may_lack_head=False,
        **settings,
    )  # fmt: skip
    return loaded.model.eval(), tokenizer, labels
