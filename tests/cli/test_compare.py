"""`facerec compare`: tables for people, one JSON object for programs."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from facerec.cli.compare import compare
from facerec.cli.main import main
from facerec.errors import MissingPathError, UsageError


@pytest.fixture
def files(tmp_path):
    for name, noise in (("a", 0.3), ("b", 1.0)):
        generator = np.random.default_rng(0)
        people = generator.normal(size=(40, 6))
        second = np.where((np.arange(40) % 2 == 1)[:, None], people, np.roll(people, 1, axis=0))
        both = np.concatenate([people, second])
        np.savez(
            tmp_path / f"{name}.npz",
            original=(both + noise * generator.normal(size=both.shape)).astype(np.float32),
            pair_index=np.stack([np.arange(40), np.arange(40) + 40], axis=1),
            issame=np.arange(40) % 2 == 1,
            pair_set=np.array(["ab" * 32]),
        )
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(compare, list(map(str, arguments)), catch_exceptions=False)


def test_json_is_one_object_on_standard_output(files):
    outcome = invoke(files / "a.npz", files / "b.npz", "--output", files / "out", "--resamples", 20, "--json")
    assert outcome.exit_code == 0
    values = json.loads(outcome.stdout)
    assert list(values["models"]) == ["a", "b"]
    assert values["sets"]["a / b"]["differences_to_first"]["b"]["accuracy"]["difference"] <= 0.0
    assert "compare.html" in outcome.stderr


def test_people_get_tables(files):
    outcome = invoke(files / "a.npz", files / "b.npz", "--output", files / "out", "--resamples", 20)
    assert outcome.stdout.startswith("Comparison of 2 models\n")
    assert "McNemar's exact test, p" in outcome.stdout


def test_one_model_is_no_comparison(files):
    with pytest.raises(UsageError, match="two models or more"):
        invoke(files / "a.npz")


def test_a_missing_model_is_one_sentence(files, capsys):
    with pytest.raises(MissingPathError, match="does not exist"):
        invoke(files / "a.npz", files / "nowhere")
    with pytest.raises(SystemExit) as caught:
        main(["compare", str(files / "a.npz"), str(files / "nowhere"), "--json"])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
