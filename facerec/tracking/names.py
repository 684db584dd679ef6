"""Names and texts that MLflow accepts."""

from __future__ import annotations

import re

__all__ = ["MAX_NAME_CHARS", "MAX_PARAM_CHARS", "MAX_TAG_CHARS", "clean_name", "clean_tags", "shorten"]

MAX_NAME_CHARS = 250
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 8000

_FORBIDDEN = re.compile(r"[^/\w.\- :]")


def clean_name(name: str) -> str:
    """Return ``name`` as MLflow accepts it for a metric, a parameter or a tag.

    Other characters than letters, digits and ``_-. :/`` become underscores, and parts that a path would swallow
    vanish, because MLflow refuses a name that is not its own normal form as a path.

    >>> clean_name("eval/TAR@FAR=1e-3")
    'eval/TAR_FAR_1e-3'
    """
    parts = [part for part in _FORBIDDEN.sub("_", name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:MAX_NAME_CHARS].rstrip("/") or "unnamed"


def shorten(value: object, *, limit: int) -> str:
    """``value`` as text of at most ``limit`` characters, without what databases refuse to store."""
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "?")[:limit]


def clean_tags(tags: dict[str, str]) -> dict[str, str]:
    """Tags with names and lengths that MLflow accepts."""
    return {clean_name(key): shorten(value, limit=MAX_TAG_CHARS) for key, value in tags.items()}
