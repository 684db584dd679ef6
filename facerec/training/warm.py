"""Training data that stays open between the trainings of one process."""

from __future__ import annotations

from pathlib import Path

from facerec.config.schema import Config
from facerec.data.dataset import ImagePack
from facerec.data.loader import open_pack
from facerec.data.pairs import PairSet
from facerec.evaluation.suites import find_pair_sets, locate_pair_file

__all__ = ["WarmData"]

_Stamp = tuple[str, int, int]
_PACK_FILES = ("train.rec", "train.idx", "property")


class WarmData:
    """Opens a pack once and reads a pair set once; a file that has changed since is read again."""

    def __init__(self) -> None:
        self._packs: dict[tuple[object, ...], ImagePack] = {}
        self._pair_sets: dict[tuple[object, ...], list[PairSet]] = {}

    def pack(self, config: Config) -> ImagePack:
        """The training pack; raises as `open_pack`."""
        files = [Path(root) / name for root in config.data_roots for name in _PACK_FILES]
        key = (config.data.reader, config.data.io, *map(_stamp, files))
        if key not in self._packs:
            self._packs[key] = open_pack(config)
        return self._packs[key]

    def pair_sets(self, config: Config) -> list[PairSet]:
        """The verification sets; raises as `find_pair_sets`."""
        paths = [locate_pair_file(name, data_root=config.data.root) for name in config.bin_files]
        key = (config.eval.dataset, *map(_stamp, paths))
        if key not in self._pair_sets:
            self._pair_sets[key] = find_pair_sets(config)
        return self._pair_sets[key]


def _stamp(path: Path) -> _Stamp | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return str(path.absolute()), state.st_size, state.st_mtime_ns
