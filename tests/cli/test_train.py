"""`facerec train`, `summary` and `predict`: what they print, and the forms of --resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from facerec.cli.main import main
from facerec.cli.train import _option_overrides
from facerec.config.load import load_config
from tests.packs import draw, encode_png, write_pack, write_pair_set


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file beside its data and, once it has been trained, its runs."""
    folder = tmp_path_factory.mktemp("train")
    write_pack(folder / "pack", identities=4, pictures=8)
    write_pair_set(folder / "pack" / "people.bin")
    settings: dict[str, Any] = {
        "model": {"backbone": "iresnet_mini", "embedding_size": 32},
        "data": {"root": str(folder / "pack"), "batch_size": 16, "img_size": 32, "num_workers": 0},
        "training": {"epochs": 1, "lr": 0.01, "amp": False},
        "checkpoint": {"save_dir": str(folder / "runs")},
        "logging": {"log_dir": str(folder / "logs"), "mlflow": False},
        "eval": {"bin_file": "people.bin"},
        "device": "cpu",
    }
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def trained(config: Path) -> Path:
    """The run folder of one training by the command."""
    assert run("train", "--config", config) == 0
    (folder,) = (config.parent / "runs").iterdir()
    return folder


def test_a_dry_run_says_what_would_run_and_writes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("train", "--config", config, "--dry-run", "--set", f"checkpoint.save_dir={tmp_path / 'runs'}")
    assert code == 0
    out = capsys.readouterr().out
    assert "32 images of 4 identities" in out
    assert "2 steps per epoch, 1 epochs, 2 updates" in out
    assert "iresnet_mini" in out
    assert "people: 40 pairs, 20 genuine" in out
    assert not (tmp_path / "runs").exists()


def test_a_training_ends_with_its_summary(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--config", config, "--set", f"checkpoint.save_dir={tmp_path / 'runs'}", "--device", "cpu") == 0
    captured = capsys.readouterr()
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"run folder   {folder}" in captured.out
    assert "people       10-fold accuracy 0." in captured.out
    assert run("summary", folder) == 0
    assert capsys.readouterr().out == captured.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume"], "there is no run to resume"),
        (["--resume=true"], "there is no run to resume"),
        (["--resume=nowhere"], "nowhere to resume from does not exist"),
        (["--device", "tpu"], "tpu"),
        (["--set", "data.root=nowhere"], "nowhere"),
        (["--set", "training.lr=fast"], "training.lr"),
    ],
)
def test_a_mistake_is_one_message_with_code_2_and_starts_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code = run("train", "--config", config, "--set", f"checkpoint.save_dir={tmp_path / 'runs'}", *options)
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "runs").exists()


def test_learning_by_heart_tells_the_verdict_and_fails_where_it_cannot(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["train", "--config", config, "--overfit", "1", "--set", f"checkpoint.save_dir={tmp_path / 'runs'}"]
    assert run(*options, "--set", "training.lr=0.05") == 0
    assert capsys.readouterr().out.startswith("LEARNT  1 batch(es), 16 images")
    monkeypatch.setattr("facerec.training.overfit._MOST_PASSES", 2)
    assert run(*options, "--set", "training.lr=1e-9") == 1
    assert capsys.readouterr().out.startswith("NOT LEARNT")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--dry-run", "--overfit", "2"], "--dry-run and --overfit exclude each other"),
        (["--nproc", "2", "--dry-run"], "--dry-run and --overfit run in one process; leave --nproc out"),
        (["--nproc", "2", "--overfit", "1"], "--dry-run and --overfit run in one process; leave --nproc out"),
        (["--nproc", "0"], "Invalid value for '--nproc'"),
        (["--overfit", "x"], "Invalid value for '--overfit'"),
        (["--dry-run", "--register-as", "faces"], "leave nothing to register; leave --register-as out"),
        (["--overfit", "1", "--register-as", "faces"], "leave nothing to register; leave --register-as out"),
        (["--from-trial", "study:1"], "give either --config FILE or --from-trial STUDY:N"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    config: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert run("train", "--config", config, *options) == 2
    captured = capsys.readouterr()
    assert sentence in " ".join(captured.err.split())
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_training_needs_a_configuration_or_a_trial(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train") == 2
    assert "give either --config FILE or --from-trial STUDY:N" in capsys.readouterr().err
    assert run("train", "--from-trial", "study:1", "--nproc", "2") == 2
    assert "write the trial's configuration with `facerec tune export`" in capsys.readouterr().err


def test_more_processes_than_gpus_are_one_sentence_before_any_starts(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("facerec.training.launch.launch", lambda *_, **__: pytest.fail("processes were started"))
    assert run("train", "--config", config, "--nproc", "3", "--device", "cuda") == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "torch sees 2; start at most 2 processes per machine" in captured.err


@pytest.mark.parametrize("form", [["--resume"], ["--resume=true"], ["--resume=TRUE"], ["--resume={run}"]])
def test_resume_takes_the_latest_or_the_named_run(config: Path, trained: Path, form: list[str]) -> None:
    options = [text.replace("{run}", str(trained)) for text in form]
    assert run("train", "--config", config, *options) == 0
    assert list(trained.parent.iterdir()) == [trained]


@pytest.mark.parametrize("form", ["--resume=false", "--resume="])
def test_resume_that_is_false_or_empty_starts_anew(config: Path, trained: Path, tmp_path: Path, form: str) -> None:
    save_dir = tmp_path / "runs"
    for count in (1, 2):
        assert run("train", "--config", config, "--set", f"checkpoint.save_dir={save_dir}", form) == 0
        assert len(list(save_dir.iterdir())) == count


@pytest.mark.parametrize(
    "path", ["runs/20260101_000000", "runs/it's here", "123", "a: b", "null", "a,b", "c #d", "my a.b=1 run"]
)
def test_a_path_to_resume_reaches_the_configuration_unchanged(config: Path, path: str) -> None:
    assert load_config(config, _option_overrides("", path)).training.resume == path


def test_an_option_counts_more_than_set(config: Path) -> None:
    overrides = ["device=cuda", "training.resume=true", *_option_overrides("cpu", "false")]
    chosen = load_config(config, overrides)
    assert (chosen.device, chosen.training.resume) == ("cpu", False)


@pytest.fixture
def faces(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    a.write_bytes(encode_png(draw(50, 0)))
    b.write_bytes(encode_png(draw(51, 0)))
    return a, b


def test_predict_prints_the_similarity(
    trained: Path, faces: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("predict", *faces, "--model", trained, "--device", "cpu") == 0
    text = capsys.readouterr().out
    assert -1.0 <= float(text) <= 1.0
    assert run("predict", *faces, "--model", trained, "--device", "cpu", "--json") == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert (answer["image_a"], answer["image_b"]) == tuple(map(str, faces))
    assert answer["similarity"] == pytest.approx(float(text), abs=1e-6)


def test_predict_names_what_it_cannot_read(
    trained: Path, faces: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces[1].write_bytes(b"no picture")
    capsys.readouterr()
    assert run("predict", *faces, "--model", trained, "--device", "cpu") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(faces[1]) in captured.err
    assert run("predict", *faces, "--model", tmp_path / "absent") == 2
    assert "absent does not exist" in capsys.readouterr().err


def test_a_storage_belongs_to_a_trial(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--config", config, "--storage", "sqlite:///study.db") == 2
    assert "--storage has no effect without --from-trial" in capsys.readouterr().err
