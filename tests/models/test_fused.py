"""The fused loss against the plain one: values and gradients of every head, for any chunk, and what it never holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from facerec.errors import ConfigError, ModelError
from facerec.models.classification import ClassificationLoss, LossSettings
from facerec.models.fused import _Sweep, classes_in_chunk
from facerec.models.heads.base import CosineHead
from facerec.models.spread import ALONE
from facerec.registry import HEADS

_DIM = 16
_CLASSES = 700
_PLAIN = LossSettings()
_FUSED = LossSettings(fused=True, chunk_mib=1)

every_head = pytest.mark.parametrize("name", HEADS.names())


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 classes at a time, the last chunk smaller."""
    monkeypatch.setattr("facerec.models.fused.classes_in_chunk", lambda **_: 128)


def build(name: str, dtype: torch.dtype = torch.float32, classes: int = _CLASSES, **options: Any) -> CosineHead:
    torch.manual_seed(0)
    head = HEADS.entry(name).load()(embedding_size=_DIM, num_classes=classes, scale=64.0, **options).to(dtype)
    with torch.no_grad():
        head.weight.mul_(100.0)
    return head


def batch(dtype: torch.dtype = torch.float32, count: int = 12, classes: int = _CLASSES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(count, _DIM, generator=generator, dtype=torch.float64) * 8.0
    labels = torch.randint(classes, (count,), generator=generator)
    labels[1] = labels[0]
    return embeddings.to(dtype), labels


def outcome(head: CosineHead, settings: LossSettings, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    output = ClassificationLoss(head, settings)(leaf, labels)
    output.loss.backward()
    return {
        "loss": output.loss.detach(),
        "correct": output.is_correct_B,
        "embeddings": leaf.grad,
        "weight": head.weight.grad,
    } | {name: value for name, value in head.state_dict().items() if name != "weight"}


@every_head
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_values_gradients_and_what_is_learnt_equal_the_plain_loss(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    plain = outcome(build(name, dtype), _PLAIN, *batch(dtype))
    fused = outcome(build(name, dtype), _FUSED, *batch(dtype))
    assert set(plain) == set(fused)
    for key, expected in plain.items():
        torch.testing.assert_close(fused[key], expected, rtol=tolerance, atol=tolerance)


@every_head
def test_options_reach_the_fused_loss_too(name: str) -> None:
    changes = {"margin": 1.1, "m2": 0.1, "gradient": "exact", "easy_margin": True, "plus": True, "u_m": 1.0}
    options = {key: value for key, value in changes.items() if key in HEADS.entry(name).options}
    if name == "magface":
        options["easy_margin"] = False
    plain = outcome(build(name, torch.float64, **options), _PLAIN, *batch(torch.float64))
    fused = outcome(build(name, torch.float64, **options), _FUSED, *batch(torch.float64))
    for key, expected in plain.items():
        torch.testing.assert_close(fused[key], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["arcface", "adaface", "curricularface", "adacos", "subcenter_arcface"])
@pytest.mark.parametrize("step", [1, 5, 128, 699, 700, 5000])
def test_result_does_not_depend_on_the_chunk(name: str, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facerec.models.fused.classes_in_chunk", lambda **_: step)
    plain = outcome(build(name, torch.float64), _PLAIN, *batch(torch.float64))
    fused = outcome(build(name, torch.float64), _FUSED, *batch(torch.float64))
    for key, expected in plain.items():
        torch.testing.assert_close(fused[key], expected, rtol=1e-12, atol=1e-12)


@every_head
def test_gradient_is_the_derivative_of_the_fused_loss(name: str) -> None:
    options = {"gradient": "exact"} if "gradient" in HEADS.entry(name).options else {}
    head = build(name, torch.float64, classes=9, **options).eval()
    if name == "adaface":  # so sharp that k is -1 or 1 everywhere: no gradient passes the norm
        head.batch_std.zero_()
    loss = ClassificationLoss(head, _FUSED)
    embeddings, labels = batch(torch.float64, count=5, classes=9)

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(loss, {"head.weight": weight}, (embeddings, labels)).loss

    assert torch.autograd.gradcheck(
        value, (embeddings.requires_grad_(), head.weight.detach().clone().requires_grad_()), atol=1e-4
    )


@pytest.mark.parametrize("name", ["arcface", "adaface", "curricularface"])
def test_no_matrix_of_batch_by_classes_is_ever_made(name: str) -> None:
    classes, count = 20_000, 8
    head = build(name, classes=classes)
    embeddings, labels = batch(count=count, classes=classes)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.dim() == 2 and result.shape[0] == count:
                largest = max(largest, result.shape[1])
            return result

    def watched(settings: LossSettings) -> int:
        nonlocal largest
        largest = 0
        with Watch():
            ClassificationLoss(head, settings)(embeddings.requires_grad_(), labels).loss.backward()
        return largest

    assert watched(_FUSED) == 128
    assert watched(_PLAIN) == classes


@every_head
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_give_the_loss_of_float32(name: str, dtype: torch.dtype) -> None:
    embeddings, labels = batch()
    half = embeddings.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ClassificationLoss(build(name), _FUSED)(half, labels)
    outside = ClassificationLoss(build(name), _FUSED)(half.float(), labels)
    assert inside.loss.dtype == torch.float32
    assert torch.equal(inside.loss, outside.loss)


@every_head
def test_extreme_embeddings_have_a_finite_loss_and_gradient(name: str) -> None:
    head = build(name)
    embeddings, labels = batch()
    centres = head.weight.detach() if head.weight.dim() == 2 else head.weight.detach()[:, 0]
    embeddings[0], embeddings[1] = 5.0 * centres[labels[0]], -5.0 * centres[labels[1]]
    embeddings[2] = 0.0
    found = outcome(head, _FUSED, embeddings, labels)
    assert found["loss"].isfinite()
    assert found["weight"].isfinite().all()
    assert found["embeddings"].isfinite().all()


def test_embeddings_without_a_gradient_leave_that_of_the_weight_as_it_is() -> None:
    embeddings, labels = batch()
    head = build("arcface")
    ClassificationLoss(head, _FUSED)(embeddings, labels).loss.backward()
    expected = outcome(build("arcface"), _FUSED, embeddings, labels)["weight"]
    assert torch.equal(head.weight.grad, expected)


def test_two_classes_and_chunks_that_hold_the_label_alone_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facerec.models.fused.classes_in_chunk", lambda **_: 1)
    plain = outcome(build("arcface", torch.float64, classes=2), _PLAIN, *batch(torch.float64, classes=2))
    fused = outcome(build("arcface", torch.float64, classes=2), _FUSED, *batch(torch.float64, classes=2))
    for key, expected in plain.items():
        torch.testing.assert_close(fused[key], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [_PLAIN, _FUSED])
def test_correct_is_what_the_largest_logit_says(settings: LossSettings) -> None:
    head = build("cosface", margin=0.0)
    embeddings, labels = batch()
    embeddings[:6] = head.weight.detach()[labels[:6]] + 0.1
    expected = head(embeddings, labels).argmax(dim=1) == labels
    assert expected[:6].all()
    assert not expected.all()
    assert torch.equal(ClassificationLoss(head, settings)(embeddings, labels).is_correct_B, expected)


def test_evaluation_without_gradients_works_and_learns_nothing() -> None:
    head = build("adaface").eval()
    before = {name: value.clone() for name, value in head.state_dict().items()}
    with torch.no_grad():
        output = ClassificationLoss(head, _FUSED).eval()(*batch())
    assert not output.loss.requires_grad
    assert all(torch.equal(before[name], value) for name, value in head.state_dict().items())


def test_label_without_a_class_is_refused_on_the_cpu() -> None:
    embeddings, labels = batch()
    labels[3] = _CLASSES
    with pytest.raises(ModelError, match="label 700 is outside 0 to 699"):
        ClassificationLoss(build("arcface"), _FUSED)(embeddings, labels)


@pytest.mark.parametrize(("settings", "key"), [({"sample_rate": 0.0}, "sample_rate"), ({"chunk_mib": 0}, "chunk_mib")])
def test_settings_out_of_range_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"head\.{key}"):
        LossSettings(**settings)


@pytest.mark.parametrize("chunk_mib", [64, 256, 1024])
def test_chunk_and_its_rows_of_the_weight_fit_in_the_memory_given(chunk_mib: int) -> None:
    classes = classes_in_chunk(chunk_mib=chunk_mib, batch=1024, embedding_size=512, sub_centres=3, element_bytes=4)
    needed = classes * 3 * 4 * (1024 + 2 * 512)
    assert classes % 128 == 0
    assert chunk_mib * 2**20 * 0.9 < needed <= chunk_mib * 2**20


def test_sweep_covers_every_class_once() -> None:
    weight = nn.Parameter(torch.randn(300, 3, 4))
    sweep = _Sweep(weight, torch.ones(300, 3), torch.zeros(2, dtype=torch.int64), spread=ALONE, chunk_mib=1)
    parts = [part for part, *_ in sweep.chunks(torch.randn(2, 4))]
    assert [(part.start, part.stop) for part in parts] == [(0, 384), (384, 768), (768, 900)]
