"""A report as blocks, written as Markdown or as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "Heading", "Paragraph", "Picture", "Table", "to_html", "to_markdown", "to_text"]


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading below the title."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose first column names its rows."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    numeric: bool = True
    """Whether what follows the first column is numbers, to be aligned on the right."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG file."""

    path: Path
    caption: str


Block = Heading | Paragraph | Table | Picture


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Markdown; pictures are named as files of the same folder."""
    return "\n\n".join([f"# {_escape_markdown(title)}", *map(_markdown, blocks)]) + "\n"


def to_text(title: str, blocks: Sequence[Block]) -> str:
    """Text for a terminal; pictures are left out."""
    return "\n\n".join([title, *(_text(block) for block in blocks if not isinstance(block, Picture))]) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One HTML file with its pictures inside: it opens anywhere and asks no server for anything."""
    body = "\n".join(map(_html, blocks))
    safe = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # The browser itself holds the file to the promise, and runs nothing that a name could smuggle in.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{safe}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{safe}</h1>\n{body}\n"
        "</main>\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"## {_escape_markdown(block.text)}"
        case Paragraph():
            return _escape_markdown(block.text)
        case Picture():
            return f"![{_escape_markdown(block.caption)}]({block.path.name})"
        case Table():
            rows = [block.head, ["---", *["---:" if block.numeric else "---"] * (len(block.head) - 1)], *block.rows]
            lines = [
                "| " + " | ".join(cell if number == 1 else _escape_markdown(cell) for cell in row) + " |"
                for number, row in enumerate(rows)
            ]
            return "\n\n".join(["\n".join(lines), *map(_escape_markdown, block.notes)])


def _text(block: Heading | Paragraph | Table) -> str:
    if not isinstance(block, Table):
        return block.text
    rows = [block.head, *block.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *block.notes])


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h2>{html.escape(block.text)}</h2>"
        case Paragraph():
            return f"<p>{html.escape(block.text)}</p>"
        case Picture():
            data = base64.b64encode(block.path.read_bytes()).decode("ascii")
            caption = html.escape(block.caption)
            return (
                f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption>'
                "</figure>"
            )
        case Table():
            head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in block.head)
            rows = "\n".join(
                "<tr>" + f'<th scope="row">{html.escape(row[0])}</th>' + "".join(map(_cell, row[1:])) + "</tr>"
                for row in block.rows
            )
            kind = "" if block.numeric else ' class="facts"'
            notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in block.notes)
            body = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
            return f'<div class="wide"><table{kind}>\n{body}</table></div>{notes}'


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"


def _escape_markdown(text: str) -> str:
    text = " ".join(text.split())
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text


_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f5f7; color: #1b1f24; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 32px 64px; background: #fff; }
h1 { font-size: 28px; margin: 8px 0 16px; }
h2 { font-size: 20px; margin: 40px 0 12px; padding-bottom: 4px; border-bottom: 2px solid #0072b2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; min-width: 50%; }
th, td { padding: 6px 12px; border-bottom: 1px solid #d8dce1; text-align: right; }
td { white-space: nowrap; }
.facts td, .facts thead th { text-align: left; white-space: normal; overflow-wrap: anywhere; }
thead th { background: #eef1f4; border-bottom: 2px solid #b4bac2; vertical-align: bottom; }
th:first-child { text-align: left; font-weight: 600; }
tbody tr:hover { background: #f6fafd; }
figure { margin: 24px 0; }
figure img { max-width: 100%; height: auto; border: 1px solid #e3e6ea; }
figcaption, .note { color: #4a525c; font-size: 14px; }
.note { margin: 6px 0; }
@media print { body { background: #fff; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""
