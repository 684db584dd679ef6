"""Whether a new model may take the place of the present one: never when it is worse beyond noise on the same pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facerec.evaluation.result import PairResult
from facerec.metrics.compare import mcnemar_exact, paired_bootstrap
from facerec.metrics.roc import Roc, far_label, tar_at_far

__all__ = ["SetComparison", "compare_on_set", "compare_results"]

_SIGNIFICANCE = 0.05
_FALLBACK_FAR = 1e-1


@dataclass(frozen=True, kw_only=True)
class SetComparison:
    """A new and a present model on one pair set."""

    pair_set: str
    sha256: str
    pairs: int
    accuracy_new: float
    accuracy_present: float
    only_new_right: int
    only_present_right: int
    accuracy_p_value: float
    """McNemar's exact test on the decisions of the 10 folds."""
    far: float
    """Where the true accept rates are compared: the lowest rate that the pairs can show."""
    tar_difference: float
    """New minus present."""
    tar_interval: tuple[float, float]
    """Its 95 % interval, by a paired bootstrap over people."""

    @property
    def reasons(self) -> list[str]:
        """In what the new model is worse beyond noise; nothing where it is not."""
        found = []
        if self.accuracy_p_value < _SIGNIFICANCE and self.only_new_right < self.only_present_right:
            found.append(
                f"on {self.pair_set} it decides {self.only_present_right} pairs wrongly that the present one decides "
                f"rightly, and {self.only_new_right} the other way round (p = {self.accuracy_p_value:.2g})"
            )
        if self.tar_interval[1] < 0.0:
            low, high = self.tar_interval
            found.append(
                f"on {self.pair_set} its TAR at FAR {far_label(self.far)} is lower by {-self.tar_difference:.4f} "
                f"(95 %: {-high:.4f} to {-low:.4f})"
            )
        return found


def compare_results(new: Sequence[PairResult], present: Sequence[PairResult]) -> list[SetComparison]:
    """Compare two models set by set; both were verified on the same files."""
    return [compare_on_set(ours, theirs) for ours, theirs in zip(new, present, strict=True)]


def compare_on_set(new: PairResult, present: PairResult) -> SetComparison:
    """Compare two models on one set.

    The decisions of the 10-fold protocol go through McNemar's test; the true accept rates at the lowest false accept
    rate that the impostor pairs can show go through a bootstrap over people, the same for both models.
    """
    assert new.sha256 == present.sha256, "both models must have seen the same pairs"
    test = mcnemar_exact(new.correct, present.correct)
    far = min((point.far_target for point in new.operating_points if point.trusted), default=_FALLBACK_FAR)

    def tar(roc: Roc) -> float:
        return tar_at_far(roc, far).tar

    difference = paired_bootstrap(tar, new.scores, present.scores, genuine=new.issame, identities=new.people)
    return SetComparison(
        pair_set=new.name,
        sha256=new.sha256,
        pairs=new.pairs,
        accuracy_new=new.accuracy,
        accuracy_present=present.accuracy,
        only_new_right=test.only_first,
        only_present_right=test.only_second,
        accuracy_p_value=test.p_value,
        far=far,
        tar_difference=difference.difference,
        tar_interval=(difference.interval.low, difference.interval.high),
    )
