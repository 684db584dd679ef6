"""`facerec evaluate`: one JSON object on standard output, a table for people, sentences for mistakes."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from facerec.cli.evaluate import evaluate
from facerec.cli.main import main
from facerec.errors import UsageError
from facerec.evaluation import run as run_module


@pytest.fixture
def stored(tmp_path):
    generator = np.random.default_rng(0)
    people = generator.normal(size=(40, 4))
    np.savez(
        tmp_path / "mine.npz",
        original=(people[np.arange(80) % 40] + 0.3 * generator.normal(size=(80, 4))).astype(np.float32),
        pair_index=np.stack(
            [np.arange(40), np.where(np.arange(40) % 2, np.arange(40) + 40, (np.arange(40) + 7) % 40)], 1
        ),
        issame=np.arange(40) % 2 == 1,
    )
    return tmp_path / "mine.npz"


def invoke(*arguments):
    return CliRunner().invoke(evaluate, list(map(str, arguments)), catch_exceptions=False)


def test_json_is_one_object_on_standard_output(stored, tmp_path):
    outcome = invoke("--embeddings", stored, "--output", tmp_path / "out", "--json")
    assert outcome.exit_code == 0
    values = json.loads(outcome.stdout)
    assert list(values) == ["mine"]
    assert values["mine"]["pairs"] == 40
    assert json.loads((tmp_path / "out" / "report.json").read_text())["results"] == values
    assert "report.json" in outcome.stderr


def test_people_get_a_table(stored, tmp_path):
    outcome = invoke("--embeddings", stored, "--output", tmp_path / "out", "--name", "orl")
    assert outcome.stdout.splitlines()[2].split()[:2] == ["orl", "40"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".txt", ".json", ".png", ".md", ".html", ".npz"}


@pytest.fixture
def calls(monkeypatch, stored, tmp_path):
    """The arguments that the command hands on."""
    seen = []

    from facerec.serving import locate

    monkeypatch.setattr(locate, "locate_model", lambda model: f"/found/{model}")

    def record(**arguments):
        seen.append(arguments)
        return run_module.run_on_embeddings(stored, output=tmp_path / "out")

    monkeypatch.setattr(run_module, "run_evaluation", record)
    return seen


def test_empty_values_count_as_absent(calls):
    arguments = [
        "--checkpoint",
        "c",
        "--config",
        "",
        "--bin",
        "",
        "--name",
        "",
        "--device",
        "",
        "--set",
        "",
        "--output",
    ]
    assert invoke(*arguments, "").exit_code == 0
    (call,) = calls
    del call["progress"]
    assert call == {
        "checkpoint": "/found/c",
        "subject": "c",
        "config_path": None,
        "overrides": [],
        "bins": [],
        "name": None,
        "output": None,
        "device": None,
        "options": run_module.ReportOptions(),
    }


def test_given_values_are_handed_on(calls, tmp_path):
    outcome = invoke(
        *["--config", "c.yaml", "--checkpoint", "c", "--bin", "a.bin", "--bin", "b.bin", "--name", "n"],
        *["--output", tmp_path, "--set", "eval.flip=false", "--device", "cpu", "--resamples", "20", "--no-faces"],
        *["--group", "x=x.bin", "--group", "y=y.bin", "--group-far", "0.01", "--save-embeddings", tmp_path / "e.npz"],
    )
    assert outcome.exit_code == 0
    (call,) = calls
    call["progress"]("lfw", 20, 20)
    del call["progress"]
    assert call == {
        "checkpoint": "/found/c",
        "subject": "c",
        "config_path": "c.yaml",
        "overrides": ["eval.flip=false"],
        "bins": ["a.bin", "b.bin"],
        "name": "n",
        "output": tmp_path,
        "device": "cpu",
        "options": run_module.ReportOptions(
            num_resamples=20,
            faces=False,
            group_sets=(("x", "x.bin"), ("y", "y.bin")),
            group_far=0.01,
            save_embeddings=tmp_path / "e.npz",
        ),
    }


@pytest.mark.parametrize("arguments", [[], ["--checkpoint", "a", "--embeddings", "b"], ["--checkpoint", ""]])
def test_exactly_one_source_must_be_given(arguments):
    with pytest.raises(UsageError, match="either --checkpoint MODEL or --embeddings"):
        invoke(*arguments)


@pytest.mark.parametrize("option", [["--bin", "a"], ["--device", "cpu"], ["--no-faces"], ["--group", "a=b"]])
def test_what_has_no_effect_on_embeddings_is_refused(stored, option):
    with pytest.raises(UsageError, match=f"{option[0]} has no effect with --embeddings"):
        invoke("--embeddings", stored, *option)


@pytest.mark.parametrize("option", [["--resamples", "0"], ["--group-far", "0.01"], ["--bin", "a"], ["--no-faces"]])
def test_what_has_no_effect_on_templates_is_refused(option):
    with pytest.raises(UsageError, match=f"{option[0]} has no effect with --templates"):
        invoke("--checkpoint", "c", "--templates", "IJBC", *option)


def test_a_group_far_without_groups_is_refused():
    with pytest.raises(UsageError, match="--group-far has no effect without groups"):
        invoke("--checkpoint", "c", "--group-far", "0.01")


@pytest.mark.parametrize("text", ["a", "=a.bin", "a=", " = "])
def test_a_group_needs_a_name_and_a_set(text):
    with pytest.raises(UsageError, match=r"African=african\.bin"):
        invoke("--checkpoint", "c", "--group", text)


def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "--embeddings", str(tmp_path / "nowhere.npz"), "--json"])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: embeddings file")
    assert printed.err.count("\n") == 1


def test_the_alias_of_the_earlier_framework_works(stored, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["test", "--embeddings", str(stored), "--output", str(tmp_path / "out"), "--json"])
    assert caught.value.code == 0
    assert list(json.loads(capsys.readouterr().out)) == ["mine"]


def test_progress_is_a_line_per_set_where_no_terminal_is(monkeypatch, capsys):
    from facerec.cli.reports import progress_on_stderr

    show = progress_on_stderr()
    for done in range(1, 5):
        show("lfw", done, 4)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "lfw: 4 of 4 images\n"
