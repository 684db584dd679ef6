"""Pictures, a small backbone and sets made of them."""

import io
import pickle

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image
from torch import nn

from facerec.evaluation.embed import Embeddings
from facerec.evaluation.result import score_pairs

SIDE = 16


class TinyBackbone(nn.Module):
    """Everything whose behaviour differs between training and evaluation, in a few weights."""

    def __init__(self, embedding_size=8):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.dropout = nn.Dropout(0.5)
            self.fc = nn.Linear(4 * (SIDE // 2) ** 2, embedding_size)
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        features = self.norm(self.conv(images)).relu()
        return self.fc(self.dropout(features).flatten(1))


def jpeg(seed, side=SIDE):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return simplejpeg.encode_jpeg(pixels, quality=95)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def backbone():
    return TinyBackbone()


@pytest.fixture
def images():
    return [jpeg(seed) for seed in range(11)]


def made_up_result(*, name="set_a", num_pairs=400, quality=1.5, seed=0):
    """A result of random embeddings in which people differ by ``quality`` times the noise."""
    generator = np.random.default_rng(seed)
    issame = np.arange(num_pairs) % 2 == 0
    people = generator.normal(size=(num_pairs, 2, 16))
    people[issame, 1] = people[issame, 0]
    embeddings = (quality * people + generator.normal(size=people.shape)).reshape(-1, 16).astype(np.float32)
    mirrored = embeddings + 0.1 * generator.normal(size=embeddings.shape).astype(np.float32)
    return score_pairs(
        Embeddings(original=embeddings, flipped=mirrored),
        pair_index=np.arange(2 * num_pairs).reshape(-1, 2),
        issame=issame,
        name=name,
        sha256="ab" * 32,
    )


@pytest.fixture(scope="session")
def result():
    return made_up_result()


@pytest.fixture(scope="session")
def results():
    return [made_up_result(name=f"set_{k}", quality=2.0 - 0.5 * k, seed=k) for k in range(3)]


def write_bin(path, *, num_pairs=20, seed=0, side=SIDE):
    """A pair set whose genuine pairs are one picture and the same with a little noise, as a pickle like the field's."""
    generator = np.random.default_rng(seed)
    images, issame = [], []
    for index in range(num_pairs):
        first = generator.integers(0, 256, (side, side, 3))
        genuine = index % 2 == 0
        second = (
            first + generator.integers(-20, 21, first.shape) if genuine else generator.integers(0, 256, first.shape)
        )
        images += [png(picture.clip(0, 255).astype(np.uint8)) for picture in (first, second)]
        issame.append(genuine)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps((images, issame), protocol=4))
    return path
