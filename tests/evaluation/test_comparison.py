"""Models side by side: what is the same, what differs, and what cannot be compared."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from facerec.errors import DataError, MissingPathError, UsageError
from facerec.evaluation.comparison import Candidate, compare_candidates, comparison_to_json, same_pairs
from facerec.evaluation.comparison_run import Subject, _difference_text, run_comparison
from facerec.evaluation.run import ReportOptions, run_on_embeddings
from facerec.evaluation.stored_scores import is_stored_evaluation, read_evaluation
from facerec.metrics.compare import Difference
from facerec.metrics.intervals import Interval

from .conftest import made_up_result


def candidate(label, *results):
    return Candidate(label=label, source=label, results=results)


@pytest.fixture(scope="module")
def pair():
    """A good and a poor model on the same pairs."""
    good, poor = made_up_result(quality=1.6, seed=0), made_up_result(quality=0.8, seed=0)
    assert good.accuracy > poor.accuracy + 0.03
    return good, poor


def test_a_better_model_is_told_from_a_worse_one_and_not_from_itself(pair):
    good, poor = pair
    (one,) = compare_candidates(
        [candidate("poor", poor), candidate("good", good), candidate("again", poor)], num_resamples=200
    )
    assert one.differences[0] is None
    better, same = one.differences[1:]
    assert better.metrics["accuracy"].difference == pytest.approx(good.accuracy - poor.accuracy)
    assert better.metrics["auc"].interval.low > 0.0
    assert better.mcnemar.p_value < 0.01
    assert better.mcnemar.only_second > better.mcnemar.only_first
    assert same.metrics["auc"].difference == 0.0
    assert tuple(same.metrics["auc"].interval) == (0.0, 0.0)
    assert same.mcnemar.p_value == 1.0


def test_the_same_pairs_are_told_by_the_file_or_by_known_people(pair):
    good, poor = (dataclasses.replace(one, identities_known=True) for one in pair)
    elsewhere = dataclasses.replace(poor, sha256="cd" * 32, people=poor.people * 7 + 3)
    assert same_pairs(good, elsewhere)
    assert not same_pairs(good, dataclasses.replace(elsewhere, identities_known=False))
    others = elsewhere.people.copy()
    others[1] = others[1, 0]
    assert not same_pairs(good, dataclasses.replace(elsewhere, people=others))
    assert not same_pairs(good, dataclasses.replace(poor, issame=~poor.issame))
    assert not same_pairs(good, made_up_result(num_pairs=300))


def test_unrelated_sets_of_one_size_and_the_same_labels_get_no_paired_test(tmp_path):
    lfw = made_up_result(name="lfw", seed=0)
    other = dataclasses.replace(made_up_result(name="agedb_30", seed=1), sha256="cd" * 32)
    assert np.array_equal(lfw.issame, other.issame)
    assert np.array_equal(lfw.people, other.people)
    (one,) = compare_candidates([candidate("a", lfw), candidate("b", other)], num_resamples=5)
    assert one.name == "lfw / agedb_30"
    assert one.differences == [None, None]
    (named,) = compare_candidates(
        [candidate("a", lfw), candidate("b", dataclasses.replace(other, name="lfw"))], num_resamples=5
    )
    assert named.differences == [None, None]


def test_rows_of_differently_named_sets_say_which_set_they_are_of(stored, tmp_path):
    subjects = [Subject(text=str(path), path=path) for path in (stored / "stranger.npz", stored / "sharp.npz")]
    run = run_comparison(subjects, output=tmp_path / "out", num_resamples=5)
    results = run.results["sets"]["stranger / sharp"]["results"]
    assert [one["set"] for one in results.values()] == ["stranger", "sharp"]
    assert run.results["sets"]["stranger / sharp"]["differences_to_first"] == {}
    assert "McNemar" not in run.text
    assert "no paired test is possible" in run.text
    table = (tmp_path / "out" / "compare.md").read_text()
    assert "| model | set |" in table


def test_rates_below_what_the_pairs_show_are_marked_and_their_differences_are_not(stored, tmp_path):
    subjects = [Subject(text=str(path), path=path) for path in (stored / "earlier", stored / "sharp.npz")]
    text = run_comparison(subjects, output=tmp_path / "out", num_resamples=50).text
    # Thirty impostor pairs: 0.3 errors are expected at FAR 1e-2.
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert rows["earlier"].count("*") == 3
    assert "*TAR@1e-2" in rows
    for far in ("1e-2", "1e-3", "1e-4"):
        assert "!" not in rows[f"*TAR@{far}"]
    assert "* fewer than 3 are expected" in text


def test_a_difference_at_a_bound_carries_no_sign_of_evidence():
    surely = Difference(difference=0.2, interval=Interval(0.1, 0.3))
    assert _difference_text(surely).endswith("!")
    assert _difference_text(surely, is_bound=True) == "+20.00 (+10.00 to +30.00)"


def test_sets_are_matched_by_name_and_others_left_out(results):
    first, second, third = results
    sets = compare_candidates(
        [candidate("a", first, second), candidate("b", second, third), candidate("c", first)], num_resamples=5
    )
    assert [one.name for one in sets] == ["set_0", "set_1"]
    assert [result is None for result in sets[0].results] == [False, True, False]
    plain = json.loads(json.dumps(comparison_to_json([candidate(x) for x in "abc"], sets), allow_nan=False))
    assert set(plain["sets"]["set_1"]["results"]) == {"a", "b"}
    assert set(plain["sets"]["set_1"]["differences_to_first"]) == {"b"}


def test_other_pairs_get_no_paired_test():
    (one,) = compare_candidates([candidate("a", made_up_result()), candidate("b", made_up_result(num_pairs=300))])
    assert one.differences == [None, None]


def test_nothing_in_common_is_an_error(results):
    with pytest.raises(UsageError, match="no pair set in common"):
        compare_candidates([candidate("a", results[0], results[1]), candidate("b", results[2])])
    with pytest.raises(UsageError, match="two models or more"):
        compare_candidates([candidate("a", results[0])])


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    for name, noise in (("sharp", 0.4), ("blurred", 1.2)):
        generator = np.random.default_rng(0)
        people = generator.normal(size=(60, 8))
        second = np.where((np.arange(60) % 2 == 1)[:, None], people, np.roll(people, 1, axis=0))
        both = np.concatenate([people, second])
        np.savez(
            folder / f"{name}.npz",
            original=(both + noise * generator.normal(size=both.shape)).astype(np.float32),
            pair_index=np.stack([np.arange(60), np.arange(60) + 60], axis=1),
            issame=np.arange(60) % 2 == 1,
            pair_set=np.array(["ab" * 32]),
        )
    kept = dict(np.load(folder / "sharp.npz"))
    np.savez(folder / "stranger.npz", **{name: kept[name] for name in ("original", "pair_index", "issame")})
    run_on_embeddings(folder / "blurred.npz", output=folder / "earlier", options=ReportOptions(num_resamples=20))
    return folder


def test_an_evaluation_read_again_is_the_evaluation(stored):
    (found,) = read_evaluation(stored / "earlier")
    report = json.loads((stored / "earlier" / "report.json").read_text())["results"]["blurred"]
    for name in ("accuracy", "accuracy_exact", "auc", "eer", "xnorm", "d_prime", "sha256", "pairs"):
        assert getattr(found, name) == report[name]
    assert is_stored_evaluation(stored / "earlier" / "report.json")
    assert not is_stored_evaluation(stored)


def test_a_damaged_evaluation_is_refused(stored, tmp_path):
    import shutil

    shutil.copytree(stored / "earlier", tmp_path / "e")
    report = tmp_path / "e" / "report.json"
    content = json.loads(report.read_text())
    content["results"]["blurred"]["pairs"] = 59
    report.write_text(json.dumps(content))
    with pytest.raises(DataError, match="do not fit the report"):
        read_evaluation(tmp_path / "e")
    report.write_text("{}")
    with pytest.raises(DataError, match="holds no results"):
        read_evaluation(report)
    (tmp_path / "e" / "scores.npz").unlink()
    with pytest.raises(MissingPathError, match=r"scores\.npz does not exist"):
        read_evaluation(tmp_path / "e")


def test_files_and_earlier_evaluations_are_compared_in_a_folder(stored, tmp_path):
    subjects = [Subject(text=str(path), path=path) for path in (stored / "earlier", stored / "sharp.npz")]
    run = run_comparison(subjects, output=tmp_path / "out", num_resamples=50)
    assert {path.name for path in run.files} == {
        *("compare.json", "compare.md", "compare.html"),
        *("roc_blurred___sharp.png", "det_blurred___sharp.png"),
    }
    assert all(path.is_file() for path in run.files)
    assert run.results["models"] == {"earlier": str(stored / "earlier"), "sharp": str(stored / "sharp.npz")}
    difference = run.results["sets"]["blurred / sharp"]["differences_to_first"]["sharp"]
    assert difference["accuracy"]["difference"] > 0.0
    assert "McNemar" in run.text
    assert "sharp" in (tmp_path / "out" / "compare.md").read_text()


def test_subjects_of_one_name_are_told_apart(stored, tmp_path):
    subject = Subject(text=str(stored / "sharp.npz"), path=Path(stored / "sharp.npz"))
    run = run_comparison([subject, subject], output=tmp_path / "out", num_resamples=5)
    assert [label.split(":")[0] for label in run.results["models"]] == ["1", "2"]
