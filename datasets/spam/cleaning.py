"""A mail as text: subject and body without headers, quotes, signatures and list footers, with what is private masked.

text = clean_mail(raw)
"""

import email
import email.header
import email.utils
import html
import re
from email.message import Message
from html.parser import HTMLParser

MAX_CHARACTERS = 20_000  # of a mail; what follows is left out
HIDDEN_ELEMENTS = ("script", "style", "head", "title")
BREAKING_ELEMENTS = ("br", "p", "div", "tr", "li", "h1", "h2", "h3", "h4", "table", "hr")
NAME_HEADERS = ("From", "To", "Cc", "Reply-To", "Sender", "X-Sender")

EMAIL = re.compile(r"[\w.+%=-]+\s?@\s?[\w-]+(?:\.[\w-]+)*", re.IGNORECASE)
URL = re.compile(r"(?:\b(?:https?|ftp)\s?:\s?//|\bmailto:|\bwww\.)[^\s<>\"')\]]*", re.IGNORECASE)
ENDINGS = (
    "com|net|org|edu|gov|mil|info|biz|int|name|tv|cc|ws|to|ie|uk|de|fr|it|es|nl|be|ch|at|se|no|dk|fi|pl|ru|us|ca|au|nz|jp|"
    "cn|kr|tw|hk|in|br|mx|za|eu|cz|hu|ro|bg|gr|tr|il|ar|cl|my|sg|th|ph|id"
)
HOST = re.compile(rf"\b(?:[a-z0-9-]+\.)+(?:{ENDINGS})\b(?:/[^\s<>\"')\]]*)?", re.IGNORECASE)
IP = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
PHONE = re.compile(r"(?<![\w.])(?:\+|\(|1[-. ])?\(?\d{2,4}\)?(?:[-. /)]{1,2}\d{2,4}){2,4}(?![\w])|\b\d{3}[-.]\d{4}\b")
NUMBER = re.compile(r"\d{6,}")
FIELDS = (
    r"X-[\w-]+|From|To|Cc|Bcc|Date|Sent|Subject|Reply-To|Message-ID|Received|Return-Path|Sender|Content-[\w-]+|"
    r"MIME-Version|Delivered-To|List-[\w-]+|Precedence|Errors-To|In-Reply-To|References|Organization|User-Agent"
)
HEADER_LINE = re.compile(rf"^(?:{FIELDS})[ \t]*:", re.IGNORECASE | re.MULTILINE)
PERSON_LINE = re.compile(r"^(?:From|To|Cc|Bcc|Reply-To|Sender)[ \t]*:[ \t]*\S.*$", re.IGNORECASE | re.MULTILINE)
NAMED_ADDRESS = re.compile(r"(?:\"?[A-Z][\w.'-]*\"?,? ){1,3}(?=[<(]?\[email\])")
QUOTED_LINE = re.compile(r"^[ \t]*(?:[\w]{0,3}[>|}]).*$", re.MULTILINE)
QUOTE_LEAD = re.compile(r"^.{0,120}\b(?:wrote|writes|said|schrieb)[ \t]*:[ \t]*$", re.IGNORECASE | re.MULTILINE)
# From here on a mail is its signature, or what a mailing list or a free mailer added.
TAIL = re.compile(
    r"^(?:-- ?$|_{15,}|-{20,}[ ~>=-]*$\s*(?:This|To unsubscribe|Sponsor|Get your|Do You)|-{5,} ?Yahoo! Groups|"
    r"={15,}\s*To unsubscribe|To unsubscribe from this group|This sf\.net email is sponsored|Do You Yahoo!\?|"
    r"-{3,}~-->|Your use of Yahoo! Groups is subject)",
    re.MULTILINE | re.IGNORECASE,
)
LIST_TAG = re.compile(r"\[[\w .@'-]{2,30}\]\s*")  # in a subject, in front
# How the corpus hid its keepers.
CORPUS_MARKS = re.compile(r"\b(?:zzzz\w*|spamassassin\w*|taint|yyyy)\b", re.IGNORECASE)


class TextOfHtml(HTMLParser):
    """Gathers what a reader of the page would see."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in HIDDEN_ELEMENTS
        if tag in BREAKING_ELEMENTS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.hidden -= tag in HIDDEN_ELEMENTS and self.hidden > 0

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data)


def clean_mail(raw: str) -> str:
    """Subject, a blank line and body of a mail as it was sent, cleaned and masked; one where the other is empty."""
    message = email.message_from_string(raw.replace("\r\n", "\n"))
    names = header_names(message)
    subject = LIST_TAG.sub("", decoded_header(message.get("Subject", "")))
    body = body_text(message)[: 2 * MAX_CHARACTERS]
    body = QUOTE_LEAD.sub("", QUOTED_LINE.sub("", body))
    tail = TAIL.search(body)
    body = body[: tail.start()] if tail else body
    parts = [tidy(mask(part, names)) for part in (subject, body)]
    return "\n\n".join(filter(None, parts))[:MAX_CHARACTERS].strip()


def decoded_header(value) -> str:
    """A header's text; what can't be decoded stays as it is."""
    try:
        return str(email.header.make_header(email.header.decode_header(str(value))))
    except (LookupError, ValueError, UnicodeError):
        return str(value)


def header_names(message: Message) -> set[str]:
    """Words of four letters and more in the names of sender and receivers, and full names."""
    pairs = email.utils.getaddresses([decoded_header(v) for name in NAME_HEADERS for v in message.get_all(name, [])])
    names = set()
    for name, address in pairs:
        full = " ".join(re.findall(r"[^\W\d_]+", name))
        names |= {full} if " " in full else set()
        names |= {word for word in re.findall(r"[A-Z][^\W\d_]{2,}", name)}
        local = address.partition("@")[0]
        names |= {local} if len(local) >= 5 else set()
    return {name for name in names if len(name) >= 3}


def body_text(message: Message) -> str:
    """The plain text of a mail; the text of its HTML where it has no other."""
    plain, pages = [], []
    for part in message.walk():
        if part.is_multipart() or part.get_content_disposition() == "attachment":
            continue
        if part.get_content_type() == "text/plain":
            plain.append(decoded_part(part))
        elif part.get_content_type() == "text/html":
            pages.append(page_text(decoded_part(part)))
    found = "\n".join(plain)
    if "<html" in found.lower() or found.lower().count("<br") > 2:  # a page that calls itself plain
        found = page_text(found)
    return found if found.strip() else "\n".join(pages)


def decoded_part(part: Message) -> str:
    """A part's text, by its transfer encoding. The corpus itself was decoded as Latin-1 or UTF-8 before."""
    content = part.get_payload(decode=True)
    if content is None:
        return str(part.get_payload())
    for charset in (part.get_content_charset() or "utf-8", "utf-8"):
        try:
            return content.decode(charset)
        except (LookupError, UnicodeDecodeError):
            continue
    return content.decode("latin-1")


def page_text(page: str) -> str:
    """What a reader of an HTML page would see."""
    parser = TextOfHtml()
    try:
        parser.feed(page)
        parser.close()
    except AssertionError:  # html.parser's answer to some broken declarations
        return html.unescape(re.sub(r"<[^>]*>", " ", page))
    return "".join(parser.parts)


def mask(text: str, names: set[str]) -> str:
    """The text with addresses, hosts, numbers, names and header fields replaced by what they are."""
    text = URL.sub("[url]", text)
    text = EMAIL.sub("[email]", text)
    text = HOST.sub("[url]", text)
    text = IP.sub("[ip]", text)
    text = PHONE.sub("[phone]", text)
    text = NUMBER.sub("[number]", text)
    text = NAMED_ADDRESS.sub("[name] ", text)
    text = PERSON_LINE.sub("[header]: [name]", text)
    text = HEADER_LINE.sub("[header]:", text)
    text = CORPUS_MARKS.sub("[name]", text)
    if names:
        longest_first = sorted(map(re.escape, names), key=len, reverse=True)
        text = re.sub(rf"\b(?:{'|'.join(longest_first)})\b", "[name]", text)
    return re.sub(r"\[name\](?:\s\[name\])+", "[name]", text)


def tidy(text: str) -> str:
    """One space between words, at most one blank line; runs of one sign and unbroken code are cut."""
    text = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
    text = re.sub(r"([^\w\s])\1{4,}", r"\1\1\1", text)
    text = re.sub(r"\S{60,}", " ", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    return re.sub(r"\s*\n\s*\n\s*", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()
