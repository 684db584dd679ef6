"""From the section ``data`` of a configuration to an open training set and its order."""

from __future__ import annotations

from facerec.config.schema import Config
from facerec.data.dataset import ImagePack
from facerec.data.orders import BalancedOrder, Order, ShuffledOrder, WeightedOrder
from facerec.data.pack import FacePack
from facerec.data.sources import JoinedPacks
from facerec.errors import ConfigError

__all__ = ["build_order", "open_pack"]


def open_pack(config: Config) -> ImagePack:
    """Open the pack of ``data.root``, or all of them as one, with the reader of ``data.reader``.

    Raises:
        ConfigError: ``data.root`` is not set, or ``data.reader: mxnet`` cannot be imported.
        MissingPathError: a root does not exist.
        DataError: a pack is damaged.
    """
    roots = config.data_roots
    if not roots:
        raise ConfigError("data.root is not set; name the folder that holds train.rec, train.idx and property")
    packs = [_open_one(root, config) for root in roots]
    return packs[0] if len(packs) == 1 else JoinedPacks(packs, roots)


def _open_one(root: str, config: Config) -> ImagePack:
    pack = FacePack.open(root, io=config.data.io)
    if config.data.reader == "native":
        return pack
    from facerec.data.mxnet_reader import MxnetPack

    return MxnetPack(pack)


def build_order(config: Config, pack: ImagePack) -> Order:
    """The order in which training sees the pictures.

    Raises:
        DataError: ``data.sampler.type`` is ``balanced``, and an identity record or a label is damaged.
    """
    data, seed = config.data, config.seed
    if data.sampler.type == "balanced":
        images = data.sampler.images_per_identity
        return BalancedOrder(groups=pack.groups(), images_per_identity=images, seed=seed)
    if data.weights is not None and isinstance(pack, JoinedPacks):
        return WeightedOrder(sizes=pack.sizes, weights=data.weights, seed=seed, shuffle_block=data.shuffle_block)
    return ShuffledOrder(num_images=pack.num_images, seed=seed, shuffle_block=data.shuffle_block)
