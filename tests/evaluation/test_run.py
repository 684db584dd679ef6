"""A whole evaluation, from a weights file and pair sets to a folder of reports."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from facerec.config.load import config_from_dict
from facerec.data.pairs import read_pairs
from facerec.errors import ConfigError, MissingPathError, UsageError
from facerec.evaluation.run import ReportOptions, run_evaluation, run_on_embeddings
from facerec.evaluation.suites import evaluate_suite
from facerec.fsio import sha256_file
from facerec.models.build import build_backbone

from .conftest import write_bin

SIDE = 32


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A configuration, weights and two pair sets."""
    folder = tmp_path_factory.mktemp("run")
    plain = {
        "device": "cpu",
        "model": {"backbone": "mobilefacenet", "embedding_size": 64},
        "data": {"root": str(folder / "data"), "img_size": SIDE},
        "eval": {"bin_file": "a.bin", "test_batch_size": 32},
        "logging": {"log_dir": str(folder / "logs")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = config_from_dict(plain)
        backbone = build_backbone(config.model, image_hw=config.image_hw).eval()
    save_file(backbone.state_dict(), folder / "weights.safetensors")
    for seed, name in enumerate("ab"):
        write_bin(folder / "data" / f"{name}.bin", num_pairs=10, seed=seed, side=SIDE)
    return folder, backbone


def quick(**changes):
    return ReportOptions(num_resamples=20, **changes)


def settings(folder, **changes):
    place = {"checkpoint": folder / "weights.safetensors", "config_path": folder / "config.yaml"}
    return {**place, "options": quick(), **changes}


def test_results_are_those_of_the_backbone_and_the_files_agree(place, tmp_path):
    folder, backbone = place
    run = run_evaluation(**settings(folder, output=tmp_path / "out"))
    (expected,) = evaluate_suite(
        backbone,
        [read_pairs(folder / "data" / "a.bin", name="a")],
        image_hw=(SIDE, SIDE),
        device=torch.device("cpu"),
        batch_size=32,
    )
    (result,) = run.results
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-6)
    report = json.loads(run.report.read_text())
    assert report["results"]["a"]["accuracy"] == result.accuracy
    assert report["results"]["a"]["sha256"] == sha256_file(folder / "data" / "a.bin")
    assert report["facts"]["SHA-256 of the weights"] == sha256_file(folder / "weights.safetensors")
    assert report["facts"]["command"].startswith("facerec evaluate --config")
    assert run.summary.name.startswith("test_result_a_")
    text = run.summary.read_text()
    assert "mobilefacenet" in text
    assert sha256_file(folder / "data" / "a.bin") in text
    assert {path.parent for path in (run.summary, run.report, *run.pictures)} == {tmp_path / "out"}
    assert all(path.is_file() for path in run.pictures)


def test_reports_go_to_a_new_folder_under_the_log_folder(place):
    folder, _ = place
    first, second = (run_evaluation(**settings(folder, name="night")) for _ in range(2))
    assert first.folder != second.folder
    for run in (first, second):
        assert run.folder.parent == folder / "logs" / "evaluations"
        assert run.folder.name.startswith("night_")
        assert run.results[0].name == "night"


def test_sets_given_replace_those_of_the_configuration(place, tmp_path):
    folder, _ = place
    run = run_evaluation(**settings(folder, bins=["b.bin", str(folder / "data" / "a.bin")], output=tmp_path))
    assert [result.name for result in run.results] == ["b", "a"]
    assert run.summary.name.startswith("test_result_b_a_")


def test_a_name_for_several_sets_names_the_report_only(place, tmp_path):
    folder, _ = place
    run = run_evaluation(**settings(folder, bins=["b.bin", "a.bin"], name="both", output=tmp_path))
    assert [result.name for result in run.results] == ["b", "a"]
    assert run.summary.name.startswith("test_result_both_")


def test_overrides_have_their_effect(place, tmp_path):
    folder, _ = place
    run = run_evaluation(**settings(folder, overrides=["eval.flip=false eval.bin_file=b.bin"], output=tmp_path))
    assert [result.name for result in run.results] == ["b"]
    assert "original images alone" in run.summary.read_text()


def test_a_name_cannot_leave_the_folder(place, tmp_path):
    folder, _ = place
    run = run_evaluation(**settings(folder, name="../../escaped", output=tmp_path / "out"))
    assert run.summary.parent == tmp_path / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_progress_is_told(place, tmp_path):
    folder, _ = place
    seen = []
    run_evaluation(**settings(folder, output=tmp_path, progress=lambda *facts: seen.append(facts)))
    assert seen[-1] == ("a", 20, 20)


def test_without_pair_sets_or_configuration_it_says_what_to_give(place, tmp_path):
    folder, _ = place
    with pytest.raises(UsageError, match="--bin FILE"):
        run_evaluation(**settings(folder, overrides=["eval.bin_file=null"], output=tmp_path))
    with pytest.raises(ConfigError, match="--config FILE"):
        run_evaluation(checkpoint=folder / "weights.safetensors", output=tmp_path)
    with pytest.raises(MissingPathError, match="nowhere"):
        run_evaluation(**settings(folder, checkpoint=folder / "nowhere", output=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_brings_its_own_configuration(place, tmp_path):
    from facerec.config.load import config_to_dict, load_config
    from facerec.fsio import write_manifest

    folder, backbone = place
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    save_file(backbone.state_dict(), checkpoint / "model.safetensors")
    state = {"config": config_to_dict(load_config(folder / "config.yaml")), "num_classes": 3}
    (checkpoint / "state.json").write_text(json.dumps(state))
    write_manifest(checkpoint)
    run = run_evaluation(
        checkpoint=checkpoint, overrides=["eval.bin_file=b.bin"], output=tmp_path / "out", options=quick()
    )
    expected = run_evaluation(**settings(folder, bins=["b.bin"], output=tmp_path / "expected"))
    np.testing.assert_array_equal(run.results[0].scores, expected.results[0].scores)


def test_stored_embeddings_need_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    np.savez(
        "mine.npz",
        original=generator.normal(size=(40, 4)).astype(np.float32),
        pair_index=np.arange(40).reshape(-1, 2),
        issame=np.arange(20) % 2 == 0,
    )
    run = run_on_embeddings("mine.npz")
    assert run.results[0].name == "mine"
    assert run.folder.parent == Path("logs/evaluations")
    assert json.loads(run.report.read_text())["results"]["mine"]["pairs"] == 20
    assert "original images alone" in run.summary.read_text()


def test_a_pair_set_from_elsewhere_goes_the_whole_way(shared_data, place, tmp_path):
    folder, _ = place
    pack = shared_data / "mxnet" / "bins" / "py2_proto2.bin"
    run = run_evaluation(**settings(folder, bins=[str(pack)], name="lfw", output=tmp_path))
    assert run.results[0].pairs == 60
    assert run.results[0].sha256 == sha256_file(pack)


def test_faces_are_shown_and_kept_apart_from_what_is_sent_away(place, tmp_path):
    folder, _ = place
    run = run_evaluation(**settings(folder, output=tmp_path / "with", options=quick()))
    assert [path.name for path in run.faces] == ["hardest_0_a.png", "report.html"]
    assert not set(run.faces) & {run.report, run.summary, *run.pictures, *run.documents}
    bare = run_evaluation(**settings(folder, output=tmp_path / "without", options=quick(faces=False)))
    assert bare.faces == ()
    assert [path.name for path in bare.documents] == ["report.md", "scores.npz", "report.html"]
    assert bare.results[0].accuracy == run.results[0].accuracy
    assert (tmp_path / "with" / "report.html").stat().st_size > (tmp_path / "without" / "report.html").stat().st_size


def test_sets_of_groups_are_judged_at_one_threshold(place, tmp_path):
    folder, _ = place
    options = quick(group_sets=(("north", "a.bin"), ("south", "b.bin")), group_far=0.2, faces=False)
    run = run_evaluation(**settings(folder, output=tmp_path / "out", options=options))
    assert [result.name for result in run.results] == ["north", "south"]
    report = json.loads(run.report.read_text())["groups"]
    assert list(report["groups"]) == ["north", "south"]
    assert report["far_target"] == "2e-1"
    assert all(group["too_small"] for group in report["groups"].values())
    assert "groups.png" in [path.name for path in run.pictures]
    assert "--group north=a.bin --group south=b.bin" in run.summary.read_text()


def test_a_file_of_groups_needs_one_set(place, tmp_path):
    folder, _ = place
    lines = ["pair,group", *(f"{pair},{'old' if pair < 5 else 'new'}" for pair in range(10))]
    (tmp_path / "g.csv").write_text("\n".join(lines))
    options = quick(groups_csv=str(tmp_path / "g.csv"), group_far=0.5, faces=False)
    run = run_evaluation(**settings(folder, output=tmp_path / "out", options=options))
    assert [rate.group for rate in run.groups.rates] == ["old", "new"]
    with pytest.raises(UsageError, match="one set"):
        run_evaluation(**settings(folder, bins=["a.bin", "b.bin"], output=tmp_path / "no", options=options))
    both = quick(groups_csv=str(tmp_path / "g.csv"), group_sets=(("x", "a.bin"),))
    with pytest.raises(UsageError, match="give one of them"):
        run_evaluation(**settings(folder, output=tmp_path / "no", options=both))
    taken = quick(group_sets=(("x", "a.bin"), ("x", "b.bin")))
    with pytest.raises(ConfigError, match="called 'x'"):
        run_evaluation(**settings(folder, output=tmp_path / "no", options=taken))


def test_saved_embeddings_give_the_same_results_again(place, tmp_path):
    folder, _ = place
    options = quick(save_embeddings=tmp_path / "kept.npz", faces=False)
    run = run_evaluation(**settings(folder, output=tmp_path / "out", options=options))
    again = run_on_embeddings(tmp_path / "kept.npz", output=tmp_path / "again", options=quick())
    np.testing.assert_array_equal(again.results[0].scores, run.results[0].scores)
    np.testing.assert_array_equal(again.results[0].people, run.results[0].people)
    assert again.results[0].sha256 == run.results[0].sha256 == sha256_file(folder / "data" / "a.bin")
    assert again.results[0].xnorm == pytest.approx(run.results[0].xnorm)
    run_evaluation(**settings(folder, bins=["a.bin", "b.bin"], output=tmp_path / "two", options=options))
    assert (tmp_path / "kept_a.npz").is_file()
    assert (tmp_path / "kept_b.npz").is_file()


def test_lfw_by_another_framework_gives_its_published_figures(shared_data, tmp_path):
    expected = json.loads((shared_data / "oracle" / "lfw_expected.json").read_text())
    run = run_on_embeddings(
        shared_data / "oracle" / "lfw_embeddings.npz", output=tmp_path, options=ReportOptions(num_resamples=50)
    )
    found = json.loads(run.report.read_text())["results"]["lfw_embeddings"]
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-12)
    assert found["accuracy_std"] == pytest.approx(expected["std"], abs=1e-12)
    assert found["fold_accuracy"] == pytest.approx(expected["fold_accuracy"], abs=1e-12)
    assert found["bootstrap"] == {"resamples": 50, "people": 4859}
    assert found["identities_known"] is False
    low, high = found["intervals"]["accuracy"]["bootstrap"]
    assert low < found["accuracy"] < high
    page = (tmp_path / "report.html").read_text()
    assert "99.033" in page
