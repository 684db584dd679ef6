"""Where pair sets are looked for, and how a backbone does on them."""

import numpy as np
import pytest
import torch

from facerec.config.load import config_from_dict
from facerec.data.pairs import read_pairs, write_pairs
from facerec.errors import ConfigError, ImageError, MetricError, MissingPathError, PairSetError
from facerec.evaluation.embed import embed_images
from facerec.evaluation.result import metric_values
from facerec.evaluation.suites import doubtful_monitor, evaluate_suite, find_pair_sets

from .conftest import SIDE, TinyBackbone, jpeg, write_bin

SETTINGS = {"image_hw": (SIDE, SIDE), "device": torch.device("cpu"), "batch_size": 8}


def evaluate_pair_set(backbone, pair_set, **settings):
    (result,) = evaluate_suite(backbone, [pair_set], **settings)
    return result


def config(root=None, **evaluation):
    return config_from_dict({"data": {"root": None if root is None else str(root)}, "eval": evaluation})


def test_an_absolute_name_is_taken_as_it_is(tmp_path):
    path = write_bin(tmp_path / "a.bin")
    (found,) = find_pair_sets(config(tmp_path / "elsewhere", bin_file=str(path)))
    assert (found.name, found.path, found.num_pairs) == ("a", path, 20)


def test_a_relative_name_is_looked_for_under_the_root_then_here(tmp_path, monkeypatch):
    root, here = tmp_path / "root", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_bin(here / "a.bin", num_pairs=12)
    assert find_pair_sets(config(root, bin_file="a.bin"))[0].num_pairs == 12
    write_bin(root / "a.bin", num_pairs=14)
    assert find_pair_sets(config(root, bin_file="a.bin"))[0].num_pairs == 14
    assert find_pair_sets(config(bin_file="a.bin"))[0].num_pairs == 12


def test_a_missing_set_names_every_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingPathError) as caught:
        find_pair_sets(config(tmp_path / "root", bin_file="sub/a.bin"))
    assert str(tmp_path / "root" / "sub" / "a.bin") in str(caught.value)
    assert str(tmp_path / "sub" / "a.bin") in str(caught.value)


def test_a_single_set_has_the_configured_name_several_those_of_their_files(tmp_path):
    write_bin(tmp_path / "a.bin")
    write_bin(tmp_path / "b.bin", seed=1)
    assert [found.name for found in find_pair_sets(config(tmp_path, bin_file="a.bin", dataset="lfw"))] == ["lfw"]
    assert [found.name for found in find_pair_sets(config(tmp_path, bin_file=["b.bin", "a.bin"]))] == ["b", "a"]
    write_bin(tmp_path / "lfw.bin")
    assert [found.name for found in find_pair_sets(config(tmp_path, dataset="lfw"))] == ["lfw"]


@pytest.mark.parametrize(
    ("pairs", "genuine", "told"),
    [(9, 4, "9 pairs, 4 of them genuine"), (12, 0, "12 pairs, 0 of them"), (12, 12, "12 pairs, 12 of them")],
)
def test_a_set_that_gives_no_metric_is_refused_where_it_is_found(tmp_path, pairs, genuine, told):
    write_pairs(tmp_path / "a.bin", [jpeg(0)] * (2 * pairs), [index < genuine for index in range(pairs)])
    with pytest.raises(PairSetError, match=rf"a\.bin holds {told}.*at least 10 pairs, and genuine and impostor"):
        find_pair_sets(config(tmp_path, bin_file="a.bin"))


def test_a_monitor_is_doubtful_where_a_set_shows_only_a_bound_of_its_far(tmp_path):
    sets = [read_pairs(write_bin(tmp_path / f"{name}.bin", num_pairs=80), name=name) for name in "ab"]
    # Forty impostor pairs show FAR 1e-1 roughly and 1e-2 not at all.
    assert doubtful_monitor("eval/a/tar_at_far_1e-1", sets) == ""
    assert doubtful_monitor("eval/a/accuracy", sets) == ""
    sentence = doubtful_monitor("eval/b/tar_at_far_1e-2", sets)
    assert sentence.startswith(
        "training.monitor: eval/b/tar_at_far_1e-2 hangs on one or two pairs, as b has 40 impostor"
    )
    assert "as a has 40" in doubtful_monitor("eval/mean/tar_at_far_1e-3", sets)
    assert doubtful_monitor("train/epoch_loss", []) == ""


def test_without_names_there_are_no_sets():
    assert find_pair_sets(config()) == []


def test_sets_whose_metrics_would_share_a_name_are_refused(tmp_path):
    write_bin(tmp_path / "a.bin")
    write_bin(tmp_path / "a.pairs")
    with pytest.raises(ConfigError, match="two pair sets are called 'a'"):
        find_pair_sets(config(tmp_path, bin_file=["a.bin", "a.pairs"]))
    write_bin(tmp_path / "mean.bin")
    with pytest.raises(ConfigError, match="'mean' is the name of the mean"):
        find_pair_sets(config(tmp_path, bin_file=["a.bin", "mean.bin"]))


def test_a_set_is_verified_as_its_embeddings_say(tmp_path):
    pair_set = read_pairs(write_bin(tmp_path / "a.bin", num_pairs=40), name="a")
    backbone = TinyBackbone()
    result = evaluate_pair_set(backbone, pair_set, **SETTINGS)
    stored = embed_images(backbone, pair_set.images, **SETTINGS)
    summed = stored.original.astype(np.float64) + stored.flipped
    summed /= np.linalg.norm(summed, axis=1, keepdims=True)
    np.testing.assert_allclose(result.scores, (summed[0::2] * summed[1::2]).sum(axis=1), atol=1e-6)
    assert (result.name, result.pairs, result.genuine, result.sha256) == ("a", 40, 20, pair_set.sha256)
    # Pictures with a little noise resemble each other more than unrelated ones, even to random weights.
    assert result.auc > 0.95


def test_without_flip_only_the_originals_count(tmp_path):
    pair_set = read_pairs(write_bin(tmp_path / "a.bin"))
    backbone = TinyBackbone()
    alone = evaluate_pair_set(backbone, pair_set, flip=False, **SETTINGS)
    original = embed_images(backbone, pair_set.images, flip=False, **SETTINGS).original
    assert alone.xnorm == pytest.approx(np.linalg.norm(original, axis=1).mean(), rel=1e-6)
    assert not np.allclose(alone.scores, evaluate_pair_set(backbone, pair_set, **SETTINGS).scores, atol=1e-3)


def test_a_suite_keeps_its_order_and_tells_its_progress(tmp_path):
    sets = [read_pairs(write_bin(tmp_path / f"{name}.bin", seed=k), name=name) for k, name in enumerate("ba")]
    seen = []
    results = evaluate_suite(TinyBackbone(), sets, progress=lambda *facts: seen.append(facts), **SETTINGS)
    assert [result.name for result in results] == ["b", "a"]
    assert {facts[0] for facts in seen} == {"b", "a"}
    assert seen[-1] == ("a", 80, 80)
    values = metric_values(results)
    assert values["eval/mean/auc"] == pytest.approx((values["eval/a/auc"] + values["eval/b/auc"]) / 2)


def test_a_damaged_image_and_too_few_pairs_name_the_set(tmp_path):
    import dataclasses

    pair_set = read_pairs(write_bin(tmp_path / "a.bin"), name="a")
    damaged = dataclasses.replace(pair_set, images=(*pair_set.images[:7], jpeg(0)[:60], *pair_set.images[8:]))
    with pytest.raises(ImageError, match="a: image 7"):
        evaluate_pair_set(TinyBackbone(), damaged, **SETTINGS)
    few = dataclasses.replace(pair_set, images=pair_set.images[:8], issame=pair_set.issame[:4])
    with pytest.raises(MetricError, match="a: 4 pairs cannot fill 10 folds"):
        evaluate_pair_set(TinyBackbone(), few, **SETTINGS)


def test_an_image_is_embedded_once_over_pairs_and_sets(tmp_path):
    import dataclasses

    first = read_pairs(write_bin(tmp_path / "a.bin"), name="a")
    # The second set holds half of the first one's pictures, and its pairs share one picture.
    shared = (*first.images[:20], *([first.images[0], first.images[5]] * 10))
    second = dataclasses.replace(first, name="b", images=shared)
    backbone = TinyBackbone()
    together = evaluate_suite(backbone, [first, second], **SETTINGS)
    # Each picture is seen as it is and mirrored.
    assert sum(len(batch) for batch in backbone.seen) == 2 * len(set(first.images))
    for result, pair_set in zip(together, (first, second), strict=True):
        alone = evaluate_pair_set(TinyBackbone(), pair_set, **SETTINGS)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-6)
        assert result.xnorm == pytest.approx(alone.xnorm, rel=1e-6)


def test_a_damaged_image_of_a_later_set_is_named_by_its_place_there(tmp_path):
    import dataclasses

    first = read_pairs(write_bin(tmp_path / "a.bin"), name="a")
    second = read_pairs(write_bin(tmp_path / "b.bin", seed=1), name="b")
    second = dataclasses.replace(second, images=(*second.images[:3], jpeg(0)[:60], *second.images[4:]))
    with pytest.raises(ImageError, match="b: image 3"):
        evaluate_suite(TinyBackbone(), [first, second], **SETTINGS)
