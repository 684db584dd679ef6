"""What templates have shown, as plain data for reports and as metrics for a tracking store."""

from __future__ import annotations

import math
from typing import Any

from facerec.evaluation.names import metric_key, tar_name, threshold_name
from facerec.evaluation.template_scores import Identification, TemplateVerification
from facerec.metrics.intervals import clopper_pearson
from facerec.metrics.roc import far_label

__all__ = ["identification_to_json", "template_metrics", "verification_to_json"]

_JOINT = "all"
"""The galleries of a set together."""


def template_metrics(
    name: str, *, verified: TemplateVerification | None, found: Identification | None
) -> dict[str, float]:
    """Rates as a tracking store takes them: ``eval/<set>/<metric>``, finite values only.

    Verification has the names that pair sets have. A search gives ``rank_1``, ``rank_5`` and ``rank_10``, of several
    galleries for all together and as ``eval/<set>/<gallery>/rank_1`` for each, and ``fnir_at_fpir_1e-2`` with its
    ``threshold_at_fpir_1e-2``.
    """
    values: dict[str, float] = {}
    if verified is not None:
        values |= {metric_key(name, metric): value for metric, value in _verification_rates(verified).items()}
    if found is not None:
        for gallery, rates in found.ranks.items():
            whole = gallery == _JOINT or len(found.ranks) == 1
            of_gallery = metric_key(name, "") if whole else f"{metric_key(name, gallery)}/"
            values |= {f"{of_gallery}rank_{rate.rank}": rate.rate for rate in rates}
        for point in found.open_set:
            label = far_label(point.fpir_target)
            values[metric_key(name, f"fnir_at_fpir_{label}")] = point.fnir
            values[metric_key(name, f"threshold_at_fpir_{label}")] = point.threshold
    return {key: value for key, value in values.items() if math.isfinite(value)}


def _verification_rates(found: TemplateVerification) -> dict[str, float]:
    return {
        "auc": found.auc,
        "eer": found.eer,
        **{tar_name(point.far_target): point.tar for point in found.points},
        **{threshold_name(point.far_target): point.threshold for point in found.points},
    }


def verification_to_json(found: TemplateVerification) -> dict[str, Any]:
    """Plain data; the keys of the metrics are those of pair sets."""
    return {
        **_verification_rates(found),
        **{f"tar_nearest_far_{label}": tar for label, tar in found.nearest.items()},
        "intervals": {
            tar_name(point.far_target): {
                "clopper_pearson": list(clopper_pearson(point.true_accepts, point.num_genuine))
            }
            for point in found.points
        },
        "untrusted_far": [far_label(point.far_target) for point in found.points if not point.trusted],
        "bound_far": [far_label(point.far_target) for point in found.points if point.is_bound],
        "pairs": found.roc.num_genuine + found.roc.num_impostor,
        "genuine": found.roc.num_genuine,
    }


def identification_to_json(found: Identification) -> dict[str, Any]:
    """Plain data: closed set by gallery, then open set."""
    return {
        "closed_set": {
            name: {
                **{f"rank_{rate.rank}": rate.rate for rate in rates},
                "intervals": {f"rank_{rate.rank}": list(rate.interval) for rate in rates},
                "mated": rates[0].num_mated,
            }
            for name, rates in found.ranks.items()
        },
        "open_set": {
            far_label(point.fpir_target): {
                "fnir": point.fnir,
                "tpir": point.tpir,
                "fpir": point.fpir,
                "threshold": point.threshold,
                "fnir_interval": list(point.fnir_interval),
                "mated": point.num_mated,
                "strangers": point.num_strangers,
                "trusted": point.trusted,
                "is_bound": point.is_bound,
            }
            for point in found.open_set
        },
    }
