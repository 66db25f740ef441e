"""Commands that are printed, quoted so that they can be pasted into a shell as they stand."""

import shlex


def quoted(word: object) -> str:
    """A word as a shell takes it: in quotes where it holds spaces or signs of the shell."""
    return shlex.quote(str(word))


def command(*words: object) -> str:
    """The command line `ftkit WORDS`, quoted."""
    return " ".join(["ftkit", *map(quoted, words)])
