"""What the pages of the documentation say: links, headings, blocks of code, command lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}\S.*\n(?: {4}.*\n)*)", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(\s*<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\s*\)|<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
_PROGRAM = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:exec )?(?:\S*python3? -m )?facerec +(?=\S)")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*|-h)(?![\w])")
_END_OF_COMMAND = {"|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1", "2>"}


class Block(NamedTuple):
    """A block of code of a page."""

    page: str
    language: str
    text: str


class CommandLine(NamedTuple):
    """One call of ``facerec`` in a page."""

    page: str
    text: str
    """What follows the name of the program."""
    is_block: bool
    """Whether it stands in a block of code and not within a sentence."""


def pages() -> list[str]:
    """Every page of the project, by its path from the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def read_page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(page: str, text: str) -> list[Block]:
    """Fenced blocks, and those that four blanks make."""
    fenced = [Block(page, match[2].strip(), match[3]) for match in _FENCE.finditer(text)]
    rest = _FENCE.sub("\n", text)
    indented = [Block(page, "", re.sub(r"^ {4}", "", one, flags=re.MULTILINE)) for one in _INDENTED.findall(rest)]
    return fenced + indented


def sentences(text: str) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("\n", text)


def inline_code(text: str) -> list[str]:
    return _INLINE.findall(sentences(text))


def links(text: str) -> list[str]:
    """Targets of links and pictures, outside of code."""
    prose = _INLINE.sub("", sentences(text))
    return [first or second for first, second in _LINK.findall(prose)]


def anchors(text: str) -> set[str]:
    """What GitHub names the headings of a page."""
    names: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", sentences(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        names.append(f"{name}-{names.count(name)}" if name in names else name)
    return set(names)


def broken_link(page: str, link: str) -> bool:
    """Whether a link leads to no file, or to no heading of it; addresses of the web are not asked."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return False
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8"))


def command_lines(page: str, text: str) -> Iterator[CommandLine]:
    """Every call of the program, in blocks and in sentences."""
    for block in blocks(page, text):
        if block.language in ("", "sh", "bash", "console"):
            for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
                if match := _PROGRAM.match(line.strip()):
                    yield CommandLine(page, line.strip()[match.end() :], True)
    for code in inline_code(text):
        if match := _PROGRAM.match(code):
            yield CommandLine(page, code[match.end() :], False)


def options_of(line: str) -> list[str]:
    """The options that a line or a synopsis names."""
    return _OPTION.findall(line.split(" #")[0])


def is_synopsis(line: str) -> bool:
    """Whether a line leaves something open, so that no shell would take it as it stands."""
    return any(mark in line.split(" #")[0] for mark in ("…", "[", "(", "|"))


def arguments_of(line: str) -> list[str]:
    """The arguments of the call, up to where the shell's own signs end it."""
    arguments: list[str] = []
    for word in shlex.split(line, comments=True):
        if word in _END_OF_COMMAND:
            break
        arguments.append(word.removesuffix(";"))
        if word.endswith(";"):
            break
    return arguments
