"""Normalisation follows the formula of the published protocol and keeps the memory format."""

from __future__ import annotations

import pytest
import torch

from facerec.data.transforms import normalise_images


def test_every_pixel_value_follows_the_published_formula():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    expected = ((pixels.double() / 255) - 0.5) / 0.5
    result = normalise_images(pixels)
    assert result.dtype == torch.float32
    assert (result.double() - expected).abs().max() < 1e-6
    assert result.min() == -1.0
    assert result.max() == 1.0


def test_channels_last_stays_channels_last():
    pixels = torch.randint(0, 256, (4, 8, 6, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    result = normalise_images(pixels)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert result.shape == (4, 3, 8, 6)


def test_the_input_is_left_alone():
    pixels = torch.full((1, 3, 2, 2), 7, dtype=torch.uint8)
    normalise_images(pixels)
    assert (pixels == 7).all()


def test_pixels_that_are_normalised_already_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        normalise_images(torch.zeros(1, 3, 2, 2))
