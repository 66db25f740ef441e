"""Who may ask: a key for the server, and another one for what changes it.

keys = Keys(api_key="...", admin_key="..."); keys.check(scope)
"""

import base64
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field

from ftkit.config.errors import UserError
from ftkit.serving.local_names import is_loopback
from ftkit.serving.refusals import Message, Refused, header

ADMIN_PATHS = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/pause", "/resume")
OPEN_PATHS = ("/", "/health")  # and what the page at / consists of
BEARER, BASIC = "bearer ", "basic "


@dataclass(frozen=True)
class Keys:
    """The keys of a server; None for none. open_paths: which ask for no key."""

    api_key: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    open_paths: Collection[str] = OPEN_PATHS

    def __post_init__(self):
        for name in ("api_key", "admin_key"):
            key = getattr(self, name)
            if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
                raise UserError(f"--{name}: must be letters, digits and signs of ASCII, at least one; choose another")
        if self.admin_key is not None and self.admin_key == self.api_key:
            raise UserError("--admin_key is the same as --api_key: every user could change the server; choose two")

    def check_host(self, host: str) -> None:
        """Raise UserError for a server that others reach and that asks nobody for a key."""
        if self.api_key is None and not is_loopback(host):
            raise UserError(
                f"--host {host}: others could use this server; give --api_key (or FTKIT_API_KEY), or leave --host out"
            )

    def check(self, scope: Message) -> None:
        """Raise Refused for a request without the key that it needs."""
        path = scope["path"]
        if path in ADMIN_PATHS or path.startswith("/adapters/"):
            if self.admin_key is None:
                raise Refused(403, "adapters can't be changed on this server; start it with --admin_key")
            self.compare(scope, self.admin_key)
        elif self.api_key is not None and path not in self.open_paths:
            self.compare(scope, self.api_key, *([self.admin_key] if self.admin_key is not None else []))

    def compare(self, scope: Message, *allowed: str) -> None:
        """Raise Refused unless the request brings one of these keys; in the same time for each wrong one."""
        key = key_of(header(scope, "authorization") or "")
        if not any([hmac.compare_digest(key.encode("latin-1"), one.encode()) for one in allowed]):
            headers = {"www-authenticate": "Bearer", "x-should-retry": "false"}
            raise Refused(401, "this needs a key: send Authorization: Bearer KEY", "invalid_api_key", headers)


def key_of(given: str) -> str:
    """The key of an Authorization header: a Bearer token, or the password of clients that take keys only as a part of
    the address (http://any:KEY@127.0.0.1:8000); "" for none."""
    if given[: len(BEARER)].lower() == BEARER:
        return given[len(BEARER) :].strip()
    if given[: len(BASIC)].lower() == BASIC:
        try:
            return base64.b64decode(given[len(BASIC) :].strip(), validate=True).decode("latin-1").partition(":")[2]
        except ValueError:
            return ""
    return ""
