"""Names in a configuration and what they build.

A backbone or a head is one file and one line here. The target is text, so that names can be checked, listed and
completed without importing torch.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
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
    extra: str | None = None
    """The extra of the project that must be installed for it."""
    model: str | None = None
    """For a name under a prefix, such as ``timm:resnet18``: what follows the prefix, which the builder gets."""

    def load(self) -> Callable[..., Any]:
        """Import the builder."""
        module, _, attribute = self.target.partition(":")
        builder: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return builder if self.model is None else functools.partial(builder, model=self.model)


class Registry:
    """A closed set of names of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._prefixes: dict[str, Entry] = {}

    def add(self, name: str, target: str, *, source: str, **options: Any) -> None:
        """Register ``name``; names are unique."""
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = Entry(name=name, target=target, source=source, options=options)

    def add_prefix(self, prefix: str, target: str, *, source: str, extra: str | None = None, **options: Any) -> None:
        """Register all names that begin with ``prefix`` and a colon; the builder gets the rest as ``model``."""
        self._prefixes[prefix] = Entry(
            name=f"{prefix}:NAME", target=target, source=source, options=options, extra=extra
        )

    def prefixes(self) -> list[Entry]:
        """The open families, each under the name ``PREFIX:NAME``."""
        return list(self._prefixes.values())

    def names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries or (isinstance(name, str) and self._in_family(name) is not None)

    def entry(self, name: str) -> Entry:
        """The entry of ``name``.

        Raises:
            ConfigError: the name is unknown; the message lists the known ones and the nearest.
        """
        found = self._entries.get(name) or self._in_family(name)
        if found is None:
            raise ConfigError(self.unknown(name))
        return found

    def unknown(self, name: str) -> str:
        """A sentence on an unknown name: the nearest and all known ones."""
        known = [*self._entries, *(entry.name for entry in self._prefixes.values())]
        return f"unknown {self.kind} '{name}'{near_match(name, known)}; known: {', '.join(known)}"

    def _in_family(self, name: str) -> Entry | None:
        prefix, _, model = name.partition(":")
        family = self._prefixes.get(prefix)
        return replace(family, name=name, model=model) if family is not None and model else None


BACKBONES = Registry("backbone")
HEADS = Registry("head")

_BACKBONES = "facerec.models.backbones"
_HEADS = "facerec.models.heads"
_ARCFACE_TORCH = "arcface_torch backbones/iresnet.py; Duta et al. 2020, arXiv:2004.04989"
_ADAFACE = "AdaFace net.py; Deng et al. 2019, arXiv:1801.07698; stage 1 without projection"
_VIT = "arcface_torch backbones/vit.py, patch 9; Dosovitskiy et al. 2020, arXiv:2010.11929"
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
for _depth in (18, 34, 50, 101):
    BACKBONES.add(f"ir_{_depth}", f"{_BACKBONES}.iresnet:ir_{_depth}", source=_ADAFACE, dropout=0.4)
for _size in ("t", "s", "b"):
    BACKBONES.add(f"vit_{_size}", f"{_BACKBONES}.vit:vit_{_size}", source=_VIT, drop_path=0.1, mask_ratio=0.1)
BACKBONES.add(
    "mobilefacenet",
    f"{_BACKBONES}.mobilefacenet:mobilefacenet",
    source="arcface_torch backbones/mobilefacenet.py (mbf); Chen et al. 2018, arXiv:1804.07573",
)
BACKBONES.add(
    "mobilefacenet_large",
    f"{_BACKBONES}.mobilefacenet:mobilefacenet_large",
    source="arcface_torch backbones/mobilefacenet.py (mbf_large)",
)
BACKBONES.add(
    "mobilefacenet_paper",
    f"{_BACKBONES}.mobilefacenet:mobilefacenet_paper",
    source="Chen et al. 2018, arXiv:1804.07573, table 1 (0.99 M with its 128 dimensions)",
)
BACKBONES.add(
    "fastcontextface",
    f"{_BACKBONES}.fastcontextface:fastcontextface",
    source="ConvNeXt-like blocks with squeeze-and-excitation; no paper",
    dropout=0.4,
)
BACKBONES.add(
    "fastcontextface_v2",
    f"{_BACKBONES}.fastcontextface_v2:fastcontextface_v2",
    source="our own design; re-parameterised large kernels as in Ding et al. 2022, arXiv:2203.06717",
    dropout=0.0,
    drop_path=0.05,
)
BACKBONES.add_prefix(
    "timm",
    f"{_BACKBONES}.timm_model:timm_model",
    source="any model of timm, random weights; Wightman 2019, github.com/huggingface/pytorch-image-models",
    extra="timm",
    dropout=0.0,
    drop_path=0.0,
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
HEADS.add(
    "combined",
    f"{_HEADS}.combined:Combined",
    source="Deng et al. 2019, arXiv:1801.07698, eq. 4 and CM1; arcface_torch losses.py",
    m1=1.0,
    m2=0.3,
    m3=0.2,
    gradient="straight_through",
)
HEADS.add(
    "sphereface",
    f"{_HEADS}.sphereface:SphereFace",
    source="Liu et al. 2017, arXiv:1704.08063, eq. 7; m by Deng et al. 2019, arXiv:1801.07698",
    margin=1.35,
)
HEADS.add(
    "magface",
    f"{_HEADS}.magface:MagFace",
    source="Meng et al. 2021, arXiv:2103.06627, eqs. 3 to 5",
    l_a=10.0,
    u_a=110.0,
    l_m=0.45,
    u_m=0.8,
    lambda_g=35.0,
    easy_margin=True,
)
HEADS.add(
    "curricularface",
    f"{_HEADS}.curricularface:CurricularFace",
    source="Huang et al. 2020, arXiv:2004.00288, eqs. 5 to 8",
    margin=0.5,
    t_alpha=0.01,
)
HEADS.add(
    "elasticface",
    f"{_HEADS}.elasticface:ElasticArcFace",
    source="Boutros et al. 2022, arXiv:2109.09526, eqs. 5 and 7",
    margin=0.5,
    margin_std=0.05,
    plus=False,
)
HEADS.add(
    "elasticface_cos",
    f"{_HEADS}.elasticface:ElasticCosFace",
    source="Boutros et al. 2022, arXiv:2109.09526, eqs. 6 and 7",
    margin=0.35,
    margin_std=0.05,
    plus=False,
)
HEADS.add("adacos", f"{_HEADS}.adacos:AdaCos", source="Zhang et al. 2019, arXiv:1905.00292, eqs. 9 and 15")
HEADS.add(
    "subcenter_arcface",
    f"{_HEADS}.subcenter_arcface:SubcenterArcFace",
    source="Deng et al. 2020, Sub-center ArcFace, ECCV, eq. 4",
    margin=0.5,
    sub_centres=3,
    gradient="exact",
)
HEADS.add("softmax", f"{_HEADS}.softmax:Softmax", source="Wang et al. 2017, NormFace, arXiv:1704.06369, eq. 6")
