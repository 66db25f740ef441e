"""The text of an HTML page, by headings and blocks; code in <pre> is kept as it stands.

draft = Draft("page.html"); add_page(draft, text)

Scripts, styles, navigation and hidden parts are left out. The parser keeps no tree, so nesting costs nothing.
"""

import re
from html.parser import HTMLParser

from ftkit.data.index.document import Draft

LEFT_OUT = {"script", "style", "noscript", "template", "svg", "math", "nav", "footer", "aside", "select", "button",
            "iframe", "object"}  # fmt: skip
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
BLOCKS = {"p", "div", "section", "article", "main", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "blockquote",
          "figure", "figcaption", "details", "summary", "body", "address", "caption", "thead", "tbody"}  # fmt: skip
HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
CELLS = ("td", "th")
HAS_MAIN = re.compile(r"<main[\s>]|role=\"main\"", re.IGNORECASE)
PERMALINKS = ("headerlink", "anchor-link", "permalink")  # classes of the link that stands after a heading


def add_page(draft: Draft, text: str) -> None:
    """Add a page to a draft: of one with a main part that part alone, else all of its body."""
    for main_only in (True, False) if HAS_MAIN.search(text) else (False,):
        parser = PageParser(draft, main_only=main_only)
        parser.feed(text)
        parser.close()
        parser.end()
        if draft.sections:
            return


class PageParser(HTMLParser):
    """Hands the blocks of a page to a draft as they end. main_only: what stands outside its main part is left out."""

    def __init__(self, draft: Draft, *, main_only: bool):
        super().__init__(convert_charrefs=True)
        self.draft, self.main_only = draft, main_only
        self.pieces: list[str] = []
        self.level = 0  # of the heading that is being read; 0 for none
        self.in_title = self.in_main = False
        self.skipped = ""  # the tag whose inside is left out, and how deep it is nested in itself
        self.depth = self.main_depth = self.num_pre = 0
        self.main_tag = ""
        self.title_parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a part."""
        if self.skipped:
            self.depth += tag == self.skipped
            return
        given = dict(attrs)
        if tag not in VOID and (tag in LEFT_OUT or is_hidden(tag, given)):
            self.skipped, self.depth = tag, 1
            return
        if tag == "title":
            self.in_title = True
        elif not self.in_main and self.main_only and (tag == "main" or given.get("role") == "main"):
            self.flush()
            self.in_main, self.main_tag, self.main_depth = True, tag, 1
        else:
            self.main_depth += self.in_main and tag == self.main_tag
            self.begin(tag)

    def begin(self, tag: str) -> None:
        """Begin what is shown."""
        if tag == "pre":
            self.flush()
            self.num_pre = 1
        elif tag in HEADINGS:
            self.flush()
            self.level = HEADINGS[tag]
        elif tag == "br":
            self.pieces.append("\n")
        elif tag in CELLS:
            self.pieces.append("\t" if self.pieces else "")
        elif tag in BLOCKS and not self.num_pre:
            self.flush()

    def handle_endtag(self, tag: str) -> None:
        """End a part."""
        if self.skipped:
            self.depth -= tag == self.skipped
            self.skipped = self.skipped if self.depth else ""
            return
        if tag == "title":
            self.in_title = False
        elif tag == "pre":
            self.flush(is_code=True)
            self.num_pre = 0
        elif tag in HEADINGS:
            self.flush()
        elif tag in BLOCKS and not self.num_pre:
            self.flush()
        if self.in_main and tag == self.main_tag:
            self.main_depth -= 1
            if not self.main_depth:
                self.flush()
                self.in_main = False

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self.in_title:
            self.title_parts.append(data)
        elif not self.skipped and (self.in_main or not self.main_only):
            self.pieces.append(data if self.num_pre else re.sub(r"\s+", " ", data))

    def flush(self, *, is_code: bool = False) -> None:
        """Hand over what was read since the last block."""
        text = "".join(self.pieces)
        self.pieces.clear()
        if self.level:
            self.draft.heading(self.level, text)
            self.level = 0
        elif is_code:
            self.draft.add(text, is_code=True)
        else:
            self.draft.add("\n".join(re.sub(" +", " ", line).strip() for line in text.split("\n")))

    def end(self) -> None:
        """Hand over what the page leaves open, and its title."""
        self.flush(is_code=bool(self.num_pre))
        self.draft.title = " ".join("".join(self.title_parts).split()) or self.draft.title


def is_hidden(tag: str, given: dict[str, str | None]) -> bool:
    """Whether a part is not shown to a reader, or leads back to its own heading."""
    classes = (given.get("class") or "").split()
    return (
        "hidden" in given or given.get("aria-hidden") == "true" or given.get("role") == "navigation"
        or tag == "a" and any(name in PERMALINKS for name in classes)
        or "display:none" in (given.get("style") or "").replace(" ", "")
    )  # fmt: skip
