"""Documents as they lie in a folder, cut into passages that a search can find.

document.py     A document
documents.py    Reads documents
formats.py      How each kind of file becomes a document
html_text.py    The text of an HTML page, by headings and blocks
office_text.py  The text of a .docx and of a .pdf file
passages.py     Passages
"""
