"""``facerec zoo``: the backbones and heads that a configuration can name."""

from __future__ import annotations

from typing import Any

import click

from facerec.cli.options import debug_option, echo_json, json_option
from facerec.registry import Entry


@click.command()
@click.argument("names", metavar="[BACKBONE]...", nargs=-1)
@json_option
@debug_option
def zoo(names: tuple[str, ...], as_json: bool) -> None:
    """List the backbones and the heads, with size, options and source.

    With BACKBONE, such as timm:resnet18, only those are listed, measured where their size is not known.
    """
    from facerec.models.sizes import IMAGE_HW

    backbones = _backbones(names)
    families, heads = ([], []) if names else (_families(), _heads())
    if as_json:
        lists = {"backbones": backbones} if names else {"backbones": backbones, "families": families, "heads": heads}
        echo_json({"image_hw": list(IMAGE_HW), **lists})
        return
    click.echo(f"Backbones (images of {IMAGE_HW[0]}x{IMAGE_HW[1]}; model.backbone)")
    _echo_table(("name", "parameters", "MACs", "embedding", "source"), [_backbone_row(row) for row in backbones])
    if families:
        click.echo("\nFamilies of backbones (facerec zoo NAME measures one)")
        _echo_table(("name", "extra", "source"), [(row["name"], row["extra"], row["source"]) for row in families])
    if heads:
        click.echo("\nHeads (head.type)")
        _echo_table(("name", "options and defaults", "source"), [_head_row(row) for row in heads])


def _backbones(names: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    from facerec.models.sizes import EMBEDDING_SIZE, SIZES
    from facerec.registry import BACKBONES

    rows = []
    for entry in [BACKBONES.entry(name) for name in names] or BACKBONES:
        params, macs = SIZES[entry.name] if entry.name in SIZES else _measure(entry)
        rows.append(
            {
                "name": entry.name,
                "params": params,
                "macs": macs,
                "embedding_size": EMBEDDING_SIZE,
                "options": entry.options,
                "source": entry.source,
            }
        )
    return rows


def _measure(entry: Entry) -> tuple[int, int]:
    import torch

    from facerec.models.measure import measure
    from facerec.models.sizes import EMBEDDING_SIZE, IMAGE_HW

    with torch.device("meta"):
        backbone = entry.load()(embedding_size=EMBEDDING_SIZE, image_hw=IMAGE_HW, **entry.options)
    size = measure(backbone, image_hw=IMAGE_HW)
    return size.params, size.macs


def _families() -> list[dict[str, Any]]:
    from facerec.registry import BACKBONES

    return [
        {"name": entry.name, "extra": entry.extra or "", "options": entry.options, "source": entry.source}
        for entry in BACKBONES.prefixes()
    ]


def _heads() -> list[dict[str, Any]]:
    from facerec.registry import HEADS

    return [{"name": entry.name, "options": entry.options, "source": entry.source} for entry in HEADS]


def _backbone_row(row: dict[str, Any]) -> tuple[str, ...]:
    macs = f"{row['macs'] / 1e9:.2f} G" if row["macs"] >= 1e9 else f"{row['macs'] / 1e6:.1f} M"
    return row["name"], f"{row['params'] / 1e6:.2f} M", macs, str(row["embedding_size"]), row["source"]


def _head_row(row: dict[str, Any]) -> tuple[str, ...]:
    options = ", ".join(f"{name}={_plain(value)}" for name, value in row["options"].items())
    return row["name"], options, row["source"]


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _echo_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo(("  " + "  ".join(cells)).rstrip())
