"""A resumed training on several packs ends with the very bits of an uninterrupted one, for every sampler."""

from __future__ import annotations

from pathlib import Path

import pytest

from facerec.errors import CheckpointError
from facerec.training.loop import train
from tests.packs import write_pack, write_pair_set
from tests.training.conftest import RecordingTracker
from tests.training.test_resume import MakeConfig, final_bytes, interrupt_at, uninterrupted


@pytest.fixture
def roots(tmp_path: Path) -> list[str]:
    sizes = {"one": (8, 4), "two": (4, 8)}
    made = [write_pack(tmp_path / name, identities=many, pictures=each) for name, (many, each) in sizes.items()]
    write_pair_set(made[1] / "people.bin", pairs=20)  # Found under the second root.
    return [str(root) for root in made]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="joined", marks=pytest.mark.slow),
        pytest.param({"data__weights": [1.0, 3.0]}, id="weighted", marks=pytest.mark.slow),
        pytest.param({"data__sampler__type": "balanced", "data__sampler__images": 2}, id="balanced"),
    ],
)
def test_resume_in_mid_epoch_is_bit_identical(
    make_config: MakeConfig, tmp_path: Path, roots: list[str], changes: dict[str, object]
) -> None:
    settings = {"data__root": roots, "data__augment__erasing__p": 0.5, **changes}
    expected, history = uninterrupted(make_config, tmp_path, **settings)
    run = interrupt_at(make_config(**settings), 6)
    tracker = RecordingTracker()
    train(make_config(training__resume=True, data__num_workers=2, **settings), tracker=tracker)
    assert final_bytes(run) == expected
    assert (run / "history.json").read_text() == history
    assert tracker.run is not None
    assert tracker.run.datasets[0].source == ", ".join(roots)
    assert tracker.run.params["head.num_classes"] == 12


def test_other_packs_weights_and_samplers_are_refused_by_name(make_config: MakeConfig, roots: list[str]) -> None:
    interrupt_at(make_config(data__root=roots), 3)
    for changes, problem in (
        ({"data__root": roots[::-1]}, "training data"),
        ({"data__root": roots, "data__weights": [1.0, 2.0]}, "data.weights"),
        ({"data__root": roots, "data__sampler__type": "balanced"}, "data.sampler.type"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            train(make_config(training__resume=True, **changes), tracker=RecordingTracker())
