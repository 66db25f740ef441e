"""Documents are read by their structure, cut into passages where it allows, and hostile ones are one line."""

import os
import random
import zipfile

import pytest

from ftkit.config.errors import UserError
from ftkit.data.index import documents as reading
from ftkit.data.index import formats, office_text
from ftkit.data.index.document import Draft
from ftkit.data.index.documents import read_documents
from ftkit.data.index.passages import count_words, split

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MARKDOWN = "# Plans\n\nThree plans.\nAll have mail.\n\n## Backups\n\n```sh\ntar -x\n\ncp a b\n```\n\n- daily\n- weekly\n\nOld\n===\n\nGone.\n"
RST = "=====\nPlans\n=====\n\nThree plans.\n\nBackups\n-------\n\n    tar -x\n\nDaily.\n"
HTML = """<!DOCTYPE html><html><head><title>Plans &amp; prices</title><style>p {}</style></head><body><nav>Home</nav>
<main><h1>Plans<a class="headerlink" href="#p">¶</a></h1><p>Three  <b>plans</b>.</p><h2>Backups</h2><pre>tar -x

  cp a b</pre><ul><li>daily<li>weekly</ul><table><tr><td>A</td><td>7</td></tr></table><p hidden>secret</p></main>
<footer>Imprint</footer></body></html>"""
RUN = "<w:r><w:t>{}</w:t></w:r>"


def docx(path, body: str, head: str = "", size: int = 0) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        xml = f"{head}<w:document {W}><w:body>{body}{' ' * size}</w:body></w:document>"
        archive.writestr("word/document.xml", xml)


def paragraph(text: str, style: str = "") -> str:
    named = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{named}{RUN.format(text)}</w:p>"


def shape(document) -> list[tuple[str, list[str]]]:
    return [
        (section.heading, [document.text[block.start : block.end] for block in section.blocks])
        for section in document.sections
    ]


def one(path):
    (found,) = read_documents([path])
    return found


FORMS = {
    "md": (MARKDOWN, "Plans", [("Plans", ["Three plans.\nAll have mail."]), ("Plans > Backups", ["```sh\ntar -x\n\ncp a b\n```", "- daily\n- weekly"]), ("Old", ["Gone."])]),
    "rst": (RST, "Plans", [("Plans", ["Three plans."]), ("Plans > Backups", ["    tar -x", "Daily."])]),
    "txt": ("One.\n\nTwo\nlines.\n", "a.txt", [("", ["One.", "Two\nlines."])]),
    "html": (HTML, "Plans & prices", [("Plans", ["Three plans."]), ("Plans > Backups", ["tar -x\n\n  cp a b", "daily", "weekly", "A\t7"])]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "text", "title", "expected"), [(name, *form) for name, form in FORMS.items()], ids=FORMS
)
def test_a_document_is_its_headings_and_blocks(tmp_path, monkeypatch, suffix, text, title, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"a.{suffix}").write_text(text, encoding="utf-8")
    found = one(f"a.{suffix}")
    assert (found.title, shape(found)) == (title, expected) and found.source == f"a.{suffix}"


def test_word_documents_are_read_by_their_styles(tmp_path):
    deleted = "<w:p><w:r><w:t>kept</w:t><w:tab/></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    docx(
        tmp_path / "a.docx",
        paragraph("Plans", "Heading1")
        + paragraph("Three.")
        + paragraph("x = 1", "SourceCode")
        + paragraph("y = 2", "SourceCode")
        + paragraph("Mehr", "berschrift2")
        + deleted,
    )
    assert shape(one(tmp_path / "a.docx")) == [("Plans", ["Three.", "x = 1\ny = 2"]), ("Plans > Mehr", ["kept"])]


def test_each_row_is_a_document_with_its_line(tmp_path):
    path = tmp_path / "faq.jsonl"
    path.write_text('{"text": "Seven euros.", "title": "Price"}\n\n{"content": "# Backups\\n\\nDaily."}\n')
    first, second = read_documents([path])
    assert (first.source, first.title, shape(first)) == (f"{path}:1", "Price", [("Price", ["Seven euros."])])
    assert (second.source, shape(second)) == (f"{path}:3", [("Backups", ["Daily."])])


def test_pdf_pages_are_sections(tmp_path):
    pytest.importorskip("pypdf")
    (tmp_path / "a.pdf").write_bytes(pdf_of("Three plans have backups."))
    assert shape(one(tmp_path / "a.pdf")) == [("page 1", ["Three plans have backups."])]


def pdf_of(text: str, *, pages: str = "<< /Type /Pages /Kids [3 0 R] /Count 1 >>") -> bytes:
    """A PDF of one page. pages: its tree."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>", pages,
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]  # fmt: skip
    found, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(found))
        found += f"{number} 0 obj\n{body}\nendobj\n".encode()
    start = len(found)
    found += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    found += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    return found + f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()


def bomb(path):
    docx(path, "", size=3_000_000)


def entities(path):
    docx(path, paragraph("&b;"), '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]>')


HOSTILE = {
    "a zip that unpacks to too much": ("a.docx", bomb, "unpacks to more than 1 MB; split it"),
    "entities": ("a.docx", entities, "declares entities, which no Word document does; save it again"),
    "no zip": ("a.docx", b"hello", "not a readable .docx file (File is not a zip file); save it again"),
    "a zip of something else": ("a.docx", lambda path: zipfile.ZipFile(path, "w").close(), "not a readable .docx file"),
    "XML that breaks off": ("a.docx", lambda path: docx(path, "<w:p>"), "not a readable .docx file (mismatched tag"),
    "a binary file as text": ("a.txt", b"MZ\x90\0\x03\0\0\0", "holds bytes that are no text; save it as UTF-8"),
    "UTF-16 without its mark": ("a.txt", "Plan".encode("utf-16-le"), "holds bytes that are no text; save it as UTF-8, or leave it out"),
    "a binary file as a page": ("a.html", b"<p>\0\0</p>", "holds bytes that are no text; save it as UTF-8"),
    "a row without a text": ("a.jsonl", b'{"text": "a"}\n{"txt": 1}\n', 'a.jsonl:2: no "text" in this row'),
    "a row that is none": ("a.jsonl", b'{"text": "a"}\n[1]\n', "a.jsonl:2: "),
    "no PDF": ("a.pdf", b"%PDF-1.4\nnothing", "not a readable .pdf file"),
    "a PDF whose pages are their own parents": ("a.pdf", pdf_of("x", pages="<< /Type /Pages /Kids [2 0 R] /Count 1 >>"), "a.pdf"),
    "a PDF without a text": ("a.pdf", pdf_of(""), "holds no text, only pictures of it"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), list(HOSTILE.values()), ids=HOSTILE)
def test_a_hostile_document_is_one_line_or_one_count(tmp_path, monkeypatch, name, content, message):
    if name.endswith(".pdf"):
        pytest.importorskip("pypdf")
    monkeypatch.setattr(office_text, "MAX_XML_BYTES", 1_000_000)
    path = tmp_path / name
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_documents([path]))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "b.txt").write_text("Fine.")
    skipped = []
    assert [found.text for found in read_documents([tmp_path], skipped.append)][-1] == "Fine."
    assert [str(mistake) for mistake in skipped] == [str(caught.value)]


def test_encodings_are_found(tmp_path):
    for number, (encoding, text) in enumerate((("utf-8-sig", "Größe"), ("utf-16", "Größe"), ("cp1252", "Größe\r\n"))):
        (tmp_path / f"{number}.txt").write_bytes(text.encode(encoding))
    assert [document.text for document in read_documents([tmp_path])] == ["Größe"] * 3


def test_nesting_costs_nothing(tmp_path):
    (tmp_path / "a.html").write_text("<div>" * 20_000 + "<p>deep</p>" + "<b><table>" * 5_000)
    assert shape(one(tmp_path / "a.html")) == [("", ["deep"])]
    docx(tmp_path / "a.docx", "<w:p>" * 5_000 + RUN.format("deep") + "</w:p>" * 5_000)
    assert shape(one(tmp_path / "a.docx")) == [("", ["deep"])]


def test_a_reader_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    def forever(path, source):
        while True:
            pass

    monkeypatch.setattr(reading, "READ_SECONDS", 0.05)
    monkeypatch.setitem(reading.READERS, ".txt", formats.Reader("text", forever))
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match="takes more than 0.05 seconds; leave it out, or save it as text"):
        list(read_documents([tmp_path / "a.txt"]))


def test_no_link_leads_out_of_a_folder(tmp_path):
    (tmp_path / "secret.txt").write_text("Password.")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/b.txt").write_text("Password.")
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("Fine.")
    (folder / ".hidden.txt").write_text("Hidden.")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "more").symlink_to(tmp_path / "more")
    (folder / "program.exe").write_bytes(b"MZ")
    os.mkfifo(folder / "pipe.txt")
    skipped = []
    assert [document.text for document in read_documents([folder], skipped.append)] == ["Fine."]
    reasons = sorted(str(mistake).removeprefix(f"{folder}/").partition(";")[0] for mistake in skipped)
    assert reasons == [
        "link.txt: is a link",
        "more: is a link",
        "pipe.txt: is no document",
        "program.exe: is no document",
    ]


def test_what_is_skipped_is_counted_by_reason(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("Fine.")
    for name in ("b.exe", "c.exe"):
        (tmp_path / name).write_bytes(b"MZ")
    list(read_documents([tmp_path]))
    assert [record.message.partition(": ")[0] for record in caplog.records] == ["skipped 2 files"]


@pytest.mark.parametrize("name", ["nowhere", "a.exe"])
def test_what_was_named_and_is_no_document_is_refused(tmp_path, name):
    (tmp_path / "a.exe").write_bytes(b"MZ")
    with pytest.raises(
        UserError, match="no such file or folder; check the path|is no kind of document that is read; give .txt"
    ):
        list(read_documents([tmp_path / name]))


# Passages


def test_passages_keep_blocks_whole_and_never_span_two_headings():
    draft = Draft("a.md")
    draft.heading(1, "One")
    draft.add("a b c")
    draft.add("d e f")
    draft.add("x\ny\nz", is_code=True)
    draft.heading(1, "Two")
    draft.add("g")
    found = split(draft.document(), count_words, max_tokens=7)
    assert [(one.id, one.heading, one.text) for one in found] == [
        ("a.md#1", "One", "a b c\n\nd e f"), ("a.md#2", "One", "x\ny\nz"), ("a.md#3", "Two", "g"),
    ]  # fmt: skip


def test_a_block_that_is_too_long_is_cut_at_sentences_then_at_spaces_then_anywhere():
    draft = Draft("a.txt")
    draft.add('One two. "Three four." Five six seven eight nine ten.')
    draft.add("x" * 40)
    texts = [one.text for one in split(draft.document(), len, max_tokens=23)]
    assert texts == ['One two. "Three four."', "Five six seven eight", "nine ten.", "x" * 20, "x" * 20]


def test_every_letter_is_in_a_passage_and_none_is_too_long():
    rng = random.Random(0)
    pieces = [
        "word",
        "Word.",
        '"quoted."',
        "\n",
        "\n\n",
        "x" * 50,
        "# Heading",
        "```\ncode a\n\ncode b\n```",
        "né",
        "句子。",
    ]
    for _ in range(150):
        draft, limit = Draft("a.md"), rng.choice([8, 20, 60])
        formats.add_marked(draft, " ".join(rng.choices(pieces, k=40)), has_fences=True)
        document = draft.document()
        found = split(document, count_words, limit)
        blocks = [document.text[block.start : block.end] for section in document.sections for block in section.blocks]
        assert "".join("".join(one.text for one in found).split()) == "".join("".join(blocks).split())
        for one in found:
            assert one.text == document.text[one.start : one.end] and count_words(one.text) <= limit
