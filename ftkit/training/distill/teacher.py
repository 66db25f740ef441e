"""The teacher: which model, whether the student speaks its tokens and template, and its weights when asked.

teacher = Teacher.named(settings)          # before any weights are read
teacher.check_same_tokens(tokenizer, template)
with teacher.loaded(device) as model: ...
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftkit.config.errors import UserError
from ftkit.data.rows.formats import INPUT_MARKER
from ftkit.data.templates.templates import TemplateInfo
from ftkit.data.tokens.tokenization import prompt_ids
from ftkit.data.tokens.vocabularies import vocabulary_difference
from ftkit.inference.asking import ModelSettings
from ftkit.inference.engine import Engine, base_folder, text_sides
from ftkit.model.adapters.files import adapter_fingerprint, base_fingerprint
from ftkit.model.context import context_size
from ftkit.model.loading import load_config, local_adapter_folder

WAY_OUT = "let it write the answers, with --answers teacher"
ASKED = (  # conversations that both templates have to render alike
    [{"role": "user", "content": "Add."}],
    [{"role": "user", "content": f"Add.{INPUT_MARKER}1 2"}],
    [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "3"}, {"role": "user", "content": "Why?"}],
)


@dataclass
class Teacher:
    """A model that a student learns from. settings: how it is loaded. folder: of its base. adapter: its own folder.

    template: None of a model that has none. num_rows: of its head, padding included. context: its longest input.
    """

    name: str
    settings: ModelSettings
    folder: str
    adapter: str | None
    tokenizer: Any
    template: TemplateInfo | None
    num_rows: int
    context: int | None
    engine: Engine | None = field(default=None, repr=False)

    @classmethod
    def named(cls, settings) -> "Teacher":
        """The teacher that --teacher names: a model or an adapter. Raises UserError where it is none."""
        training, model = settings.training, settings.model
        name = training.teacher_model_name_or_path
        is_adapter = (Path(name).expanduser() / "adapter_config.json").is_file()
        asked = ModelSettings(
            None if is_adapter else name,
            {"teacher": name} if is_adapter else {},
            may_lack_template=True,
            dtype=training.teacher_dtype,
            ftgpt=model.ftgpt,
            trust_remote_code=training.trust_remote_code,
        )
        adapters = {key: local_adapter_folder(path) for key, path in asked.adapters.items()}
        folder = base_folder(asked, adapters)
        tokenizer, template = next(iter(text_sides(asked, adapters, folder, with_base=False).values()))
        config = load_config(folder, trust_remote_code=training.trust_remote_code)
        num_rows = config.get_text_config().vocab_size
        return cls(name, asked, folder, adapters.get("teacher"), tokenizer, template, num_rows, context_size(config))

    def digest(self) -> str:
        """SHA-256 of what its answers rest on, but for precision and template."""
        parts = [base_fingerprint(self.folder), (Path(self.folder) / "config.json").read_text(encoding="utf-8")]
        parts += [adapter_fingerprint(self.adapter)] if self.adapter else []
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def check_same_tokens(self, tokenizer, template: TemplateInfo | None) -> None:
        """Raise UserError where the student's ids mean something else to the teacher, or it was trained to be asked in
        another way."""
        difference = vocabulary_difference(tokenizer, self.tokenizer)
        if difference:
            raise UserError(f"--teacher {self.name} has a different vocabulary ({difference}); {WAY_OUT}")
        if template is None or self.template is None:
            return
        for messages in ASKED:
            ours, theirs = (
                [*prompt_ids(messages, *side), side[1].end_of_turn_id]
                for side in ((tokenizer, template), (self.tokenizer, self.template))
            )
            if ours != theirs:
                place = len(os.path.commonprefix([ours, theirs]))
                one, two = (tokenizer.decode(ids[place : place + 1]) for ids in (ours, theirs))
                raise UserError(
                    f"--teacher {self.name} is asked by the template {self.template.name}, the student by "
                    f"{template.name}: token {place} is {two!r} there and {one!r} here; give --template the teacher's, "
                    f"or {WAY_OUT}"
                )

    def check_rows(self, rows: Iterable[dict]) -> None:
        """Raise UserError for rows that the teacher can't read: with ids it does not have, or beyond its context."""
        for row in rows:
            if (largest := max(row["input_ids"])) >= self.num_rows:
                raise UserError(
                    f"--teacher {self.name} has {self.num_rows} tokens, and id {largest} is in the rows; {WAY_OUT}"
                )
            if self.context and len(row["input_ids"]) > self.context:
                raise UserError(
                    f"--teacher {self.name} reads {self.context} tokens, and a row has {len(row['input_ids'])}; "
                    f"give --max_length {self.context}"
                )

    @contextlib.contextmanager
    def loaded(self, device) -> Iterator[Any]:
        """Its weights inside, in evaluation mode and frozen; let go after it where they were not there before.

        device: None for the fastest.
        """
        keep = self.engine is not None
        try:
            yield self.model(device)
        finally:
            if not keep:
                self.engine = None

    def model(self, device):
        """Its weights, from now on in memory."""
        if self.engine is None:
            self.engine = Engine.load(self.settings)
            self.engine.model.requires_grad_(False)
        return self.engine.model if device is None else self.engine.model.to(device)
