"""What the reports say equals the results."""

import json
import re

import pytest

from facerec.evaluation.report import format_table, result_to_json, write_summary
from facerec.metrics.intervals import clopper_pearson

from .conftest import made_up_result


def test_json_holds_the_agreed_keys_and_is_plain_data(result):
    plain = json.loads(json.dumps(result_to_json(result), allow_nan=False))
    agreed = ["accuracy", "accuracy_std", "fold_accuracy", "fold_threshold_sq_l2", "auc", "eer", "pairs", "sha256"]
    agreed += [f"{kind}_at_far_1e-{k}" for kind in ("tar", "threshold") for k in (1, 2, 3, 4)]
    assert set(agreed) <= set(plain)
    assert len(plain["fold_accuracy"]) == len(plain["fold_threshold_sq_l2"]) == 10
    assert plain["accuracy"] == result.accuracy
    assert plain["tar_at_far_1e-1"] == result.operating_points[0].tar
    assert plain["threshold_at_far_1e-1"] == result.operating_points[0].threshold
    assert (plain["pairs"], plain["genuine"], plain["sha256"]) == (400, 200, "ab" * 32)


def test_json_marks_points_that_the_pairs_cannot_show(result):
    # 200 impostor pairs: 20 errors are expected at 1e-1, 2 at 1e-2.
    plain = result_to_json(result)
    assert plain["untrusted_far"] == ["1e-1", "1e-2", "1e-3", "1e-4"]
    assert plain["bound_far"] == ["1e-2", "1e-3", "1e-4"]
    assert plain["far_upper_1e-4"] == result.operating_points[3].far_upper
    assert plain["far_upper_1e-4"] == pytest.approx(3 / 200, rel=0.02)
    many = result_to_json(made_up_result(num_pairs=800))
    assert many["untrusted_far"] == ["1e-2", "1e-3", "1e-4"]


def test_an_infinite_separation_is_null_in_json(result):
    import dataclasses

    endless = dataclasses.replace(result, d_prime=float("inf"))
    assert result_to_json(endless)["d_prime"] is None


def test_the_table_has_a_line_per_set_marks_and_the_mean(results):
    lines = format_table(results).splitlines()
    assert [line.split()[0] for line in lines[:6]] == ["set", lines[1], "set_0", "set_1", "set_2", "mean"]
    assert f"{100 * results[0].accuracy:.2f}" in lines[2]
    assert "~" in lines[2]
    assert "*" in lines[2]
    assert f"{100 * sum(result.accuracy for result in results) / 3:.2f}" in lines[5]
    assert any(line.startswith("~  fewer than 30") for line in lines)
    assert any(line.startswith("*  fewer than 3 ") for line in lines)
    assert "mean" not in format_table(results[:1])


def test_the_summary_holds_facts_hashes_folds_and_intervals(tmp_path, results):
    path = tmp_path / "deep" / "test_result_a.txt"
    write_summary(results, path, facts={"model": "tiny", "command": "facerec evaluate"})
    text = path.read_text(encoding="utf-8")
    assert "model    tiny" in text
    assert "command  facerec evaluate" in text
    for result in results:
        assert f"{result.name}: 400 pairs, 200 genuine, 200 impostor" in text
    assert text.count("ab" * 32) == 3
    point = results[0].operating_points[0]
    low, high = clopper_pearson(point.true_accepts, 200)
    assert f"{100 * low:.2f} to {100 * high:.2f}" in text
    assert f"{point.threshold:.4f}" in text
    assert not re.search(r"[ \t]+$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("num_pairs", [400, 100_000])
def test_notes_stand_only_where_something_is_marked(num_pairs):
    table = format_table([made_up_result(num_pairs=num_pairs)])
    assert ("~" in table, "*" in table) == ((True, True) if num_pairs == 400 else (True, False))
