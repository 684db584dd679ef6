"""What the pictures share: colours, figures and files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from facerec.fsio import atomic_write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "STYLES", "new_figure", "save_figure"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart by most colour-blind readers, darkest first."""
STYLES = ("-", "--", "-.", ":")
"""Line styles repeat what the colours tell apart."""


def new_figure(*, width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    # Without pyplot: no window system is asked for, and pictures can be drawn in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in one step."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    atomic_write_bytes(path, buffer.getvalue())
