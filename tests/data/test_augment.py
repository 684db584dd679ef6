"""What each random change does, how often, and that it depends on (seed, epoch, index) alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from facerec.config.schema import (
    AugmentConfig,
    BlurConfig,
    ColorJitterConfig,
    ErasingConfig,
    FlipConfig,
    GreyConfig,
    JpegQualityConfig,
    LowResolutionConfig,
    RandomCropConfig,
    ShiftConfig,
)
from facerec.data import augment_ops as ops
from facerec.data.augment import augment_batch

OFF = FlipConfig(p=0.0)
SECTIONS: dict[str, Any] = {
    "random_crop": RandomCropConfig(p=1.0, min_area=0.3),
    "shift": ShiftConfig(p=1.0, pixels=4),
    "flip": FlipConfig(p=1.0),
    "color_jitter": ColorJitterConfig(p=1.0, brightness=0.4, contrast=0.4, saturation=0.4),
    "grey": GreyConfig(p=1.0),
    "low_resolution": LowResolutionConfig(p=1.0, min_side=0.2),
    "blur": BlurConfig(p=1.0, max_sigma=3.0),
    "jpeg_quality": JpegQualityConfig(p=1.0, min_quality=10),
    "erasing": ErasingConfig(p=1.0, max_area=0.3),
}


def only(name: str, **changes: Any) -> AugmentConfig:
    section = dataclasses.replace(SECTIONS[name], **changes)
    return AugmentConfig(**{"flip": OFF, name: section})


def batch(count: int = 8, height: int = 40, width: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    base = np.stack([rows * 6, columns * 7, (rows * 2 + columns * 3) % 256], axis=-1)
    return np.stack([(base + 5 * i) % 256 for i in range(count)]).astype(np.uint8)


def run(config: AugmentConfig, images: np.ndarray | None = None, **counters: Any) -> np.ndarray:
    images = batch() if images is None else images
    settings = {"seed": 1, "epoch": 0, "indices": np.arange(len(images)), **counters}
    return augment_batch(images.copy(), config, **settings)


def test_the_test_covers_every_key_of_the_configuration():
    assert list(SECTIONS) == [field.name for field in dataclasses.fields(AugmentConfig)]


@pytest.mark.parametrize("name", SECTIONS)
def test_each_change_keeps_shape_and_type_and_does_something(name):
    images = batch()
    result = augment_batch(images, only(name), seed=1, epoch=0, indices=np.arange(8))
    assert result is images, "the batch is changed in place"
    assert result.shape == (8, 40, 32, 3)
    assert result.dtype == np.uint8
    assert not np.array_equal(result, batch())


@pytest.mark.parametrize("name", SECTIONS)
def test_probability_zero_is_the_identity(name):
    np.testing.assert_array_equal(run(only(name, p=0.0)), batch())


@pytest.mark.parametrize("name", SECTIONS)
def test_the_same_counters_give_the_same_pixels_whatever_the_batch(name):
    config = only(name, p=0.7)
    whole = run(config)
    np.testing.assert_array_equal(whole, run(config))
    order = np.array([5, 2, 7])
    np.testing.assert_array_equal(run(config, batch()[order], indices=order), whole[order])


@pytest.mark.parametrize("name", SECTIONS)
def test_other_epochs_seeds_and_indices_change_differently(name):
    config = only(name, p=0.5)
    whole = run(config)
    assert not np.array_equal(whole, run(config, epoch=1))
    assert not np.array_equal(whole, run(config, seed=2))
    assert not np.array_equal(whole, run(config, indices=np.arange(8) + 100))


@pytest.mark.parametrize("name", SECTIONS)
def test_the_frequency_is_the_probability(name):
    images = np.repeat(batch(1, 16, 12), 4000, axis=0)
    strong = {"shift": {"pixels": 6}, "erasing": {"max_area": 1.0}, "blur": {"max_sigma": 30.0}}.get(name, {})
    changed = (run(only(name, p=0.3, **strong), images) != images).any(axis=(1, 2, 3)).mean()
    unseen = {"shift": 1 / 169, "random_crop": 0.02, "blur": 0.03, "low_resolution": 0.12}.get(name, 0.01)
    deviation = 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert 0.3 * (1 - unseen) - deviation < changed < 0.3 + deviation


def test_switching_one_change_on_leaves_the_draws_of_another():
    flipped = run(AugmentConfig(flip=FlipConfig(p=0.5)))
    both = run(AugmentConfig(flip=FlipConfig(p=0.5), grey=GreyConfig(p=1.0)))
    np.testing.assert_array_equal(run(only("grey"), flipped), both)


def test_changes_are_applied_in_the_order_of_the_keys():
    names = ("shift", "flip", "grey", "erasing")
    images = batch()
    for name in names:
        images = run(only(name), images)
    np.testing.assert_array_equal(run(AugmentConfig(**{name: SECTIONS[name] for name in names})), images)


def test_the_default_is_the_flip_alone_at_one_half():
    images = batch(2000, 4, 3)
    result = run(AugmentConfig(), images)
    mirrored = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (result == images).all(axis=(1, 2, 3))).all()
    assert 0.45 < mirrored.mean() < 0.55


def test_flip_mirrors_left_and_right():
    np.testing.assert_array_equal(run(only("flip")), batch()[:, :, ::-1])


def test_shift_moves_whole_pixels_and_repeats_the_border():
    image = batch(1)[0]
    config = ShiftConfig(p=1.0, pixels=4)
    moved = ops.shift(image, config, np.array([8.5 / 9, 0.5 / 9]))  # 4 down, 4 to the left
    np.testing.assert_array_equal(moved[4:, :-4], image[:-4, 4:])
    np.testing.assert_array_equal(moved[:5, :-4], np.repeat(image[:1, 4:], 5, axis=0))
    np.testing.assert_array_equal(moved[:, -5:], np.repeat(moved[:, -5:-4], 5, axis=1))
    np.testing.assert_array_equal(ops.shift(image, config, np.array([0.5, 0.5])), image)


def test_shift_covers_every_distance_and_no_more():
    image = np.arange(40, dtype=np.uint8)[:, None, None] + np.zeros((40, 32, 3), np.uint8)
    images = np.repeat(image[None], 500, axis=0)
    middle = run(only("shift", pixels=3), images)[:, 20, 0, 0]
    assert set(middle) == set(range(17, 24))


def test_a_shift_larger_than_the_picture_still_works():
    image = batch(1, 4, 3)[0]
    assert (ops.shift(image, ShiftConfig(pixels=50), np.array([0.0, 0.0])) == image[-1, -1]).all()


def test_random_crop_scales_a_part_to_the_full_size():
    ramp = np.broadcast_to(np.linspace(0, 255, 64)[None, :, None], (64, 64, 3)).astype(np.uint8)
    crops = run(only("random_crop", min_area=0.25), np.repeat(ramp[None], 300, axis=0)).astype(int)
    spans = crops[:, 32, -1, 0] - crops[:, 32, 0, 0]
    assert (np.diff(crops[:, 32, :, 0], axis=1) >= 0).all(), "a crop of a ramp is a ramp"
    assert spans.min() > 255 * 0.5 * np.sqrt(3 / 4) - 8
    assert spans.min() < 160
    assert spans.max() > 235
    assert crops[:, 32, 0, 0].min() < 5
    assert crops[:, 32, -1, 0].max() > 250


def test_a_blank_crop_keeps_one_rectangle_in_place_and_blackens_the_rest():
    images = np.full((300, 64, 64, 3), 7, dtype=np.uint8)
    images[:, :, :, 1] = np.arange(1, 65)[None, :, None]
    crops = run(only("random_crop", mode="blank", min_area=0.2), images)
    areas = []
    for crop, image in zip(crops, images, strict=True):
        rows, columns = np.flatnonzero(crop[:, :, 0].any(axis=1)), np.flatnonzero(crop[:, :, 0].any(axis=0))
        inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(crop[inside], image[inside])
        assert crop.any(axis=2).sum() == len(rows) * len(columns), "all else is black"
        areas.append(len(rows) * len(columns) / 64**2)
    assert 0.19 < min(areas) < 0.24
    assert max(areas) > 0.9


def test_crop_areas_and_aspects_stay_in_their_ranges():
    rng = np.random.default_rng(0)
    for _ in range(500):
        area = rng.uniform(0.2, 0.7)
        top, left, height, width = ops._rectangle(112, 112, area, 4 / 3, rng.random(3))
        assert 0 <= top <= top + height <= 112
        assert 0 <= left <= left + width <= 112
        assert abs(height * width / 112**2 - area) < 0.02
        assert 0.72 < width / height < 1.39


@pytest.mark.parametrize("draws", [(0.0, 0.5, 0.5), (1.0, 0.5, 0.5), (0.5, 0.1, 0.5), (0.5, 0.9, 0.5), (0.5, 0.5, 0.0)])
def test_colour_jitter_equals_torchvision(draws):
    """Single changes within one level; torchvision floors where Pillow rounds."""
    image = batch(1)[0]
    config = ColorJitterConfig(p=1.0, brightness=0.4, contrast=0.3, saturation=0.8)
    result = ops.color_jitter(image, config, np.array(draws))
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    tensor = reference.adjust_brightness(tensor, 1 - 0.4 + 0.8 * draws[0])
    tensor = reference.adjust_contrast(tensor, 1 - 0.3 + 0.6 * draws[1])
    tensor = reference.adjust_saturation(tensor, 1 - 0.8 + 1.6 * draws[2])
    assert np.abs(result.astype(int) - tensor.permute(1, 2, 0).numpy()).max() <= 2
    assert np.array_equal(result, image) == (draws == (0.5, 0.5, 0.5))


def test_jitter_of_range_zero_changes_nothing():
    config = only("color_jitter", brightness=0.0, contrast=0.0, saturation=0.0)
    np.testing.assert_array_equal(run(config), batch())


def test_grey_is_the_luma_in_all_channels():
    image = batch(1)
    expected = np.rint(image @ np.array([0.299, 0.587, 0.114]))
    result = run(only("grey"), image)
    assert np.abs(result - expected[..., None]).max() <= 1
    np.testing.assert_array_equal(result[..., 0], result[..., 2])


def test_low_resolution_removes_detail_and_keeps_the_mean():
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3)).astype(np.uint8)
    result = run(only("low_resolution", min_side=0.1), noise)
    detail = [np.abs(np.diff(images.astype(int), axis=2)).mean() for images in (result, noise)]
    assert detail[0] < 0.6 * detail[1]
    assert abs(result.mean() - noise.mean()) < 4


def test_low_resolution_at_full_side_is_the_identity():
    np.testing.assert_array_equal(run(only("low_resolution", min_side=1.0)), batch())


def test_a_tiny_picture_survives_low_resolution():
    assert run(only("low_resolution", min_side=0.01), batch(20, 3, 2)).shape == (20, 3, 2, 3)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_blur_has_the_standard_deviation_that_was_drawn(sigma):
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    rows = np.repeat(point[20:21], 41, axis=0)  # A line keeps enough light for 8 bits.
    profile = ops.blur(rows, BlurConfig(max_sigma=6.0), np.array([sigma / 6.0]))[20, :, 0].astype(float)
    variance = (profile * (np.arange(41) - 20) ** 2).sum() / profile.sum()
    assert np.sqrt(variance) == pytest.approx(sigma, rel=0.1)
    assert profile.sum() == pytest.approx(255, rel=0.06)


def test_lower_jpeg_quality_loses_more():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    config = JpegQualityConfig(min_quality=5)
    losses = [
        np.abs(ops.jpeg_quality(image, config, np.array([u])).astype(int) - image).mean() for u in (0.0, 0.5, 0.999)
    ]
    assert losses[0] > losses[1] > losses[2] > 0


def test_jpeg_qualities_reach_both_ends(monkeypatch):
    seen = []
    monkeypatch.setattr(ops.simplejpeg, "encode_jpeg", lambda image, quality, **_: seen.append(quality) or b"")
    monkeypatch.setattr(ops.simplejpeg, "decode_jpeg", lambda data, **_: None)
    for u in (0.0, 1 - 2**-53):
        ops.jpeg_quality(batch(1)[0], JpegQualityConfig(min_quality=30), np.array([u]))
    assert seen == [30, 95]


def test_erasing_puts_noise_into_one_rectangle_and_nothing_elsewhere():
    images = np.zeros((200, 64, 48, 3), np.uint8)
    result = run(only("erasing", max_area=0.3), images)
    for image in result:
        rows, columns = np.nonzero(image.any(axis=2))
        if len(rows) < 50:
            continue
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.any(axis=2).mean() > 0.99, "the noise fills its rectangle"
        assert box.any(axis=2).size <= 0.3 * 64 * 48 * 1.15
        assert 100 < box.mean() < 155
    areas = result.any(axis=3).mean(axis=(1, 2))
    assert areas.max() > 0.25
    assert areas.min() < 0.02
    assert not np.array_equal(result[0], result[1])
