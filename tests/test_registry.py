"""Names are unique, and an unknown one is told with the known ones."""

from __future__ import annotations

import math

import pytest

from facerec.errors import ConfigError
from facerec.registry import BACKBONES, HEADS, Registry


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape")
    registry.add("circle", "math:pi", source="Euclid", radius=1.0)
    registry.add("square", "math:sqrt", source="Euclid")
    return registry


def test_an_entry_knows_its_options_and_loads_its_target(shapes: Registry) -> None:
    entry = shapes.entry("circle")
    assert (entry.name, entry.source, entry.options) == ("circle", "Euclid", {"radius": 1.0})
    assert shapes.entry("square").load() is math.sqrt


def test_names_keep_the_order_of_registration(shapes: Registry) -> None:
    assert shapes.names() == ["circle", "square"]
    assert [entry.name for entry in shapes] == ["circle", "square"]
    assert "circle" in shapes
    assert "cube" not in shapes


def test_an_unknown_name_is_told_with_the_nearest_and_all_known(shapes: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        shapes.entry("sqare")
    assert str(caught.value) == "unknown shape 'sqare' (did you mean 'square'?); known: circle, square"
    with pytest.raises(ConfigError, match="unknown shape 'xyz'; known"):
        shapes.entry("xyz")


def test_a_name_is_registered_once(shapes: Registry) -> None:
    with pytest.raises(ValueError, match="shape 'circle' is registered twice"):
        shapes.add("circle", "math:tau", source="x")
    assert shapes.entry("circle").target == "math:pi"


@pytest.mark.parametrize("registry", [BACKBONES, HEADS], ids=lambda registry: registry.kind)
def test_every_registered_name_can_be_loaded_and_has_a_source(registry: Registry) -> None:
    assert registry.names()
    for entry in registry:
        assert callable(entry.load()), entry.name
        assert entry.source, entry.name
