"""A page of the folder pages/ as one text, style and script inside, with the policy that lets only these run.

page = local_page("vote"); page.html, page.policy
"""

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

import ftkit.evaluation.pages

FOLDER = Path(__file__).with_name("pages")
SHARED_STYLE = Path(ftkit.evaluation.pages.__file__).with_name("style.css")  # of every page that ftkit writes
STYLE, SCRIPT = "/* style */", "/* script */"  # where they go
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class LocalPage(NamedTuple):
    """A page, and its Content-Security-Policy."""

    html: str
    policy: str


def local_page(name: str) -> LocalPage:
    """NAME.html with NAME.css, after the style that all pages share, and NAME.js in it."""
    style = read(SHARED_STYLE) + read(FOLDER / f"{name}.css")
    script = read(FOLDER / f"{name}.js")
    html = read(FOLDER / f"{name}.html").replace(STYLE, style).replace(SCRIPT, script)
    return LocalPage(html, POLICY.format(script=digest(script), style=digest(style)))


def read(path: Path) -> str:
    """The text of a file."""
    return path.read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What a policy names an inline style or script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
