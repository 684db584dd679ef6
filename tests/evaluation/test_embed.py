"""Embeddings for verification: independent of batch and mode, and without a trace in the model."""

import numpy as np
import pytest
import torch
from torch import nn

from facerec.data.decode import decode_image
from facerec.errors import DataError, ImageError, ModelError
from facerec.evaluation.embed import embed_images, embed_pixels

from .conftest import SIDE, TinyBackbone, jpeg, png

CPU = torch.device("cpu")
HW = (SIDE, SIDE)


@pytest.fixture(autouse=True)
def many_threads(monkeypatch):
    """So that a CPU takes the batches of these tests whole, whatever the machine has."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)


def embed(backbone, images, *, batch_size=4, **settings):
    return embed_images(backbone, images, image_hw=HW, device=CPU, batch_size=batch_size, **settings)


def by_hand(backbone, images, *, mirror):
    """One image at a time, normalised in float64."""
    backbone.eval()
    rows = []
    for data in images:
        pixels = decode_image(data, image_hw=HW, what="image")
        pixels = pixels[:, ::-1] if mirror else pixels
        values = ((pixels.astype(np.float64) / 255.0) - 0.5) / 0.5
        with torch.no_grad():
            rows.append(backbone(torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None])[0].numpy())
    return np.array(rows)


def test_a_cpu_computes_few_pictures_at_a_time_whatever_the_batch(backbone, images, monkeypatch):
    expected = embed(backbone, images, batch_size=6)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    backbone.seen.clear()
    result = embed(backbone, images, batch_size=1000)
    assert len(backbone.seen) > 2
    assert max(len(batch) for batch in backbone.seen) == 4
    np.testing.assert_allclose(result.original, expected.original, atol=1e-6)
    np.testing.assert_allclose(result.flipped, expected.flipped, atol=1e-6)


def test_embeddings_equal_one_image_at_a_time(backbone, images):
    result = embed(backbone, images)
    np.testing.assert_allclose(result.original, by_hand(backbone, images, mirror=False), atol=1e-6)
    np.testing.assert_allclose(result.flipped, by_hand(backbone, images, mirror=True), atol=1e-6)
    assert result.original.dtype == result.flipped.dtype == np.float32
    assert not np.allclose(result.original, result.flipped, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 22, 1000])
def test_embeddings_do_not_depend_on_the_batch_size(backbone, images, batch_size):
    expected, result = embed(backbone, images), embed(backbone, images, batch_size=batch_size)
    np.testing.assert_allclose(result.original, expected.original, atol=1e-6)
    np.testing.assert_allclose(result.flipped, expected.flipped, atol=1e-6)


def test_without_flip_the_originals_are_the_same(backbone, images):
    alone = embed(backbone, images, flip=False)
    assert alone.flipped is None
    np.testing.assert_allclose(alone.original, embed(backbone, images).original, atol=1e-6)


def test_a_batch_holds_no_more_pictures_than_asked_and_both_versions(backbone, images):
    embed(backbone, images, batch_size=6)
    assert [len(batch) for batch in backbone.seen] == [6, 6, 6, 4]
    for batch in backbone.seen:
        assert batch.is_contiguous(memory_format=torch.channels_last)
        assert batch.dtype == torch.float32
        first, mirrored = batch.chunk(2)
        assert torch.equal(first.flip(3), mirrored)


def test_identical_images_are_embedded_once(backbone, images):
    repeated = [images[0], images[1], images[0], images[2], images[1], bytes(bytearray(images[0]))]
    result = embed(backbone, repeated, batch_size=100)
    assert [len(batch) for batch in backbone.seen] == [6]
    np.testing.assert_allclose(result.original, by_hand(backbone, repeated, mirror=False), atol=1e-6)


def test_the_mode_of_every_module_is_restored(backbone, images):
    backbone.train()
    backbone.norm.eval()
    backbone.dropout.train()
    before = {name: module.training for name, module in backbone.named_modules()}
    embed(backbone, images)
    assert {name: module.training for name, module in backbone.named_modules()} == before
    assert not backbone.norm.training
    assert backbone.training


def test_the_mode_is_restored_after_an_error_too(backbone):
    backbone.train()
    with pytest.raises(ImageError):
        embed(backbone, [jpeg(0), b"no image"])
    assert backbone.training
    assert backbone.dropout.training


def test_weights_statistics_and_gradients_are_untouched(backbone, images):
    backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    embed(backbone, images)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in backbone.parameters())


def test_generators_of_random_numbers_are_untouched(backbone, images):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    embed(backbone, images)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_before)


def test_dropout_is_off_whatever_the_mode_was(backbone, images):
    backbone.train()
    np.testing.assert_array_equal(embed(backbone, images).original, embed(backbone, images).original)


def test_autocast_around_it_changes_nothing(backbone, images):
    expected = embed(backbone, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = embed(backbone, images)
        # The negative control: here autocast does round.
        assert backbone(backbone.seen[0]).dtype == torch.bfloat16
    np.testing.assert_array_equal(result.original, expected.original)


def test_tf32_is_off_meanwhile_and_as_before_afterwards(images):
    class Looking(TinyBackbone):
        def forward(self, batch):
            settings.append((torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision))
            return super().forward(batch)

    settings = []
    before = torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    embed(Looking(), images)
    assert set(settings) == {("ieee", "ieee")}
    assert (torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision) == before


def test_images_of_another_size_and_format_are_scaled_and_decoded(backbone):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    result = embed(backbone, [png(pixels), jpeg(1, side=2 * SIDE)])
    np.testing.assert_allclose(result.original[:1], by_hand(backbone, [png(pixels)], mirror=False), atol=1e-6)


def test_the_channels_are_red_green_blue(backbone):
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    pixels[..., 0] = 255
    embed(backbone, [png(pixels)], flip=False)
    assert backbone.seen[0][0, :, 0, 0].tolist() == [1.0, -1.0, -1.0]


def test_an_embedding_that_is_not_finite_names_its_image(images):
    class Broken(TinyBackbone):
        def forward(self, batch):
            rows = super().forward(batch)
            rows[(batch - target).abs().amax(dim=(1, 2, 3)) < 1e-3, 3] = float("nan")
            return rows

    target = torch.from_numpy(decode_image(images[6], image_hw=HW, what="image")).permute(2, 0, 1) / 127.5 - 1.0
    with pytest.raises(ModelError, match=r"not finite for lfw: image 8;"):
        embed(Broken(), [images[0], images[0], *images], batch_size=4, what="lfw: image")


def test_a_damaged_image_is_named_and_ends_the_threads(backbone, images):
    import threading

    with pytest.raises(ImageError, match="lfw: image 9"):
        embed(backbone, [*images[:9], b"\xff\xd8damaged", *images], what="lfw: image", batch_size=1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_model_that_gives_no_row_per_image_is_refused(images):
    class Pooling(nn.Module):
        def forward(self, batch):
            return batch.mean(dim=0)

    with pytest.raises(ModelError, match="not one embedding for each"):
        embed(Pooling(), images)


def test_no_images_are_refused(backbone):
    with pytest.raises(DataError, match="no image"):
        embed(backbone, [])


def test_progress_counts_different_images(backbone, images):
    seen = []
    embed(backbone, [*images, images[0]], batch_size=8, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 11), (8, 11), (11, 11)]


def test_embedding_pixels_equals_embedding_their_files(backbone, images):
    pixels = np.stack([decode_image(data, image_hw=HW, what="image") for data in images])
    expected, result = embed(backbone, images, batch_size=100), embed_pixels(backbone, pixels, device=CPU)
    np.testing.assert_array_equal(result.original, expected.original)
    np.testing.assert_array_equal(result.flipped, expected.flipped)
    assert embed_pixels(backbone, pixels, device=CPU, flip=False).flipped is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_the_cpu(backbone, images):
    expected = embed(backbone, images)
    device = torch.device("cuda")
    result = embed_images(backbone.to(device), images, image_hw=HW, device=device, batch_size=6)
    np.testing.assert_allclose(result.original, expected.original, atol=1e-5)
