"""Names of metrics and what `training.monitor` means."""

import pytest

from facerec.errors import ConfigError
from facerec.evaluation.names import METRICS, metric_key, resolve_monitor
from facerec.evaluation.result import metric_values

from .conftest import made_up_result


@pytest.mark.parametrize(
    ("monitor", "metric"),
    [
        ("accuracy", "accuracy"),
        ("acc", "accuracy"),
        ("val_acc", "accuracy"),
        ("val_accuracy", "accuracy"),
        ("val/accuracy", "accuracy"),
        ("eval_accuracy", "accuracy"),
        ("test_acc", "accuracy"),
        ("auc", "auc"),
        ("val_auc", "auc"),
        ("eer", "eer"),
        ("tar_at_far_1e-3", "tar_at_far_1e-3"),
        ("val_tar_at_far_1e-4", "tar_at_far_1e-4"),
        ("xnorm", "xnorm"),
    ],
)
def test_short_names_mean_the_only_set_or_the_mean(monitor, metric):
    assert resolve_monitor(monitor, ["lfw"]) == f"eval/lfw/{metric}"
    assert resolve_monitor(monitor, ["lfw", "cfp_fp"]) == f"eval/mean/{metric}"


@pytest.mark.parametrize("sets", [[], ["lfw"], ["lfw", "cfp_fp"]])
def test_the_training_loss_needs_no_evaluation(sets):
    assert resolve_monitor("train/loss", sets) == "train/epoch_loss"
    assert resolve_monitor("train/epoch_loss", sets) == "train/epoch_loss"


def test_full_names_mean_themselves():
    assert resolve_monitor("eval/cfp_fp/eer", ["lfw", "cfp_fp"]) == "eval/cfp_fp/eer"
    assert resolve_monitor("eval/mean/auc", ["lfw", "cfp_fp"]) == "eval/mean/auc"


@pytest.mark.parametrize("count", [1, 2])
def test_every_name_that_is_resolved_is_logged(count):
    sets = ["lfw", "cfp (fp)"][:count]
    values = metric_values([made_up_result(name=name, num_pairs=60) for name in sets])
    for metric in METRICS:
        if metric.startswith("threshold_") and count > 1:
            continue
        assert resolve_monitor(metric, sets) in values


@pytest.mark.parametrize(
    ("monitor", "sets", "hint"),
    [
        ("acuracy", ["lfw"], r"did you mean 'accuracy'"),
        ("tar_at_far_1e-9", ["lfw"], r"did you mean 'tar_at_far_1e-"),
        ("eval/lwf/accuracy", ["lfw"], r"did you mean 'eval/lfw/accuracy'"),
        ("eval/mean/accuracy", ["lfw"], "no evaluation logs"),
        ("threshold_at_far_1e-3", ["lfw", "cfp_fp"], "no evaluation logs"),
        ("train/los", ["lfw"], r"did you mean 'train/loss'"),
        ("", ["lfw"], "no evaluation logs"),
        ("accuracy", [], "there is no pair set"),
    ],
)
def test_what_no_evaluation_logs_is_refused_with_a_hint(monitor, sets, hint):
    with pytest.raises(ConfigError, match=hint):
        resolve_monitor(monitor, sets)


def test_names_hold_only_characters_that_stores_accept():
    assert metric_key("my set (2)/é", "auc") == "eval/my set _2___/auc"
