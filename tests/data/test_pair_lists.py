"""Drawn pairs and lists of pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.data.pair_lists import draw_pairs, read_pair_list, write_pair_list
from facerec.errors import MissingPathError, PairSetError, UsageError


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=50), st.integers(1, 6), st.integers(0, 2**40))
def test_drawn_pairs_are_different_true_and_in_balanced_blocks(sizes: list[int], tens: int, seed: int) -> None:
    try:
        pairs, issame = draw_pairs(sizes, 20 * tens, seed=seed)
    except UsageError:
        return  # Too few pictures; what is said then is tested below.
    assert len(pairs) == len(issame) == 20 * tens
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert issame == ([True] * tens + [False] * tens) * 10
    people_of_folds: list[set[int]] = [set() for _ in range(10)]
    for place, ((a, i), (b, j)) in enumerate(pairs):
        assert (a == b) == issame[place]
        assert (a, i) != (b, j)
        assert 0 <= i < sizes[a]
        assert 0 <= j < sizes[b]
        people_of_folds[place // (2 * tens)] |= {a, b}
    if len(sizes) >= 20:
        assert sum(map(len, people_of_folds)) == len(set().union(*people_of_folds))
    assert draw_pairs(sizes, 20 * tens, seed=seed) == (pairs, issame)


def test_all_the_pairs_there_are_can_be_drawn() -> None:
    """Five people with two pictures: five genuine pairs are too few for ten; with five pictures there are ten each."""
    with pytest.raises(UsageError, match="5 different genuine pairs, but 10"):
        draw_pairs([2] * 5, 20, seed=0)
    pairs, _ = draw_pairs([5, 1, 1], 20, seed=0)
    assert len({frozenset(pair) for pair in pairs}) == 20


def test_people_with_many_pictures_do_not_prevail() -> None:
    pairs, issame = draw_pairs([100, 3, 3, 3], 40, seed=1)
    genuine = [pair[0][0] for pair, same in zip(pairs, issame, strict=True) if same]
    assert {person: genuine.count(person) for person in range(4)} == {0: 11, 1: 3, 2: 3, 3: 3}


def test_seeds_differ() -> None:
    assert draw_pairs([9] * 30, 60, seed=1) != draw_pairs([9] * 30, 60, seed=2)


@pytest.mark.parametrize("number", [0, -20, 10, 30])
def test_numbers_that_make_no_folds_are_refused(number: int) -> None:
    with pytest.raises(UsageError, match="multiple of 20"):
        draw_pairs([9] * 30, number, seed=0)


def test_lists_with_and_without_tabs_and_headers_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeff1\nAnn B\t1\t2\r\nAnn B\t1\tCy\tx y.jpg\n\n", encoding="utf-8")
    first, second = read_pair_list(tmp_path / "a.txt")
    assert (first.first, first.second, first.is_genuine, first.line) == (("Ann B", "1"), ("Ann B", "2"), True, 2)
    assert (second.second, second.is_genuine) == (("Cy", "x y.jpg"), False)
    (tmp_path / "b.txt").write_text("Ann 1 2\nAnn 1 Cy 3\n")
    assert [pair.is_genuine for pair in read_pair_list(tmp_path / "b.txt")] == [True, False]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pairs = [(("a b", "1"), ("a b", "2")), (("a b", "1"), ("c", "1"))] * 10
    write_pair_list(tmp_path / "x.txt", pairs, [True, False] * 10)
    assert (tmp_path / "x.txt").read_text().splitlines()[0] == "10\t1"
    assert [(pair.first, pair.second) for pair in read_pair_list(tmp_path / "x.txt")] == pairs


def test_a_list_that_is_missing_or_cut_off_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="cannot be read"):
        read_pair_list(tmp_path / "nowhere")
    (tmp_path / "x.txt").write_text("10\t2\na\t1\t2\n")
    with pytest.raises(PairSetError, match="cut off"):
        read_pair_list(tmp_path / "x.txt")
