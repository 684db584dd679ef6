"""Reports need nothing but themselves, and what names hold stays text."""

import re
from html.parser import HTMLParser

import pytest

from facerec.evaluation.document import Heading, Paragraph, Picture, Table, to_html, to_markdown, to_text
from facerec.evaluation.plotting import new_figure, save_figure

NASTY = '<script>alert("x")</script> | [a](http://evil.example) `b`'


@pytest.fixture
def blocks(tmp_path):
    save_figure(new_figure(width=1, height=1), tmp_path / "p.png")
    return [
        Heading(text=f"Set {NASTY}"),
        Paragraph(text=NASTY),
        Table(head=("set", "value"), rows=[(NASTY, "1.5")], notes=["a note"]),
        Table(head=("what", ""), rows=[("command", "x")], numeric=False),
        Picture(path=tmp_path / "p.png", caption="a picture"),
    ]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "background")]

    def handle_data(self, data):
        self.texts.append(data)


def test_html_asks_nobody_for_anything_and_runs_nothing(blocks):
    page = to_html(f"Title {NASTY}", blocks)
    reader = Reader()
    reader.feed(page)
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    assert [address[:22] for address in reader.addresses] == ["data:image/png;base64,"]
    assert "default-src 'none'" in page
    assert NASTY in "".join(reader.texts)
    assert not re.search(r"url\(|@import", page)


def test_markdown_names_its_pictures_and_keeps_its_tables_whole(blocks):
    text = to_markdown("Title", blocks)
    assert "![a picture](p.png)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[:2] == ["| set | value |", "| --- | ---: |"]
    assert len(re.findall(r"(?<!\\)\|", rows[2])) == 3
    assert "<script>" not in text


def test_a_terminal_gets_columns_and_no_pictures(blocks):
    text = to_text("Title", blocks)
    assert text.startswith("Title\n\n")
    assert "p.png" not in text
    assert f"{NASTY}    1.5" in text
