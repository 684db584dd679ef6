"""Search results against plain loops, with ties, several entries per person and strangers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.errors import MetricError
from facerec.metrics.identification import open_set_point, rank_rate, search


@st.composite
def searches(draw):
    num_entries, num_probes = draw(st.integers(1, 8)), draw(st.integers(2, 10))
    gallery = draw(st.lists(st.integers(0, 4), min_size=num_entries, max_size=num_entries))
    probes = draw(st.lists(st.integers(0, 6), min_size=num_probes, max_size=num_probes))
    # One probe at least is mated, and one is a stranger.
    probes[0], probes[1] = gallery[0], 9
    scores = draw(st.lists(st.integers(-3, 3), min_size=num_entries * num_probes, max_size=num_entries * num_probes))
    return np.array(scores, dtype=float).reshape(num_probes, num_entries), gallery, probes


def found_in(case, chunk_size=3):
    scores, gallery, probes = case
    return search(lambda some: scores[some], gallery_people=gallery, probe_people=probes, chunk_size=chunk_size)


def brute_force_rank(scores, gallery, probe):
    best = {}
    for person, score in zip(gallery, scores, strict=True):
        best[person] = max(best.get(person, -np.inf), score)
    if probe not in best:
        return 0
    return 1 + sum(1 for person, score in best.items() if person != probe and score >= best[probe])


@settings(deadline=None)
@given(searches(), st.integers(1, 12))
def test_ranks_equal_a_loop_for_any_chunk(case, chunk_size):
    found = found_in(case, chunk_size)
    scores, gallery, probes = case
    assert found.rank.tolist() == [
        brute_force_rank(row, gallery, probe) for row, probe in zip(scores, probes, strict=True)
    ]
    assert found.top_score.tolist() == scores.max(axis=1).tolist()
    mated = found.rank[found.mated]
    for rank in (1, 2, 5):
        assert rank_rate(found, rank).rate == np.mean(mated <= rank)


@settings(deadline=None)
@given(searches(), st.floats(0.0, 1.0))
def test_the_open_set_point_equals_a_search_over_thresholds(case, target):
    found = found_in(case)
    point = open_set_point([found], target)
    strangers = found.top_score[~found.mated]
    mate, rank = found.mate_score[found.mated], found.rank[found.mated]
    best = len(mate)
    for threshold in [*np.unique(np.concatenate([strangers, mate])), np.inf]:
        if np.mean(strangers >= threshold) <= target:
            best = min(best, int(np.sum((rank != 1) | (mate < threshold))))
    assert point.misses == best
    assert point.fpir == np.mean(strangers >= point.threshold) <= target
    assert point.fnir == pytest.approx(1.0 - point.tpir)


def test_two_galleries_count_together():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.4]])
    first = search(lambda some: scores[some], gallery_people=[1, 2], probe_people=[1, 3, 4])
    second = search(lambda some: scores[some], gallery_people=[3, 4], probe_people=[1, 3, 4])
    point = open_set_point([first, second], 1.0)
    assert (point.num_mated, point.num_strangers) == (3, 3)


def test_what_cannot_be_searched_is_refused():
    def zeros(some):
        return np.zeros((some.stop - some.start, 2))

    with pytest.raises(MetricError, match="not finite"):
        search(lambda some: zeros(some) + np.nan, gallery_people=[0, 1], probe_people=[0])
    with pytest.raises(MetricError, match="at least one"):
        search(zeros, gallery_people=[], probe_people=[0])
    strangers = search(zeros, gallery_people=[0, 1], probe_people=[5])
    with pytest.raises(MetricError, match="needs mated probes"):
        rank_rate(strangers, 1)
    mated = search(zeros, gallery_people=[0, 1], probe_people=[0])
    with pytest.raises(MetricError, match="needs strangers"):
        open_set_point([mated], 0.1)
    with pytest.raises(MetricError, match="from 1"):
        rank_rate(mated, 0)
