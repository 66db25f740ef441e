"""Names that may be the Hub's: a bundled name with a typo is answered at once, and a Hub that can't be reached is not
waited for, as its libraries do for half a minute, with a warning at each try.
"""

import difflib
import os
import queue
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from ftkit.config.errors import UserError

HUB_SECONDS = 3.0  # a Hub that takes no connection within that is not waited for
NEAR = 0.8  # likeness from which a name without an owner is a bundled one with a typo
UNREACHABLE = "the Hub can't be reached from here"
SET_OFFLINE = "HF_HUB_OFFLINE is set"


def refuse_typo(name: str, bundled: Iterable[str], what: str) -> None:
    """Raise UserError for a name that is nearly that of something bundled. what: such as "model"."""
    nearest = difflib.get_close_matches(name, bundled, n=1, cutoff=NEAR)
    if nearest and nearest[0] != name:
        raise UserError(
            f'no file, folder or bundled {what} is called "{name}"; did you mean "{nearest[0]}"? '
            f"(one of the Hub is named OWNER/{name})"
        )


def go_offline_where_unreachable() -> str:
    """Why the Hub is out of reach, and empty where it is not; its libraries then look into their caches alone."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not takes_connections(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True
    is_asked = {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} & set(os.environ)
    return (SET_OFFLINE if is_asked else UNREACHABLE) if constants.HF_HUB_OFFLINE else ""


def takes_connections(url: str, seconds: float = HUB_SECONDS) -> bool:
    """Whether the server of a URL takes a connection within `seconds`; True where a proxy stands between."""
    place = urlsplit(url)
    if place.scheme in urllib.request.getproxies():
        return True

    def connect() -> bool:
        try:
            port = place.port or (443 if place.scheme == "https" else 80)
            socket.create_connection((place.hostname, port), timeout=seconds).close()
        except OSError:
            return False
        return True

    return answer_within(seconds, connect, False)


def answer_within(seconds: float, ask: Callable[[], Any], default: Any) -> Any:
    """What `ask()` gives, or `default` where that takes longer: a name server that is silent keeps no timeout."""
    answers: queue.Queue = queue.Queue()
    threading.Thread(target=lambda: answers.put(ask()), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return default
