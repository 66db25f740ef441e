"""A document: its text, with the places of its sections and of the blocks that should not be cut.

draft = Draft("guide.md")
draft.heading(1, "Install"); draft.add("Run this:"); draft.add("pip install ftkit", is_code=True)
document = draft.document()                # document.sections[0].heading == "Install"
"""

from dataclasses import dataclass, field

HEADING_JOIN = " > "  # between a heading and those above it
BLOCK_GAP = "\n\n"


@dataclass(frozen=True)
class Block:
    """A paragraph, a list or some code: the characters from start to end of the document's text."""

    start: int
    end: int
    is_code: bool = False


@dataclass(frozen=True)
class Section:
    """What stands below one heading. heading: with those above it, "" before the first; it is in no block."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A document. source: its file as it was named, with the line for a row of a file of rows."""

    source: str
    title: str
    text: str
    sections: tuple[Section, ...]


@dataclass
class Draft:
    """A document that is being written, block by block. title: the first heading where none is given."""

    source: str
    title: str = ""
    parts: list[str] = field(default_factory=list)
    length: int = 0
    headings: list[tuple[int, str]] = field(default_factory=list)
    sections: list[tuple[str, list[Block]]] = field(default_factory=list)

    def heading(self, level: int, text: str) -> None:
        """Begin a section. level: 1 for the highest; headings of this level and below it are over."""
        text = " ".join(text.split())
        if not text:
            return
        self.headings = [(above, name) for above, name in self.headings if above < level]
        self.headings.append((level, text))
        self.title = self.title or text
        self._append(text)
        self.sections.append((HEADING_JOIN.join(name for _, name in self.headings), []))

    def add(self, text: str, *, is_code: bool = False) -> None:
        """Add a block; one without a letter is left out."""
        text = text.strip("\r\n\f\v") if is_code else text.strip()
        if not text.strip():
            return
        if not self.sections:
            self.sections.append(("", []))
        start = self._append(text)
        self.sections[-1][1].append(Block(start, start + len(text), is_code))

    def _append(self, text: str) -> int:
        """Add text and return where it begins."""
        gap = BLOCK_GAP if self.parts else ""
        start = self.length + len(gap)
        self.parts.append(gap + text)
        self.length = start + len(text)
        return start

    def document(self) -> Document:
        """The document as far as it was written; sections without a block are left out."""
        sections = tuple(Section(heading, tuple(blocks)) for heading, blocks in self.sections if blocks)
        return Document(self.source, self.title or self.source, "".join(self.parts), sections)
