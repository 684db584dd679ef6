"""Parameters of a request: each has its effect or a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from facerec.errors import UsageError
from facerec.serving.request import parse_request
from facerec.serving.spec import Calibration, PredictorSpec, Threshold


def threshold(far: float, value: float) -> Threshold:
    return Threshold(
        far=far,
        threshold=value,
        threshold_interval=(value - 0.1, value + 0.1),
        tar=0.9,
        tar_interval=(0.8, 0.95),
        far_seen=far,
        far_interval=(0.0, 2 * far),
        trusted=True,
        is_bound=False,
    )


def make_spec(*, calibrated: bool = True) -> PredictorSpec:
    calibration = Calibration(
        pair_set="people",
        sha256="ab" * 32,
        pairs=200,
        genuine=100,
        accuracy=0.9,
        accuracy_std=0.01,
        auc=0.95,
        eer=0.1,
        thresholds=(threshold(1e-2, 0.3), threshold(1e-3, 0.4), threshold(1e-4, 0.5)),
        default_far=1e-3,
        genuine_histogram=(1,) * 100,
        impostor_histogram=(1,) * 100,
    )
    return PredictorSpec(
        backbone="iresnet_mini",
        embedding_size=32,
        dropout=None,
        image_hw=(32, 32),
        flip=True,
        runtime="torch",
        calibration=calibration if calibrated else None,
    )


def parse(params: dict[str, Any], *, calibrated: bool = True) -> Any:
    return parse_request(params, make_spec(calibrated=calibrated))


def test_without_parameters_the_models_own_rate_decides() -> None:
    request = parse({})
    assert (request.mode, request.far, request.threshold, request.flip, request.fail) == (
        "similarity",
        1e-3,
        0.4,
        True,
        False,
    )


def test_far_and_threshold_have_their_effect() -> None:
    assert parse({"far": 0.01}).threshold == 0.3
    assert (parse({"far": 0.01}).far_at_most, parse({}).far_at_most) == (0.02, 0.002)
    assert parse({"threshold": 0.2}).far_at_most is None
    assert (parse({"threshold": 0.2}).threshold, parse({"threshold": 0.2}).far) == (0.2, None)
    assert parse({"threshold": 1}).threshold == 1.0
    assert parse({"far": None, "threshold": None}).threshold == 0.4


def test_a_model_without_pairs_knows_no_threshold() -> None:
    assert parse({}, calibrated=False).threshold is None
    assert parse({"threshold": 0.1}, calibrated=False).threshold == 0.1
    with pytest.raises(UsageError, match="without a pair set"):
        parse({"far": 0.01}, calibrated=False)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"thresold": 0.2}, r"unknown parameter 'thresold' \(did you mean 'threshold'\?\)"),
        ({"mode": "compare"}, "mode must be one of similarity, embed, search"),
        ({"on_error": "ignore"}, "on_error must be one of row, fail"),
        ({"flip": "yes"}, "flip must be true or false"),
        ({"top": 0}, "top must be a whole number"),
        ({"top": True}, "top must be a whole number"),
        ({"far": 0.05}, "only at 0.01, 0.001, 0.0001"),
        ({"far": float("nan")}, "far must be a number"),
        ({"threshold": "0.5"}, "threshold must be a number"),
        ({"threshold": 2}, "threshold must lie between -1 and 1"),
        ({"threshold": float("inf")}, "threshold must lie between -1 and 1"),
        ({"far": 10**400}, "far must lie between 0 and 1"),
        ({"far": 0.01, "threshold": 0.5}, "not both"),
        ({"mode": "embed", "far": 0.01}, "mode 'embed' has no use"),
        ({"mode": "embed", "threshold": 0.1}, "mode 'embed' has no use"),
        ({"mode": "search", "far": 0.1}, "mode 'search' has no use"),
    ],
)
def test_what_means_nothing_is_refused(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse(params)
