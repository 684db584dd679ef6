"""The shape of a claim, which every benchmark prints and the page is made of."""

from __future__ import annotations

import json
from types import ModuleType

import pytest


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds_and_not_the_ratio_of_the_medians(claims: ModuleType) -> None:
    found = claims.ratio("x", [1.0, 10.0, 3.0], to=[2.0, 2.0, 30.0], against="peer")
    assert found.value == pytest.approx(0.5)  # Of 0.5, 5 and 0.1; the medians would give 1.5.
    assert (found.low, found.high, found.rounds) == (pytest.approx(0.1), pytest.approx(5.0), 3)


def test_without_a_peer_there_is_no_ratio_and_no_verdict(claims: ModuleType) -> None:
    found = claims.ratio("x", [1.0], to=[], against="peer", target=claims.Target(at_least=1))
    assert (found.value, found.peer_given, found.holds) == (None, False, None)
    assert "peer not given" in claims.show([found], {}, as_json=False)


def test_rounds_that_do_not_belong_together_are_refused(claims: ModuleType) -> None:
    with pytest.raises(ValueError, match="zip"):
        claims.ratio("x", [1.0, 2.0], to=[1.0], against="peer")


@pytest.mark.parametrize(("value", "holds"), [(0.4, True), (0.41, False), (0.1, True)])
def test_a_target_holds_up_to_its_bound(claims: ModuleType, value: float, holds: bool) -> None:
    assert claims.absolute("x", [value], unit="s", target=claims.Target(at_most=0.4)).holds is holds


def test_a_target_with_two_bounds_wants_both(claims: ModuleType) -> None:
    exact = claims.Target(at_least=100, at_most=100)
    assert [exact.holds(value) for value in (99, 100, 101)] == [False, True, False]


def test_claims_come_back_from_what_json_prints(claims: ModuleType) -> None:
    given = [
        claims.ratio("x", [1.0], to=[3.0], against="peer", target=claims.Target(at_most=0.4), seed=0),
        claims.absolute("y", [2.0, 4.0], unit="MB", note="of a kind"),
    ]
    printed = json.loads(claims.show(given, {"threads": 2}, as_json=True))
    assert printed["settings"] == {"threads": 2}
    assert [claims.claim_from_dict(claim) for claim in printed["claims"]] == given
