"""The loss around a head: what a sample of the classes changes, and that it can be drawn again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facerec.config.checks import check
from facerec.config.schema import Config, HeadConfig, head_option_names
from facerec.errors import ConfigError
from facerec.models.build import build_head
from facerec.models.classification import ClassificationLoss, LossSettings, build_classification_loss
from facerec.models.heads.base import CosineHead
from facerec.models.sampling import sample_classes
from facerec.registry import HEADS

_CLASSES = 200
_DIM = 8

every_head = pytest.mark.parametrize("name", HEADS.names())
both = pytest.mark.parametrize("fused", [False, True])


def build(name: str = "arcface") -> CosineHead:
    torch.manual_seed(0)
    return HEADS.entry(name).load()(embedding_size=_DIM, num_classes=_CLASSES, scale=64.0).double()


def batch(count: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(_CLASSES, (count,), generator=generator)
    labels[1] = labels[0]
    return torch.randn(count, _DIM, generator=generator, dtype=torch.float64) * 8.0, labels


def gradients(loss: ClassificationLoss, step: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    embeddings, labels = batch()
    loss.head.weight.grad = None
    output = loss(embeddings.requires_grad_(), labels, step=step)
    output.loss.backward()
    return output.loss.detach(), embeddings.grad, loss.head.weight.grad


@every_head
def test_loss_is_the_mean_cross_entropy_of_the_logits_and_the_regulariser(name: str) -> None:
    head = build(name)
    embeddings, labels = batch()
    expected = F.cross_entropy(head(embeddings, labels), labels)
    regulariser = head.regulariser(embeddings.norm(dim=1))
    assert (regulariser is not None) == (name == "magface")
    output = ClassificationLoss(build(name))(embeddings, labels)
    torch.testing.assert_close(output.loss, expected + (0.0 if regulariser is None else regulariser))
    assert output.loss.shape == ()
    assert output.is_correct_B.dtype == torch.bool
    assert output.is_correct_B.shape == labels.shape


@both
@every_head
def test_sampled_loss_is_the_loss_of_a_head_with_those_classes_alone(name: str, fused: bool) -> None:
    settings = LossSettings(sample_rate=0.2, seed=3, fused=fused, chunk_mib=1)
    loss = ClassificationLoss(build(name), settings)
    found = gradients(loss, step=7)
    embeddings, labels = batch()
    sample = sample_classes(labels, num_classes=_CLASSES, rate=0.2, seed=3, step=7)
    whole = build(name)
    small = HEADS.entry(name).load()(embedding_size=_DIM, num_classes=40, scale=64.0).double()
    small.load_state_dict(whole.state_dict() | {"weight": whole.weight.detach()[sample.rows_S]})
    expected = ClassificationLoss(small)(embeddings.requires_grad_(), sample.columns_B)
    expected.loss.backward()
    torch.testing.assert_close(found[0], expected.loss.detach())
    torch.testing.assert_close(found[1], embeddings.grad)
    torch.testing.assert_close(found[2][sample.rows_S], small.weight.grad)
    left_out = torch.ones(_CLASSES, dtype=torch.bool)
    left_out[sample.rows_S] = False
    assert int(left_out.sum()) == 160
    assert (found[2][left_out] == 0).all()


@both
def test_the_step_decides_the_sample_and_nothing_before_it_does(fused: bool) -> None:
    settings = LossSettings(sample_rate=0.2, seed=3, fused=fused)
    running = ClassificationLoss(build(), settings)
    in_a_row = [gradients(running, step)[2] for step in range(3)]
    resumed = gradients(ClassificationLoss(build(), settings), step=2)[2]
    assert torch.equal(in_a_row[2], resumed)
    assert not torch.equal(in_a_row[0] != 0, in_a_row[1] != 0)
    other_seed = ClassificationLoss(build(), LossSettings(sample_rate=0.2, seed=4, fused=fused))
    assert not torch.equal(gradients(other_seed, step=2)[2] != 0, resumed != 0)


def test_evaluation_uses_all_classes() -> None:
    sampled = ClassificationLoss(build(), LossSettings(sample_rate=0.2)).eval()
    assert torch.equal(sampled(*batch()).loss, ClassificationLoss(build()).eval()(*batch()).loss)


def test_labels_are_always_in_the_sample_and_others_are_drawn_evenly() -> None:
    counts = torch.zeros(_CLASSES)
    labels = torch.tensor([5, 199, 5, 0])
    for step in range(600):
        sample = sample_classes(labels, num_classes=_CLASSES, rate=0.1, seed=0, step=step)
        assert torch.equal(sample.rows_S[sample.columns_B], labels)
        assert torch.equal(sample.rows_S, sample.rows_S.unique())
        assert len(sample.rows_S) == 20
        counts[sample.rows_S] += 1
    assert (counts[[0, 5, 199]] == 600).all()
    others = counts[~torch.isin(torch.arange(_CLASSES), labels)]
    expected = 600 * 17 / 197
    assert abs(float(others.mean()) - expected) < 1e-3
    assert float((others - expected).abs().max()) < 5 * expected**0.5


def test_sample_has_room_for_a_batch_of_different_classes_and_never_more_than_all() -> None:
    labels = torch.arange(50)
    assert len(sample_classes(labels, num_classes=_CLASSES, rate=0.01, seed=0, step=0).rows_S) == 50
    few = sample_classes(torch.arange(50) % 7, num_classes=7, rate=0.5, seed=0, step=0)
    assert few.rows_S.tolist() == list(range(7))


def test_rows_whose_class_is_elsewhere_have_no_column() -> None:
    labels = torch.tensor([-1, 3, -1, 9])
    sample = sample_classes(labels, num_classes=10, rate=0.4, seed=0, step=0, first_class=100)
    assert (sample.columns_B[[0, 2]] == -1).all()
    assert sample.rows_S[sample.columns_B[[1, 3]]].tolist() == [3, 9]


def test_shards_draw_by_the_class_and_not_by_its_place_in_the_shard() -> None:
    labels = torch.tensor([-1])
    first = sample_classes(labels, num_classes=100, rate=0.1, seed=0, step=0).rows_S
    second = sample_classes(labels, num_classes=100, rate=0.1, seed=0, step=0, first_class=100).rows_S
    assert not torch.equal(first, second)


def test_configuration_chooses_the_loss() -> None:
    config = HeadConfig(type="cosface", loss="fused", sample_rate=0.5, chunk_mib=64)
    head = build_head(config, embedding_size=_DIM, num_classes=_CLASSES)
    settings = build_classification_loss(head, config, seed=11).settings
    assert settings == LossSettings(fused=True, sample_rate=0.5, chunk_mib=64, seed=11)
    assert build_classification_loss(head, HeadConfig(), seed=0).settings == LossSettings()


@pytest.mark.parametrize("key", head_option_names())
def test_an_option_of_other_heads_is_refused(key: str) -> None:
    problems = dict(check(Config(head=replace(HeadConfig(type="softmax"), **{key: 1}))))
    assert f"head.{key}" in problems
    assert any(key in entry.options for entry in HEADS)


def test_every_option_of_a_head_is_a_key_of_the_configuration() -> None:
    assert {name for entry in HEADS for name in entry.options} == set(head_option_names())


def test_a_chunk_size_without_the_fused_loss_is_refused() -> None:
    assert [path for path, _ in check(Config(head=HeadConfig(chunk_mib=64)))] == ["head.chunk_mib"]
    assert not list(check(Config(head=HeadConfig(loss="fused", chunk_mib=64))))


@pytest.mark.parametrize("settings", [{"l_a": 120.0}, {"u_a": 5.0}, {"l_m": 0.9}, {"u_m": 0.1}])
def test_a_range_of_magface_that_is_upside_down_is_refused(settings: dict[str, float]) -> None:
    (problem,) = check(Config(head=HeadConfig(type="magface", **settings)))
    assert problem[0] in ("head.l_a", "head.l_m")
    assert "is above head.u_" in problem[1]


def test_a_module_that_is_no_head_of_class_centres_is_refused() -> None:
    with pytest.raises(ConfigError, match="builds no CosineHead"):
        build_classification_loss(torch.nn.Linear(2, 2), HeadConfig(), seed=0)


def test_keys_of_the_head_are_those_of_checkpoints_so_far() -> None:
    assert set(build("arcface").state_dict()) == {"weight"}
    assert set(build("cosface").state_dict()) == {"weight"}
    assert set(build("adaface").state_dict()) == {"weight", "batch_mean", "batch_std"}
