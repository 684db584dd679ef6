"""The best epoch and the early stop follow from the evaluations alone."""

from __future__ import annotations

from facerec.training.history import Evaluation, judge


def evaluations(*values: float | None) -> list[Evaluation]:
    return [
        Evaluation(epoch=epoch, step=epoch, metrics={} if value is None else {"m": value})
        for epoch, value in enumerate(values)
    ]


def test_the_best_is_the_first_of_equals() -> None:
    judgement = judge(evaluations(None, 0.5, 0.7, 0.7, 0.6), key="m", mode="max")
    assert judgement.best is not None
    assert (judgement.best.epoch, judgement.without_improvement) == (2, 2)


def test_smaller_is_better_where_the_mode_says_so() -> None:
    judgement = judge(evaluations(None, 0.5, 0.3, 0.4), key="m", mode="min")
    assert judgement.best is not None
    assert (judgement.best.epoch, judgement.without_improvement) == (2, 1)


def test_a_change_up_to_min_delta_is_no_improvement() -> None:
    judgement = judge(evaluations(None, 0.5, 0.55, 0.58, 0.65), key="m", mode="max", min_delta=0.1)
    assert judgement.best is not None
    assert (judgement.best.epoch, judgement.without_improvement) == (4, 0)
    assert judge(evaluations(None, 0.5, 0.55, 0.58), key="m", mode="max", min_delta=0.1).without_improvement == 2


def test_the_untrained_network_does_not_compete() -> None:
    judgement = judge(evaluations(0.9, 0.5), key="m", mode="max")
    assert judgement.best is not None
    assert judgement.best.epoch == 1


def test_epochs_without_an_evaluation_do_not_count() -> None:
    judgement = judge(evaluations(None, 0.5, None, None, 0.4), key="m", mode="max")
    assert judgement.best is not None
    assert (judgement.best.epoch, judgement.without_improvement) == (1, 1)
    assert judge([], key="m", mode="max").best is None
