"""Names of this machine, as a request's Host has them.

is_own_name("localhost:8100", "127.0.0.1")  ->  True
"""

import ipaddress
from urllib.parse import urlsplit

LOCAL_NAME = "localhost"


def is_own_name(asked: str, host: str) -> bool:
    """Whether a Host header names the server that listens at `host`: by localhost, by that name, or by an address, of
    which a server that listens at a loopback address has only such."""
    try:
        name = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    if name in (LOCAL_NAME, host.lower().strip("[]")):
        return True
    address = address_of(name)
    return address is not None and (address.is_loopback or not is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at `host`."""
    address = address_of(host)
    return host == LOCAL_NAME or address is not None and address.is_loopback


def address_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a name is; None for any other name."""
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None
