"""Names of adapters, and the versions that they point to.

    registry = Registry.load_base(ModelSettings("smollm2", adapters={"first": "runs/a"}), Limits())
    registry.load("second", "runs/b"); registry.load("second", "runs/c", in_place=True); registry.unload("second")
    with registry.pinned("first") as version: ...      # the same version until the end, whatever "first" is by then

A version never changes: it is named by the digest of its tensors, configuration and template.
"""

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ftkit.config.errors import UserError
from ftkit.inference.asking import BASE, ModelSettings
from ftkit.inference.batching.request import Limits, UnknownModel
from ftkit.inference.batching.version import Version
from ftkit.inference.engine import Engine, Voice, base_folder, check_vocabularies, text_side
from ftkit.model.adapters.files import tokenizer_folder
from ftkit.model.adapters.loading import check_base, check_keys, check_tensors
from ftkit.model.adapters.routed import num_bytes, read_parts
from ftkit.model.loading import local_adapter_folder


class Registry:
    """See the first lines. Safe to use from any thread."""

    def __init__(self, engine: Engine, settings: ModelSettings, limits: Limits):
        self.model: Any = engine.model
        self.engine, self.settings, self.limits = engine, settings, limits
        voice = engine.voice()
        self.versions = {BASE: Version(BASE, voice, voice.digest or "")}
        self.in_flight: Counter[str] = Counter()
        self.lock = threading.Lock()

    @classmethod
    def load_base(cls, settings: ModelSettings, limits: Limits) -> "Registry":
        """The base of the settings with their adapters. Raises UserError as `load` does."""
        adapters = {name: local_adapter_folder(path) for name, path in settings.adapters.items()}
        folder = base_folder(settings, adapters)
        alone = dataclasses.replace(settings, model_name_or_path=folder, adapters={}, may_lack_template=True)
        registry = cls(Engine.load(alone), settings, limits)
        for name, path in adapters.items():
            registry.load(name, path)
        return registry

    def names(self) -> list[str]:
        """The base first."""
        return list(self.versions)

    @contextmanager
    def pinned(self, name: str) -> Iterator[Version]:
        """The version that a name points to now. Raises UnknownModel."""
        with self.lock:
            if name not in self.versions:
                raise UnknownModel(name)
            version = self.versions[name]
            self.in_flight[version.digest] += 1
        try:
            yield version
        finally:
            with self.lock:
                self.in_flight[version.digest] -= 1

    def load(self, name: str, path: str, *, in_place: bool = False) -> Version:
        """Let a name point to the adapter in a folder as it is now. in_place: the name may be taken.

        Raises UserError for a name that is taken, and for an adapter that is not sound or not of this base.
        """
        if name == BASE or (name in self.versions and not in_place):
            raise UserError(f"{name}: is loaded already; unload it first, or load it in place")
        version = self.read(name, local_adapter_folder(path))
        with self.lock:
            self.versions[name] = version
        return version

    def read(self, name: str, folder: str) -> Version:
        """The version in a folder, checked."""
        base = self.versions[BASE]
        assert base.voice.folder is not None
        check_base(folder, base.voice.folder)
        check_tensors(folder)
        check_keys(folder, self.model)
        tokenizer, template = text_side(str(tokenizer_folder(folder, base.voice.folder)), self.settings, folder)
        check_vocabularies({BASE: (base.voice.tokenizer, None), name: (tokenizer, template)})
        voice = Voice(name, tokenizer, template, folder, name)
        parts = read_parts(folder, self.model)
        return Version(name, voice, voice.digest or "", BASE, parts, num_bytes(parts))

    def unload(self, name: str) -> Version:
        """Forget a name; answers that were begun go on. Raises UnknownModel."""
        with self.lock:
            if name == BASE or name not in self.versions:
                raise UnknownModel(name)
            return self.versions.pop(name)

    def described(self) -> list[dict]:
        """What each name points to, the base first."""
        with self.lock:
            return [
                {
                    "name": name, "digest": version.digest, "parent": version.parent, "path": version.voice.folder,
                    "template": version.voice.template.name if version.voice.template else None,
                    "bytes": version.num_bytes, "resident": True, "in_flight": self.in_flight[version.digest],
                }
                for name, version in self.versions.items()
            ]  # fmt: skip
