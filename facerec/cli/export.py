"""``facerec export``: a model as a file that other programs run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facerec.cli.options import config_option, debug_option, echo_json, json_option, model_option

if TYPE_CHECKING:
    from facerec.serving.exporting import Export


@click.command()
@click.argument("out")
@model_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["onnx", "torch-export", "safetensors"]),
    required=True,
    help="onnx needs the extra of that name.",
)
@click.option("--bin", "bins", metavar="FILE", multiple=True, help="Pair set to compare the accuracy on; repeatable.")
@click.option("--int8", type=click.Choice(["dynamic", "static"]), help="Quantise the ONNX graph to 8-bit integers.")
@click.option("--calibration", metavar="FILE", default="", help="Pair set whose pictures a static quantisation uses.")
@config_option(required=False)
@json_option
@debug_option
def export(
    out: str,
    model: str,
    format_name: Any,
    bins: tuple[str, ...],
    int8: Any,
    calibration: str,
    config_path: str | None,
    as_json: bool,
) -> None:
    """Write a model to OUT, read it back and compare.

    The embeddings may differ by 1e-4 at most, and with --bin the accuracy not at all. A quantised graph is allowed to
    differ: its cost is printed. Graphs take 8-bit RGB pictures (B, 3, H, W) and normalise them themselves.
    """
    from facerec.serving.exporting import export as export_to

    result = export_to(
        model,
        Path(out),
        format=format_name,
        config_path=config_path,
        bins=[file for file in bins if file],
        quantisation=int8,
        calibration=calibration or None,
    )
    if as_json:
        echo_json(dataclasses.asdict(result))
    else:
        click.echo(_describe(result))


def _describe(result: Export) -> str:
    kind = f"{result.format}, int8 {result.quantisation}" if result.quantisation else result.format
    lines = [
        f"{result.path}: {kind}, {result.bytes / 1e6:.2f} MB, largest difference of an embedding's component "
        f"{result.max_difference:.2g}"
    ]
    lines += [
        f"{entry.pair_set}: accuracy {entry.accuracy_model:.4f} -> {entry.accuracy_exported:.4f} "
        f"({entry.accuracy_exported - entry.accuracy_model:+.4f}), TAR at FAR 1e-3 {entry.tar_model:.4f} -> "
        f"{entry.tar_exported:.4f} ({entry.tar_exported - entry.tar_model:+.4f})"
        for entry in result.accuracies
    ]
    return "\n".join(lines)
