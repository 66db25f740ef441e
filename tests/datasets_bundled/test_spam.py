"""The bundled spam sample is what its card says; the script for the real set cleans, masks, deduplicates and splits."""

import hashlib
import importlib.util
import json
import re
import sys
from itertools import combinations
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from ftkit.config.errors import UserError
from ftkit.data.tokens.labelled import load_labelled_rows

FOLDER = Path(__file__).resolve().parents[2] / "datasets/spam"


@pytest.fixture(scope="module")
def sample():
    return load_labelled_rows("spam")


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9']+", text.lower()))


def test_the_sample_has_the_rows_and_bytes_of_its_card(sample):
    card = (FOLDER / "README.md").read_text()
    assert (len(sample.train), len(sample.test), sample.labels) == (240, 80, ["ham", "spam"])
    assert sum(row["label"] for row in sample.train) == 120 and sum(row["label"] for row in sample.test) == 40
    for name in ("train.jsonl", "test.jsonl"):
        assert f"`{hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()}`" in card


def test_length_tells_nothing(sample):
    for rows in (sample.train, sample.test):
        for length in (len, lambda text: len(text.split())):
            area = roc_auc_score([row["label"] for row in rows], [length(row["text"]) for row in rows])
            assert 0.47 < area < 0.53


def test_no_two_messages_share_more_than_a_third_of_their_words(sample):
    sets = [words(row["text"]) for row in sample.train + sample.test]
    assert max(len(one & other) / len(one | other) for one, other in combinations(sets, 2)) <= 1 / 3


@pytest.fixture(scope="module")
def build():
    sys.path.insert(0, str(FOLDER))  # as when the script is run
    try:
        spec = importlib.util.spec_from_file_location("spam_build", FOLDER / "build.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("cleaning", None)


MAIL = """From: "Ann Example" <ann.example@mail.test>
To: list@lists.test
Subject: [some-list] Re: Lunch with Ann on Friday
X-Mailer: Whatever 1.0

On Monday, Bob wrote:
> Where do we meet?

Meet Ann at http://www.place.test/secret?id=1 or write to bob@office.test,
or ring (555) 123-4567. Room 10, account 123456789, host 10.1.2.3.

From: Carl Other <carl@other.test>
X-Spam-Status: No

Bring the big umbrella!!!!!!!!!!

--
Ann Example, Chief of Lunch
"""


def test_a_mail_is_cleaned_and_masked(build):
    assert build.clean_mail(MAIL) == (
        "Re: Lunch with [name] on Friday\n\n"
        "Meet [name] at [url] or write to [email],\n"
        "or ring [phone]. Room 10, account [number], host [ip].\n\n"
        "[header]: [name]\n[header]: No\n\nBring the big umbrella!!!"
    )


def test_the_text_of_a_page_is_taken_where_there_is_no_plain_one(build):
    page = "<html><head><title>x</title><style>p {}</style></head><body><p>Buy &amp; <b>save</b></p><p>now</p></body></html>"
    mail = f"Subject: =?iso-8859-1?Q?Caf=E9?=\nContent-Type: text/html; charset=us-ascii\n\n{page}"
    assert build.clean_mail(mail) == "Café\n\nBuy & save\nnow"
    both = (
        "Subject: s\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=B\n\n--B\nContent-Type: text/plain\n"
        f"Content-Transfer-Encoding: base64\n\naGVsbG8gdGhlcmU=\n--B\nContent-Type: text/html\n\n{page}\n--B--\n"
    )
    assert build.clean_mail(both) == "s\n\nhello there"


@pytest.fixture
def package(tmp_path, sample):
    """A package of the sample's messages as mails, each twice, with a short one."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/package.json").write_text('{"version": "0.0.1"}')
    for group, label in (("easy-ham-1", 0), ("easy-ham-2", 0), ("hard-ham-1", 0), ("spam-1", 1), ("spam-2", 1)):
        folder = tmp_path / "package/data" / group
        folder.mkdir(parents=True)
        rows = [row for row in sample.train if row["label"] == label][:20] + [{"text": "hi"}]
        for number, row in enumerate(rows):
            mail = {"text": f"From: a@b.test\nSubject: {row['text']}\n\n"}
            (folder / f"{number:05}.json").write_text(json.dumps(mail))
    return tmp_path / "package"


def test_the_build_deduplicates_splits_and_repeats_itself(build, package, tmp_path, capsys):
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        build.main([str(package), "--output_dir", str(out)])
    names = {"train.jsonl", "validation.jsonl", "test.jsonl", "README.md"}
    assert {path.name for path in outs[0].iterdir()} == names
    assert all((outs[0] / name).read_bytes() == (outs[1] / name).read_bytes() for name in names)
    rows = load_labelled_rows(str(outs[0]))
    assert rows.num_copies == 0 and len(rows.train) + len(rows.validation) + len(rows.test) <= 40
    assert len(rows.test) >= 7 and {row["label"] for row in rows.test} == {0, 1}
    card = (outs[0] / "README.md").read_text()
    assert (
        "5 mails with fewer than 5 words" in card
        and hashlib.sha256((outs[0] / "test.jsonl").read_bytes()).hexdigest() in card
    )
    with pytest.raises(UserError, match="one: exists; remove it first"):
        build.main([str(package), "--output_dir", str(outs[0])])


def test_a_folder_that_is_not_the_package_is_refused(build, tmp_path):
    with pytest.raises(UserError, match="easy-ham-1: no mails there; give the unpacked package itself"):
        build.main([str(tmp_path), "--output_dir", str(tmp_path / "out")])
