"""Groups from sets, from files and from arrays."""

import json

import numpy as np
import pytest

from facerec.errors import DataError, MetricError, MissingPathError
from facerec.evaluation.grouping import group_report_to_json, groups_of_images, measure_groups, read_groups
from facerec.metrics.roc import roc_curve, tar_at_far


def test_one_threshold_over_all_sets_judges_every_group(results):
    groups = [np.full(result.pairs, result.name) for result in results]
    report = measure_groups(results, groups, far=0.05)
    scores = np.concatenate([result.scores for result in results])
    issame = np.concatenate([result.issame for result in results])
    point = tar_at_far(roc_curve(scores, issame), 0.05)
    assert report.point == point
    for rate, result in zip(report.rates, results, strict=True):
        assert rate.group == result.name
        assert rate.fmr == np.mean(result.scores[~result.issame] >= point.threshold)
        assert rate.fnmr == np.mean(result.scores[result.issame] < point.threshold)
    # Sets are made worse one after the other.
    assert report.fnmr.worst_group == "set_2"
    plain = json.loads(json.dumps(group_report_to_json(report), allow_nan=False))
    assert plain["fnmr"]["max_over_min"] == report.fnmr.max_over_min
    assert plain["groups"]["set_0"]["impostor"] == 200


def test_pairs_without_a_group_do_not_count(results):
    groups = [np.where(np.arange(400) < 100, "a", np.where(np.arange(400) < 200, "b", ""))]
    report = measure_groups(results[:1], groups, far=0.1)
    assert report.point.num_impostor == 100
    assert [rate.num_genuine for rate in report.rates] == [50, 50]
    with pytest.raises(MetricError, match="no pair has a group"):
        measure_groups(results[:1], [np.full(400, "")])


def test_a_pair_across_groups_has_none():
    groups = groups_of_images(np.array(["x", "x", "y"]), np.array([[0, 1], [1, 2], [2, 2]]))
    assert groups.tolist() == ["x", "", "y"]


def test_a_file_names_the_groups_of_pairs(tmp_path):
    (tmp_path / "g.csv").write_text("\ufeffpair,group\n2,north\n0, south \n\n")
    assert read_groups(tmp_path / "g.csv", num_pairs=4).tolist() == ["south", "", "north", ""]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n", "first line must be pair,group"),
        ("pair,group\n4,x\n", "line 2: there is no pair 4"),
        ("pair,group\n-1,x\n", "line 2 must hold"),
        ("pair,group\n1,x\n1,y\n", "line 3 names pair 1 again"),
        ("pair,group\n1,\n", "line 2 must hold"),
        ("pair,group\n1\n", "line 2 must hold"),
        (b"pair,group\n1,\xff\n", "no CSV in UTF-8"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path, text, sentence):
    (tmp_path / "g.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=sentence):
        read_groups(tmp_path / "g.csv", num_pairs=4)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingPathError, match=r"nowhere\.csv does not exist"):
        read_groups(tmp_path / "nowhere.csv", num_pairs=4)
