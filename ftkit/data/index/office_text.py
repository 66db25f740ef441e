"""The text of a .docx and of a .pdf file.

A .docx is a zip of XML: both are read in parts, so that a bomb is refused before it grows, and a document type
declaration, which no Word document has, is refused altogether. Needs pypdf for .pdf: pip install 'ftkit[rag]'.
"""

import logging
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from ftkit.config.disk import size_text
from ftkit.config.errors import UserError, first_line
from ftkit.config.foreign import foreign, tried
from ftkit.data.index.document import Draft

MAX_XML_BYTES = 64 * 2**20  # of a .docx file's text, unpacked
PART_BYTES = 2**16
MAX_PAGES, MAX_LETTERS = 5_000, 50_000_000  # of a .pdf file
PDF_CPU_SECONDS = 60
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SIGNS = {f"{WORD} tab": "\t", f"{WORD} br": "\n", f"{WORD} cr": "\n"}
MAIN_PART = "word/document.xml"
HEADING_STYLE = re.compile(r"(?:heading|berschrift|titre)\s*([1-9])", re.IGNORECASE)
CODE_STYLE = re.compile(r"code|preformatted|verbatim", re.IGNORECASE)
DAMAGE = (zipfile.BadZipFile, KeyError, EOFError, zlib.error, NotImplementedError, RuntimeError, expat.ExpatError,
          ValueError)  # fmt: skip


def add_docx(draft: Draft, path: Path) -> None:
    """Add the paragraphs of a .docx file to a draft, by their heading styles. Raises UserError for one that is none."""
    code: list[str] = []
    try:
        for style, text in paragraphs(path):
            if CODE_STYLE.search(style):
                code.append(text)
                continue
            draft.add("\n".join(code), is_code=True)
            code.clear()
            if heading := HEADING_STYLE.search(style):
                draft.heading(int(heading[1]), text)
            elif style.lower() == "title":
                draft.heading(1, text)
            else:
                draft.add(text)
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(f"{path}: not a readable .docx file ({first_line(error)}); save it again") from error
    draft.add("\n".join(code), is_code=True)


def paragraphs(path: Path) -> Iterator[tuple[str, str]]:
    """(style, text) of each paragraph, in order; of a table each cell is one."""
    with zipfile.ZipFile(path) as archive, archive.open(MAIN_PART) as file:
        reader, num_bytes = WordReader(), 0
        while part := file.read(PART_BYTES):
            num_bytes += len(part)
            if num_bytes > MAX_XML_BYTES:
                raise UserError(f"{path}: unpacks to more than {size_text(MAX_XML_BYTES)}; split it")
            reader.parser.Parse(part, False)
            if reader.has_entities:
                raise UserError(f"{path}: declares entities, which no Word document does; save it again")
            yield from reader.taken()
        reader.parser.Parse(b"", True)
        yield from reader.taken()


class WordReader:
    """Takes the XML of a Word document part by part and keeps its paragraphs, never the tree."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.end
        self.parser.CharacterDataHandler = self.letters
        self.parser.StartDoctypeDeclHandler = self.refuse
        self.open: list[tuple[list[str], list[str]]] = []  # (style, text) of paragraphs, which may hold others in boxes
        self.ended: list[tuple[str, str]] = []
        self.in_text = self.has_entities = False

    def refuse(self, *_) -> None:
        """Note a document type declaration, and read no further."""
        self.has_entities = True
        self.parser.StartElementHandler = self.parser.CharacterDataHandler = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        if name == f"{WORD} p":
            self.open.append(([], []))
        elif self.open and name == f"{WORD} pStyle":
            self.open[-1][0].append(attributes.get(f"{WORD} val", ""))
        elif self.open and name in SIGNS:
            self.open[-1][1].append(SIGNS[name])
        self.in_text = name == f"{WORD} t"

    def letters(self, text: str) -> None:
        """Take the text of a run; what was deleted stands in elements of another name."""
        if self.in_text and self.open:
            self.open[-1][1].append(text)

    def end(self, name: str) -> None:
        """End an element."""
        self.in_text = False
        if name == f"{WORD} p" and self.open:
            style, text = self.open.pop()
            self.ended.append(("".join(style[:1]), "".join(text)))

    def taken(self) -> list[tuple[str, str]]:
        """The paragraphs that ended since the last call."""
        ended, self.ended = self.ended, []
        return ended


def add_pdf(draft: Draft, path: Path) -> None:
    """Add the pages of a .pdf file to a draft, each a section. Raises UserError without pypdf, and for no such file."""
    try:
        import pypdf
    except ImportError as error:
        raise UserError(f"{path}: .pdf files need pypdf; pip install 'ftkit[rag]', or save it as text") from error
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of each small fault of a file
    fix = "leave it out, or save it as text"
    tried(lambda: list(pages(pypdf, path)), str(path), fix, cpu_seconds=PDF_CPU_SECONDS)
    with foreign(path, "not a readable .pdf file", fix):
        found = list(pages(pypdf, path))
    if not any(text.strip() for text in found):
        raise UserError(f"{path}: holds no text, only pictures of it; read it with an OCR program first")
    for number, text in enumerate(found, start=1):
        draft.heading(1, f"page {number}")
        for block in re.split(r"\n\s*\n", text):
            draft.add(block)
    draft.title = ""


def pages(pypdf, path: Path) -> Iterator[str]:
    """The text of each page."""
    reader = pypdf.PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise UserError(f"{path}: needs a password; save it without one")
    if len(reader.pages) > MAX_PAGES:
        raise UserError(f"{path}: has {len(reader.pages):,} pages, more than {MAX_PAGES:,}; split it")
    num_letters = 0
    for page in reader.pages:
        text = page.extract_text()
        num_letters += len(text)
        if num_letters > MAX_LETTERS:
            raise UserError(f"{path}: holds more than {MAX_LETTERS:,} letters; split it")
        yield text
