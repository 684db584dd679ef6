"""The pictures are drawn without pyplot, for every shape of result."""

import sys
import threading

import numpy as np
import pytest
from PIL import Image

from facerec.evaluation import pictures
from facerec.evaluation.embed import Embeddings
from facerec.evaluation.pictures import write_roc_picture, write_score_picture
from facerec.evaluation.result import score_pairs
from facerec.metrics.roc import roc_curve, tar_at_far

from .conftest import made_up_result


def hues(path):
    """How many pixels are coloured, that is, not grey."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.ptp(pixels, axis=2) > 40).sum())


@pytest.mark.parametrize("write", [write_roc_picture, write_score_picture])
def test_a_picture_of_several_sets_is_written_whole(tmp_path, results, write):
    write(results, tmp_path / "new" / "picture.png")
    with Image.open(tmp_path / "new" / "picture.png") as image:
        image.verify()
        assert image.format == "PNG"
        assert image.width >= 1000
    assert hues(tmp_path / "new" / "picture.png") > 2000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["picture.png"]


def test_pictures_can_be_drawn_in_any_thread_without_pyplot(tmp_path, result):
    thread = threading.Thread(target=write_roc_picture, args=([result], tmp_path / "roc.png"))
    loaded_before = "matplotlib.pyplot" in sys.modules
    thread.start()
    thread.join()
    assert (tmp_path / "roc.png").stat().st_size > 5000
    assert ("matplotlib.pyplot" in sys.modules) == loaded_before


def collapsed(num_pairs=20):
    return score_pairs(
        Embeddings(original=np.ones((2 * num_pairs, 4), np.float32), flipped=None),
        pair_index=np.arange(2 * num_pairs).reshape(-1, 2),
        issame=np.arange(num_pairs) % 2 == 0,
        name="collapsed",
        sha256="",
    )


def one_impostor():
    embeddings = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
    return score_pairs(
        Embeddings(original=embeddings, flipped=None),
        pair_index=np.arange(24).reshape(-1, 2),
        issame=np.arange(12) > 0,
        name="one_impostor",
        sha256="",
    )


@pytest.mark.parametrize("make", [collapsed, one_impostor])
def test_degenerate_results_are_drawn_too(tmp_path, make):
    write_roc_picture([make()], tmp_path / "roc.png")
    write_score_picture([make()], tmp_path / "scores.png")
    assert hues(tmp_path / "roc.png") > 100


def test_thinning_keeps_the_curve():
    result = made_up_result(num_pairs=60_000, quality=0.4)
    roc = roc_curve(result.scores, result.issame)
    far, tar = pictures._steps(roc, 1e-5)
    assert far.size <= 4000 < roc.far.size
    assert (far[0], far[-1]) == (1e-5, 1.0)
    for one_far, one_tar in zip(far[1::97], tar[1::97], strict=True):
        assert one_tar == tar_at_far(roc, float(one_far)).tar


def test_more_sets_than_colours_are_drawn(tmp_path):
    many = [made_up_result(name=f"set_{k}", num_pairs=40, seed=k) for k in range(9)]
    write_roc_picture(many, tmp_path / "roc.png")
    assert (tmp_path / "roc.png").is_file()
