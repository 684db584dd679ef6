"""One suite over every registered head."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facerec.errors import ConfigError, ModelError
from facerec.registry import HEADS, Entry

_DIM = 16
_CLASSES = 7
_SCALE = 64.0

_NO_MARGIN = {
    "combined": {"m1": 1.0, "m2": 0.0, "m3": 0.0},
    "sphereface": {"margin": 1.0},
    "magface": {"l_m": 0.0, "u_m": 0.0},
    "elasticface": {"margin": 0.0, "margin_std": 0.0},
    "elasticface_cos": {"margin": 0.0, "margin_std": 0.0},
    "subcenter_arcface": {"margin": 0.0, "sub_centres": 1},
    "adacos": {},
    "softmax": {},
}
"""What leaves the plain cosines; for a head that is not here, a margin of 0."""
_MARGINS = {
    "combined": [{"m2": 0.0, "m3": 0.0}, {"m2": 0.2, "m3": 0.0}, {"m2": 0.2, "m3": 0.2}, {"m2": 0.5, "m3": 0.2}],
    "sphereface": [{"margin": margin} for margin in (1.0, 1.2, 1.5, 2.0)],
    "magface": [{"l_m": margin, "u_m": margin} for margin in (0.0, 0.1, 0.3, 0.6)],
}
"""Settings of a rising margin; for a head that is not here, ``margin`` from 0 to 0.6."""
_IMPOSSIBLE = {
    "combined": [{"m1": 0.1}, {"m2": 28.6}, {"m2": -0.1}, {"m3": 2.5}],
    "sphereface": [{"margin": 0.9}, {"margin": 28.6}],
    "magface": [{"u_m": 28.6}, {"l_m": -0.1}, {"l_m": 0.9}, {"l_a": 0.0}, {"l_a": 120.0}],
}
"""Settings out of range; for a head that is not here, a margin below zero or in degrees."""
_KEPT_MATRICES = {"adaface": 1, "curricularface": 3, "subcenter_arcface": 1}
"""Matrices of the size of the logits that autograd keeps; none for a head that is not here."""

every_head = pytest.mark.parametrize("entry", list(HEADS), ids=lambda entry: entry.name)
every_margin = pytest.mark.parametrize(
    "entry", [entry for entry in HEADS if entry.name not in ("adacos", "softmax")], ids=lambda entry: entry.name
)


def no_margin(entry: Entry) -> dict[str, Any]:
    return _NO_MARGIN.get(entry.name, {"margin": 0.0})


def build(entry: Entry, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return entry.load()(**{"embedding_size": _DIM, "num_classes": _CLASSES, "scale": _SCALE, **settings})


def batch(count: int = 5, norm: float = 20.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    directions = nn.functional.normalize(torch.randn(count, _DIM, generator=generator))
    return directions * norm, torch.arange(count) % _CLASSES


def plain_logits(head: nn.Module, embeddings: Tensor, scale: float = _SCALE) -> Tensor:
    cosines = nn.functional.normalize(embeddings) @ nn.functional.normalize(head.weight, dim=-1).flatten(0, -2).T
    return scale * cosines.unflatten(1, (head.num_classes, -1)).amax(dim=2)


@every_head
def test_head_takes_exactly_the_registered_options_with_their_defaults(entry: Entry) -> None:
    parameters = inspect.signature(entry.load()).parameters
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())
    optional = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert optional == entry.options
    assert set(parameters) - set(optional) == {"embedding_size", "num_classes", "scale"}


@every_head
def test_class_centres_start_from_a_normal_of_deviation_one_hundredth(entry: Entry) -> None:
    head = build(entry, num_classes=500, embedding_size=200)
    weight = head.weight
    assert isinstance(weight, nn.Parameter)
    centres = entry.options.get("sub_centres", 1)
    assert weight.shape == ((500, 200) if centres == 1 else (500, centres, 200))
    assert abs(float(weight.detach().std()) - 0.01) < 1e-4
    assert abs(float(weight.detach().mean())) < 1e-4


@every_head
def test_margin_zero_gives_the_plain_cosines(entry: Entry) -> None:
    head = build(entry, **no_margin(entry))
    embeddings, labels = batch()
    logits = head(embeddings, labels)
    plain = plain_logits(head, embeddings, float(head.current_scale()))
    if entry.name == "curricularface":  # its hard classes change without a margin too
        logits, plain = logits.gather(1, labels[:, None]), plain.gather(1, labels[:, None])
    torch.testing.assert_close(logits, plain, rtol=0, atol=3e-5)


@every_margin
def test_only_the_entry_at_the_label_changes(entry: Entry) -> None:
    if entry.name == "curricularface":
        pytest.skip("its hard classes change as well; tests/models/test_curricularface.py has them")
    head = build(entry)
    embeddings, labels = batch()
    if entry.name == "magface":  # its easy margin acts on positive cosines only
        embeddings = 20.0 * nn.functional.normalize(head.weight.detach()[labels] + 0.01 * embeddings / 20.0)
    changed = (head(embeddings, labels) - plain_logits(head, embeddings)).abs() > 1e-3
    assert torch.equal(changed, nn.functional.one_hot(labels, _CLASSES).bool())


@every_margin
def test_logit_at_the_label_falls_as_the_margin_grows(entry: Entry) -> None:
    embeddings, labels = batch(norm=1.0)
    if entry.name == "magface":  # its easy margin acts on positive cosines only
        embeddings = build(entry).weight.detach()[labels] + 0.003 * embeddings
    margins = _MARGINS.get(entry.name, [{"margin": margin} for margin in (0.0, 0.1, 0.3, 0.6)])
    at_label = [build(entry, **margin)(embeddings, labels).gather(1, labels[:, None]) for margin in margins]
    for smaller, larger in itertools.pairwise(at_label):
        assert (larger < smaller).all()


@every_head
def test_logits_are_proportional_to_the_scale(entry: Entry) -> None:
    if entry.name == "adacos":
        pytest.skip("the scale is only the largest value of AdaCos's own; tests/models/test_adacos.py has it")
    embeddings, labels = batch()
    torch.testing.assert_close(
        build(entry, scale=10.0)(embeddings, labels) * 3.0, build(entry, scale=30.0)(embeddings, labels)
    )


@every_head
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", [0.0, 1e-3, 20.0, 3e4])
def test_half_precision_gives_finite_float32_logits_and_gradients(
    entry: Entry, dtype: torch.dtype, norm: float
) -> None:
    head = build(entry)
    embeddings, labels = batch(norm=norm)
    embeddings = embeddings.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(embeddings, labels)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    nn.functional.cross_entropy(logits, labels).backward()
    assert embeddings.grad is not None
    if norm >= 1.0:
        assert embeddings.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


@every_head
def test_autocast_does_not_change_the_logits(entry: Entry) -> None:
    embeddings, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = build(entry)(embeddings, labels)
    assert torch.equal(inside, build(entry)(embeddings, labels))


@every_head
def test_double_computes_in_double(entry: Entry) -> None:
    embeddings, labels = batch()
    exact = build(entry).double()(embeddings.double(), labels)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(build(entry)(embeddings, labels).double(), exact, rtol=1e-5, atol=3e-5)
    assert not torch.equal(exact.float().double(), exact)


@every_head
def test_gradient_is_the_derivative_of_the_loss(entry: Entry) -> None:
    """In evaluation, where what is learnt from a batch stands still, and with the true gradient where there are two."""
    head = build(entry, **({"gradient": "exact"} if "gradient" in entry.options else {})).double().eval()
    embeddings, labels = batch()
    embeddings = embeddings.double()
    if entry.name == "adaface":  # so sharp that k is -1 or 1 everywhere: no gradient passes the norm
        head.batch_mean.fill_(20.5)
        head.batch_std.zero_()

    def loss(embeddings: Tensor, weight: Tensor) -> Tensor:
        logits = torch.func.functional_call(head, {"weight": weight}, (embeddings, labels))
        return nn.functional.cross_entropy(logits, labels)

    weight = (head.weight.detach() * 100.0).requires_grad_()
    assert torch.autograd.gradcheck(loss, (embeddings.requires_grad_(), weight), eps=1e-6, atol=1e-5)


@every_head
@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_embedding_on_or_opposite_its_centre_has_a_finite_logit_and_gradient(entry: Entry, cosine: float) -> None:
    head = build(entry)
    labels = torch.arange(_CLASSES)
    centres = head.weight.detach() if head.weight.dim() == 2 else head.weight.detach()[:, 0]
    embeddings = (cosine * 300.0 * centres).requires_grad_()
    logits = head(embeddings, labels)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert embeddings.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


@every_head
def test_gradient_reaches_the_embeddings_and_every_centre(entry: Entry) -> None:
    head = build(entry)
    embeddings, labels = batch()
    embeddings.requires_grad_()
    nn.functional.cross_entropy(head(embeddings, labels), labels).backward()
    assert (embeddings.grad.abs().sum(1) > 0).all()
    assert (head.weight.grad.flatten(1).abs().sum(1) > 0).all()


@every_head
def test_descent_on_the_loss_raises_the_cosine_with_the_own_centre(entry: Entry) -> None:
    head = build(entry)
    embeddings, labels = batch()
    before = plain_logits(head, embeddings).gather(1, labels[:, None])
    embeddings.requires_grad_()
    nn.functional.cross_entropy(head(embeddings, labels), labels).backward()
    stepped = embeddings.detach() - 0.1 * embeddings.grad / embeddings.grad.norm(dim=1, keepdim=True)
    assert (plain_logits(head, stepped).gather(1, labels[:, None]) > before).all()


@every_head
@pytest.mark.parametrize(("label", "shown"), [(_CLASSES, "7"), (-1, "-1")])
def test_label_without_a_class_is_refused_on_the_cpu(entry: Entry, label: int, shown: str) -> None:
    embeddings, labels = batch()
    labels[2] = label
    with pytest.raises(ModelError, match=f"label {shown} is outside 0 to 6"):
        build(entry)(embeddings, labels)


@every_margin
def test_margin_in_degrees_or_below_zero_is_refused(entry: Entry) -> None:
    for settings in _IMPOSSIBLE.get(entry.name, [{"margin": -0.1}, {"margin": 28.6}]):
        with pytest.raises(ConfigError, match="|".join(rf"head\.{name}" for name in settings)):
            build(entry, **settings)


@every_head
def test_inputs_stay_as_they_are(entry: Entry) -> None:
    head = build(entry)
    embeddings, labels = batch()
    kept = embeddings.clone(), labels.clone(), head.weight.detach().clone()
    head(embeddings, labels).sum().backward()
    assert torch.equal(embeddings, kept[0])
    assert torch.equal(labels, kept[1])
    assert torch.equal(head.weight, kept[2])


@every_head
def test_hundred_thousand_classes_keep_no_second_matrix_of_logits(entry: Entry) -> None:
    """A one-hot, or an acos of all, would show here."""
    classes, count = 100_000, 4
    head = build(entry, num_classes=classes)
    embeddings, labels = batch(count)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.numel() >= count * classes and tensor.shape[0] == count:
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = head(embeddings.requires_grad_(), labels * (classes // _CLASSES))
    assert logits.shape == (count, classes)
    assert logits.isfinite().all()
    assert len(kept) == _KEPT_MATRICES.get(entry.name, 0)
    logits.sum().backward()
    assert head.weight.grad.isfinite().all()


@every_head
def test_state_survives_a_round_trip(entry: Entry) -> None:
    head = build(entry)
    embeddings, labels = batch()
    head(embeddings, labels)
    copy = build(entry)
    nn.init.ones_(copy.weight)
    copy.load_state_dict(head.state_dict())
    assert torch.equal(copy.eval()(embeddings, labels), head.eval()(embeddings, labels))
