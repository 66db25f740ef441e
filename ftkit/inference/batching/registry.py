"""Names of adapters, and the versions that they point to.

    registry = Registry.load_base(ModelSettings("smollm2", adapters={"first": "runs/a"}), Limits())
    registry.load("second", "runs/b"); registry.load("second", "runs/c", in_place=True); registry.unload("second")
    with registry.pinned("first") as version: ...      # the same version until the end, whatever "first" is by then

A version never changes: it is named by the digest of its tensors, configuration and template. While nobody asks it, it
may leave memory; it is read again when it is asked, and refused where its files are no longer those that were loaded.
"""

import dataclasses
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ftkit.config.errors import UserError, first_line
from ftkit.inference.asking import BASE, ModelSettings
from ftkit.inference.batching.request import Limits, UnknownModel
from ftkit.inference.batching.texts import Texts
from ftkit.inference.batching.version import Version
from ftkit.inference.engine import Engine, Voice, base_folder
from ftkit.inference.golden import Precision, check_belongs, check_golden, log_probs_after, read_golden
from ftkit.model.adapters.embeddings import check_own_rows
from ftkit.model.adapters.files import adapter_fingerprint, base_fingerprint, recorded_base
from ftkit.model.adapters.loading import Shapes, check_base, check_keys, check_tensors
from ftkit.model.adapters.parts import Parts, num_bytes, read_parts
from ftkit.model.adapters.routed import Router
from ftkit.model.loading import detach_from_files, local_adapter_folder

GIB = 2**30
MAX_SHAPES = 32  # kinds of adapters whose tensors are known without being made again
NAME = re.compile(r"[\w./:@+-]{1,200}")


class Registry:
    """See the first lines. Safe to use from any thread; reading an adapter does not hold up who asks for another.

    resident: parts of adapters in memory by digest, those that were asked for last at the end. in_flight: requests by
    digest. num_reads: of num_pins, those for which an adapter had to be read. on_engine: does what needs the model, on
    the thread that has it, and waits for it.
    """

    def __init__(self, engine: Engine, settings: ModelSettings, limits: Limits):
        self.model: Any = engine.model
        self.engine, self.settings, self.limits = engine, settings, limits
        self.router = Router(self.model)
        self.shapes: dict[str, Shapes] = {}
        voice = engine.voice()
        self.versions = {BASE: Version(BASE, voice, voice.digest or "")}
        self.base_digest = base_fingerprint(voice.folder) if voice.folder else None
        self.texts = Texts(voice, settings)
        self.resident: OrderedDict[str, Parts] = OrderedDict()
        self.in_flight: Counter[str] = Counter()
        self.num_bytes = self.num_pins = self.num_reads = 0
        self.on_engine: Callable[[Callable[[], Any]], Any] = lambda work: work()
        self.lock = threading.Lock()  # of all of these, held for moments
        self.reading = threading.Lock()  # adapters are read one after another

    @classmethod
    def load_base(cls, settings: ModelSettings, limits: Limits) -> "Registry":
        """The base of the settings with their adapters. Raises UserError as `load` does."""
        adapters = {name: local_adapter_folder(path) for name, path in settings.adapters.items()}
        folder = base_folder(settings, adapters)
        settings = dataclasses.replace(settings, model_name_or_path=folder, adapters={}, may_lack_template=True)
        engine = Engine.load(settings)
        detach_from_files(engine.model)
        registry = cls(engine, settings, limits)
        for name, path in adapters.items():
            registry.load(name, path)
        registry.ask_base_as_first()
        return registry

    def ask_base_as_first(self) -> None:
        """Give a base without a template that of its first adapter, as `Engine.load` does."""
        base = self.versions[BASE].voice
        first = next((version.voice for version in self.versions.values() if version.parent is not None), None)
        if base.template is None and first is not None:
            voice = dataclasses.replace(base, tokenizer=first.tokenizer, template=first.template)
            self.versions[BASE] = Version(BASE, voice, voice.digest or "")

    def names(self) -> list[str]:
        """The base first."""
        return list(self.versions)

    @contextmanager
    def pinned(self, name: str) -> Iterator[Version]:
        """The version that a name points to now, in memory until the end of the block.

        It may have to be read from the disk first. Raises UnknownModel; UserError where its files have changed.
        """
        with self.lock:
            if name not in self.versions:
                raise UnknownModel(name)
            version = self.versions[name]
            self.in_flight[version.digest] += 1
            self.num_pins += 1
        try:
            if version.parent is not None:
                version = dataclasses.replace(version, parts=self.parts_of(version))
            yield version
        finally:
            with self.lock:
                self.in_flight[version.digest] -= 1
                self.trim()

    def parts_of(self, version: Version) -> Parts:
        """What an adapter does, read again where it is not in memory."""
        with self.lock:
            parts = self.found(version.digest)
        if parts is not None:
            return parts
        with self.reading:
            with self.lock:
                parts = self.found(version.digest)
            if parts is None:
                with readable(str(version.voice.folder)):
                    digest, parts = self.read_parts(version.voice)
                if digest != version.digest:
                    raise UserError(
                        f"{version.voice.folder}: has changed since it was loaded as {version.name}; load it again in "
                        "place"
                    )
                with self.lock:
                    self.num_reads += 1
                    self.keep(digest, parts)
        return parts

    def load(self, name: str, path: str, *, in_place: bool = False, may_do_nothing: bool = False) -> Version:
        """Let a name point to the adapter in a folder as it is now. in_place: the name may be taken. may_do_nothing: it
        may change nothing, as before its first update.

        Raises UserError for a name that is taken, and for an adapter that is not sound or not of this base.
        """
        if not NAME.fullmatch(name):
            raise UserError(f"{name!r:.40}: is no name for an adapter; use letters, digits and . _ - / : @ +")
        folder = local_adapter_folder(path)
        with self.reading:
            if name == BASE or (name in self.versions and not in_place):
                raise UserError(f"{name}: is loaded already; unload it first, or load it in place")
            with readable(folder):
                version, parts = self.read(name, folder, may_do_nothing)
            with self.lock:
                self.versions[name] = version
                self.keep(version.digest, parts)
                self.trim()
                voices = [version.voice for version in self.versions.values()]
            self.texts.keep_only(voices)
        return version

    def read(self, name: str, folder: str, may_do_nothing: bool = False) -> tuple[Version, Parts]:
        """The version in a folder, checked, and what it does."""
        base = self.versions[BASE]
        check_base(folder, str(base.voice.folder))
        check_tensors(folder, may_do_nothing=may_do_nothing)
        check_keys(folder, self.model, self.shapes)
        check_own_rows(folder, self.model)
        while len(self.shapes) > MAX_SHAPES:
            self.shapes.pop(next(iter(self.shapes)))
        tokenizer, template = self.texts.of(folder)
        voice = Voice(name, tokenizer, template, folder, name)
        digest, parts = self.read_parts(voice)
        found = Version(
            name, voice, digest, BASE, num_bytes=num_bytes(parts), is_base_verified=recorded_base(folder) is not None,
            golden=self.far_from_record(folder, parts),
        )  # fmt: skip
        return found, parts

    def far_from_record(self, folder: str, parts: Parts) -> float | None:
        """How far an adapter is, in nats, from what it said at training; None where that was not recorded.

        Raises UserError where it does nothing, or not what it did.
        """
        golden = read_golden(folder)
        if golden is None:
            return None
        check_belongs(golden, folder, adapter_fingerprint(folder), self.model)
        said = [self.on_engine(partial(self.said, ids, parts)) for ids in golden.prompts]
        base_NV, result_NV = torch.stack(said, dim=1)
        return check_golden(golden, folder, base_NV, result_NV, Precision.of(self.model))

    def said(self, ids: Sequence[int], parts: Parts) -> torch.Tensor:
        """Log-probabilities, (2, V), after a prompt: of the base, then of an adapter."""
        with self.router.routes([(parts, slice(1, 2))]):
            return log_probs_after(self.model, [ids, ids])

    def read_parts(self, voice: Voice) -> tuple[str, Parts]:
        """The digest of an adapter's files and what they do, which are of one moment.

        Raises UserError where the files are being written.
        """
        before = dataclasses.replace(voice).digest  # a digest is taken once for each object
        parts = read_parts(str(voice.folder), self.model)
        if before is None or dataclasses.replace(voice).digest != before:
            raise UserError(f"{voice.folder}: was written while it was read; load it once it is whole")
        return before, parts

    def unload(self, name: str) -> Version:
        """Forget a name; answers that were begun go on. Raises UnknownModel."""
        with self.lock:
            if name == BASE or name not in self.versions:
                raise UnknownModel(name)
            version = self.versions.pop(name)
            self.trim()
        return version

    def found(self, digest: str) -> Parts | None:
        """What is in memory of a version, which is asked for now. With the lock held."""
        if digest in self.resident:
            self.resident.move_to_end(digest)
        return self.resident.get(digest)

    def keep(self, digest: str, parts: Parts) -> None:
        """Have parts in memory. With the lock held."""
        if digest not in self.resident:
            self.num_bytes += num_bytes(parts)
            self.resident[digest] = parts
        self.resident.move_to_end(digest)

    def trim(self) -> None:
        """Forget versions that no request has: those without a name, and while there are too many bytes the ones that
        were not asked for longest. With the lock held."""
        named = {version.digest for version in self.versions.values()}
        for digest in sorted(self.resident, key=named.__contains__):  # in their order, the nameless first
            is_over = self.num_bytes > self.limits.adapter_gib * GIB
            if not self.in_flight[digest] and (is_over or digest not in named):
                self.num_bytes -= num_bytes(self.resident.pop(digest))
        self.in_flight = +self.in_flight

    def described(self) -> list[dict]:
        """What each name points to, the base first."""
        with self.lock:
            return [
                {
                    "name": name, "digest": version.digest, "parent": version.parent, "path": version.voice.folder,
                    "base": self.base_digest, "base_verified": version.is_base_verified,
                    "template": version.voice.template.name if version.voice.template else None,
                    "template_digest": version.voice.template.fingerprint if version.voice.template else None,
                    "bytes": version.num_bytes, "in_flight": self.in_flight[version.digest], "golden": version.golden,
                    "resident": version.parent is None or version.digest in self.resident,
                }
                for name, version in self.versions.items()
            ]  # fmt: skip


@contextmanager
def readable(folder: str) -> Iterator[None]:
    """Inside, what the disk refuses, such as a file that has just gone, is one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UserError(f"{folder}: can't be read ({reason}); load it once it is whole") from error
