"""Warnings on trainings that go wrong with finite numbers."""

from __future__ import annotations

import math

import pytest
import torch

from facerec.models.classification import LossOutput
from facerec.training.distributed import World
from facerec.training.symptoms import Symptoms


def watch(*, classes: int = 4, unused: int = 0) -> Symptoms:
    symptoms = Symptoms(num_classes=classes, most_unseen_images=unused, device=torch.device("cpu"), world=World())
    symptoms.begin_epoch(step_in_epoch=0)
    return symptoms


def feed(symptoms: Symptoms, labels: list[int], losses: list[float]) -> None:
    for loss in losses:
        symptoms.add(LossOutput(torch.tensor(loss), torch.ones(len(labels), dtype=torch.bool)), torch.tensor(labels))


def test_an_identity_without_pictures_is_told_once() -> None:
    symptoms = watch()
    feed(symptoms, [0, 1, 3], [3.0, 0.2])
    (sentence,) = symptoms.of_epoch()
    assert sentence.startswith("1 of 4 identities had no picture in this epoch")
    symptoms.begin_epoch(step_in_epoch=0)
    feed(symptoms, [0], [1.0])
    assert symptoms.of_epoch() == []


def test_identities_that_the_last_part_of_an_epoch_may_hold_are_no_symptom() -> None:
    symptoms = watch(unused=1)
    feed(symptoms, [0, 1, 3], [3.0])
    assert symptoms.of_epoch() == []


def test_an_epoch_that_a_resume_entered_in_the_middle_is_not_judged() -> None:
    symptoms = watch()
    symptoms.begin_epoch(step_in_epoch=7)
    feed(symptoms, [0], [math.log(4)] * 20)
    assert symptoms.of_epoch() == []


def test_a_loss_that_stays_at_that_of_guessing_is_told() -> None:
    symptoms = watch()
    feed(symptoms, [0, 1, 2, 3], [math.log(4) * (1 + 0.01 * (number % 3)) for number in range(12)])
    (sentence,) = symptoms.of_epoch()
    assert "the loss stayed at ln(4) = 1.39" in sentence


@pytest.mark.parametrize("losses", [[math.log(4)] * 3, [math.log(4)] * 11 + [0.9], [5.0] + [math.log(4)] * 11])
def test_a_loss_that_moves_or_a_short_epoch_is_no_symptom(losses: list[float]) -> None:
    symptoms = watch()
    feed(symptoms, [0, 1, 2, 3], losses)
    assert symptoms.of_epoch() == []


def test_a_collapsed_network_is_told_once() -> None:
    symptoms = watch()
    assert symptoms.of_embeddings(torch.tensor(0.3)) == []
    (sentence,) = symptoms.of_embeddings(torch.tensor(1e-6))
    assert "the network has collapsed" in sentence
    assert symptoms.of_embeddings(torch.tensor(1e-6)) == []
