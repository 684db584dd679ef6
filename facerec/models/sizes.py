"""Parameters and multiply-accumulates of the registered backbones, so that listing them needs no torch.

`facerec.models.measure` gives the numbers; a test keeps them true. A backbone that is not listed here is measured
when it is asked for.
"""

from __future__ import annotations

__all__ = ["EMBEDDING_SIZE", "IMAGE_HW", "SIZES"]

IMAGE_HW = (112, 112)
EMBEDDING_SIZE = 512

SIZES: dict[str, tuple[int, int]] = {
    "iresnet18": (24_025_600, 2_609_954_816),
    "iresnet34": (34_139_328, 4_459_642_880),
    "iresnet50": (43_590_848, 6_309_330_944),
    "iresnet100": (65_156_160, 12_089_606_144),
    "iresnet200": (118_833_920, 23_418_945_536),
    "iresnet_mini": (7_653_088, 429_907_968),
    "resnet18": (11_440_192, 485_109_760),
    "resnet34": (21_548_352, 965_226_496),
    "resnet50": (24_558_144, 1_076_899_840),
    "resnet101": (43_550_272, 2_004_955_136),
    "ir_18": (24_020_352, 2_597_109_760),
    "ir_34": (34_134_080, 4_446_797_824),
    "ir_50": (43_585_600, 6_296_485_888),
    "ir_101": (65_150_912, 12_076_761_088),
    "vit_t": (19_137_792, 1_504_882_688),
    "vit_s": (76_023_296, 5_746_548_736),
    "vit_b": (113_833_472, 11_437_170_688),
    "mobilefacenet": (2_059_520, 437_520_896),
    "mobilefacenet_large": (6_314_880, 1_816_482_816),
    "mobilefacenet_paper": (1_200_512, 221_161_984),
    "fastcontextface": (4_236_384, 603_161_472),
    "fastcontextface_v2": (2_598_748, 304_168_768),
}
"""Parameters, and MACs for one image of `IMAGE_HW`, with embeddings of `EMBEDDING_SIZE`."""
