"""``facerec data``: the group; each command has its own file."""

from __future__ import annotations

import click

from facerec.cli.lazy import LazyGroup

COMMANDS = {
    "demo": ("facerec.cli.data_demo:demo", "Pack the demo faces for training and verification."),
    "inspect": ("facerec.cli.data_inspect:inspect", "Say what a training pack or a pair set holds."),
    "verify": ("facerec.cli.data_verify:verify", "Check every record of a pack, or a pair set."),
    "align": ("facerec.cli.data_align:align", "Turn photographs into aligned faces."),
    "pack": ("facerec.cli.data_pack:pack", "Pack a folder of photographs per person."),
    "unpack": ("facerec.cli.data_unpack:unpack", "Write a pack or a pair set as image files."),
    "subset": ("facerec.cli.data_subset:subset", "Draw identities of a pack into a new one."),
    "merge": ("facerec.cli.data_merge:merge", "Write several packs into one."),
    "dedupe": ("facerec.cli.data_dedupe:dedupe", "Find images that occur twice, and people of a pair set."),
    "synthetic": ("facerec.cli.data_synthetic:synthetic", "Write a pack of drawings, for tests and benchmarks."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def data() -> None:
    """Make, inspect and check training packs and pair sets."""
