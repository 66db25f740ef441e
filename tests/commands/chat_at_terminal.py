"""A chat with a stand-in for the engine, for a terminal: python chat_at_terminal.py [HISTORY]. Costs no import of torch."""

import sys
import time
import types
from pathlib import Path

sys.modules["torch"] = types.ModuleType("torch")
sys.modules["torch"].manual_seed = lambda seed: None

from ftkit.commands.chat import talk  # noqa: E402
from ftkit.inference.asking import Sampling  # noqa: E402
from ftkit.inference.completion import Reply  # noqa: E402


class Echo:
    """Answers by what it heard; to "slow" until it is stopped."""

    voices = {name: types.SimpleNamespace(name=name, template="alpaca") for name in ("base", "first", "second")}

    def voice(self, name):
        return self.voices[name]

    def stream(self, messages, sampling, name, *, write):
        asked, said = messages[-1]["content"], []

        def put(piece):
            said.append(piece)
            write(piece)

        try:
            while asked == "slow":
                put("tick ")
                time.sleep(0.01)
        except KeyboardInterrupt:
            return Reply("".join(said), finish_reason="cancelled")
        pieces = ["<think>", "hm", "</think>", "four"] if asked == "think" else [f"{name} heard ", repr(asked[-40:])]
        for piece in [*pieces, f" of {len(asked)} after {len(messages) - 1}"]:
            put(piece)
        return Reply("".join(said), finish_reason="stop")


talk(Echo(), Sampling(), None, sys.stdin, Path(sys.argv[1]) if sys.argv[1:] else None)
print("[ended]")
