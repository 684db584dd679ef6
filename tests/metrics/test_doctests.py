"""The examples in the docstrings of the metrics are true, and every public metric has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import facerec.metrics

MODULES = [f"facerec.metrics.{info.name}" for info in pkgutil.iter_modules(facerec.metrics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith(".checks")])
def test_every_public_metric_has_an_example(name):
    module = importlib.import_module(name)
    functions = [getattr(module, item) for item in module.__all__ if inspect.isfunction(getattr(module, item))]
    assert functions
    assert [function.__name__ for function in functions if ">>>" not in (function.__doc__ or "")] == []
