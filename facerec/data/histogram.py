"""How many images the identities of a pack have, as numbers and as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facerec.fsio import atomic_write_bytes

__all__ = ["count_buckets", "write_histogram"]


def count_buckets(per_identity: NDArray[np.int64]) -> list[dict[str, int]]:
    """Identities by their number of images, in buckets that double: 0, 1, 2, 3 to 4, 5 to 8.

    Shape: ``per_identity`` (identities,), the number of images of each. Empty buckets at the ends are left out.

    >>> count_buckets(np.array([1, 3, 4, 9]))[1:3]
    [{'from': 2, 'to': 2, 'identities': 0}, {'from': 3, 'to': 4, 'identities': 2}]
    """
    highest = int(per_identity.max(initial=0))
    ends = [0, 1]
    while ends[-1] < highest:
        ends.append(2 * ends[-1])
    begins = [0, 1, *(end + 1 for end in ends[1:-1])]
    counts = [
        int(((per_identity >= begin) & (per_identity <= end)).sum()) for begin, end in zip(begins, ends, strict=True)
    ]
    rows = [
        {"from": begin, "to": end, "identities": count} for begin, end, count in zip(begins, ends, counts, strict=True)
    ]
    first = next((place for place, row in enumerate(rows) if row["identities"]), 0)
    return rows[first:]


def write_histogram(per_identity: NDArray[np.int64], path: Path, *, title: str) -> None:
    """Draw the buckets as bars, with their counts, and the median and the mean."""
    # Without pyplot: no window system is asked for, and pictures can be drawn in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = count_buckets(per_identity)
    figure = Figure(figsize=(max(5.0, 0.75 * len(rows) + 1.5), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    names = [str(row["from"]) if row["from"] == row["to"] else f"{row['from']}–{row['to']}" for row in rows]
    bars = axes.bar(range(len(rows)), [row["identities"] for row in rows], color="#0072B2", width=0.86)
    axes.bar_label(bars, labels=[f"{row['identities']:,}" for row in rows], padding=2, fontsize=8)
    axes.set_xticks(range(len(rows)), names, rotation=0 if len(rows) < 9 else 35, fontsize=9)
    axes.set(xlabel="Images of an identity", ylabel="Identities", title=title)
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    summary = f"median {np.median(per_identity):g}, mean {per_identity.mean():.1f}, most {per_identity.max():,}"
    axes.annotate(summary, (1.0, 1.0), xycoords="axes fraction", ha="right", va="top", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    atomic_write_bytes(path, buffer.getvalue())
