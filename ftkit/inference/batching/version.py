"""A version: what answers under a name, as it was when it was loaded."""

from dataclasses import dataclass, field

from ftkit.inference.engine import Voice
from ftkit.model.adapters.parts import Parts


@dataclass(frozen=True)
class Version:
    """The base, or an adapter. digest: SHA-256 of its tensors, configuration and template. parent: the name of an
    adapter's base. parts: what the adapter does; None for the base, and while it is not in memory. is_base_verified:
    whether the adapter's record says that it was trained on these weights; without a record nobody knows. golden: how
    far it is, in nats, from what it said at training (`golden.json`); None where that was not recorded."""

    name: str
    voice: Voice
    digest: str
    parent: str | None = None
    parts: Parts | None = field(default=None, repr=False)
    num_bytes: int = 0
    is_base_verified: bool = True
    golden: float | None = None
