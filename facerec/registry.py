"""Names in a configuration and what they build.

A backbone or a head is one file and one line here. The target is text, so that names can be checked, listed and
completed without importing torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from facerec.errors import ConfigError, near_match

__all__ = ["BACKBONES", "HEADS", "Entry", "Registry"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One registered name."""

    name: str
    """The name as a configuration spells it."""
    target: str
    """``module:attribute`` of the builder."""
    source: str
    """The paper or the file that the implementation follows."""
    options: dict[str, Any] = field(default_factory=dict)
    """Optional settings that the builder accepts, with their defaults."""

    def load(self) -> Callable[..., Any]:
        """Import the builder."""
        module, _, attribute = self.target.partition(":")
        builder: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return builder


class Registry:
    """A closed set of names of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, target: str, *, source: str, **options: Any) -> None:
        """Register ``name``; names are unique."""
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = Entry(name=name, target=target, source=source, options=options)

    def names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def entry(self, name: str) -> Entry:
        """The entry of ``name``.

        Raises:
            ConfigError: the name is unknown; the message lists the known ones and the nearest.
        """
        if name not in self._entries:
            known = ", ".join(self._entries)
            raise ConfigError(f"unknown {self.kind} '{name}'{near_match(name, self._entries)}; known: {known}")
        return self._entries[name]


BACKBONES = Registry("backbone")
HEADS = Registry("head")

_BACKBONES = "facerec.models.backbones"
_HEADS = "facerec.models.heads"
_ARCFACE_TORCH = "arcface_torch backbones/iresnet.py; Duta et al. 2020, arXiv:2004.04989"
_IMAGENET = "He et al. 2015, arXiv:1512.03385, by torchvision; GAP-dropout-FC-BN1d head"

BACKBONES.add("iresnet18", f"{_BACKBONES}.iresnet:iresnet18", source=_ARCFACE_TORCH, dropout=0.0)
BACKBONES.add("iresnet34", f"{_BACKBONES}.iresnet:iresnet34", source=_ARCFACE_TORCH, dropout=0.0)
BACKBONES.add("iresnet50", f"{_BACKBONES}.iresnet:iresnet50", source=_ARCFACE_TORCH, dropout=0.0)
BACKBONES.add("iresnet100", f"{_BACKBONES}.iresnet:iresnet100", source=_ARCFACE_TORCH, dropout=0.0)
BACKBONES.add("iresnet200", f"{_BACKBONES}.iresnet:iresnet200", source=_ARCFACE_TORCH, dropout=0.0)
BACKBONES.add("iresnet_mini", f"{_BACKBONES}.iresnet:iresnet_mini", source=_ARCFACE_TORCH, dropout=0.0)
BACKBONES.add("resnet18", f"{_BACKBONES}.resnet:resnet18", source=_IMAGENET, dropout=0.4)
BACKBONES.add("resnet34", f"{_BACKBONES}.resnet:resnet34", source=_IMAGENET, dropout=0.4)
BACKBONES.add("resnet50", f"{_BACKBONES}.resnet:resnet50", source=_IMAGENET, dropout=0.4)
BACKBONES.add("resnet101", f"{_BACKBONES}.resnet:resnet101", source=_IMAGENET, dropout=0.4)
BACKBONES.add(
    "mobilefacenet",
    f"{_BACKBONES}.mobilefacenet:mobilefacenet",
    source="arcface_torch backbones/mobilefacenet.py (mbf); Chen et al. 2018, arXiv:1804.07573",
)
BACKBONES.add(
    "fastcontextface",
    f"{_BACKBONES}.fastcontextface:fastcontextface",
    source="ConvNeXt-like blocks with squeeze-and-excitation; no paper",
    dropout=0.4,
)

HEADS.add(
    "arcface",
    f"{_HEADS}.arcface:ArcFace",
    source="Deng et al. 2019, arXiv:1801.07698, eq. 3; arcface_torch losses.py",
    margin=0.5,
    gradient="straight_through",
    easy_margin=False,
)
HEADS.add("cosface", f"{_HEADS}.cosface:CosFace", source="Wang et al. 2018, arXiv:1801.09414, eq. 4", margin=0.4)
HEADS.add(
    "adaface",
    f"{_HEADS}.adaface:AdaFace",
    source="Kim et al. 2022, arXiv:2204.00964, eqs. 6 to 10",
    margin=0.4,
    h=0.333,
    t_alpha=0.01,
)
