from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from facerec.tracking.names import MAX_NAME_CHARS, MAX_TAG_CHARS, clean_name, clean_tags, shorten


def test_names_that_mlflow_accepts_stay_as_they_are():
    for name in ("eval/lfw/tar_at_far_1e-3", "train/loss", "a b:c.d-e", "Größe"):
        assert clean_name(name) == name


def test_forbidden_characters_become_underscores():
    assert clean_name("TAR@FMR=1e-3") == "TAR_FMR_1e-3"
    assert clean_name("acc%") == "acc_"
    assert clean_name("/a//b/../c/") == "a/b/c"


@settings(deadline=None)
@given(st.text(max_size=400))
def test_mlflow_takes_every_cleaned_name(name):
    from mlflow.utils.validation import _validate_metric_name

    cleaned = clean_name(name)
    assert 0 < len(cleaned) <= MAX_NAME_CHARS
    _validate_metric_name(cleaned)


def test_values_that_a_database_refuses_are_replaced():
    assert shorten("caf\udce9\0/x", limit=100) == "caf??/x"


def test_long_tags_are_cut():
    assert clean_tags({"a=b": "x" * 9000}) == {"a_b": "x" * MAX_TAG_CHARS}
