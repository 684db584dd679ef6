"""Configurations: every problem at once, with line, dotted path and near match; nothing without an effect."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from facerec.config.load import (
    config_from_dict,
    config_to_dict,
    dump_yaml,
    find_config,
    flatten,
    json_schema,
    known_keys,
    load_config,
    split_overrides,
)
from facerec.config.schema import Config
from facerec.errors import ConfigError, MissingPathError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert isinstance(load_config(path), Config)


def test_every_problem_is_reported_with_line_and_path(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "modle: {}\nmodel:\n  backbone: iresnet5\n  embedding_sise: 8\ntraining:\n  epochs: ten\n  warmup_epochs: 30\n"
        "  milestones: [3, x]\nlr: 3\neval: {bin_file: [a.bin, 3]}\n",
    )
    found = problems(path, "head.tyep=arcface", "device=gpu")
    where = f"{path}, line"
    assert any(line.startswith(f"{where} 1: modle: unknown key (did you mean 'model'?)") for line in found)
    assert any(line.startswith(f"{where} 3: model.backbone: unknown backbone 'iresnet5'") for line in found)
    assert any("line 4: model.embedding_sise" in line and "'model.embedding_size'" in line for line in found)
    assert f"{where} 6: training.epochs: must be a whole number, not 'ten'" in found
    assert any(line.startswith(f"{where} 7: training.warmup_epochs: 30 is longer") for line in found)
    assert f"{where} 8: training.milestones.1: must be a whole number, not 'x'" in found
    assert any("line 9: lr: unknown key (did you mean 'training.lr'?)" in line for line in found)
    assert f"{where} 10: eval.bin_file.1: must be text, not 3" in found
    assert any(line.startswith("--set head.tyep: unknown key (did you mean 'head.type'?)") for line in found)
    assert any(line.startswith("--set device: 'gpu' is no device") for line in found)
    assert len(found) == 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: {lr: 0}", "training.lr: must be above 0, not 0"),
        ("training: {lr: .nan}", "training.lr: must be a finite number"),
        ("training: {lr: true}", "training.lr: must be a number, not True"),
        ("training: {amp: 1}", "training.amp: must be true or false, not 1"),
        ("training: {momentum: 1.0}", "training.momentum: must be below 1"),
        ("training: {optimizer: sdg}", "training.optimizer: must be 'sgd', 'adam' or 'adamw', not 'sdg'"),
        ("training: {scheduler: multistep, milestones: [8, 8]}", "training.milestones: must rise strictly"),
        ("training: {min_lr: 1.0}", "training.min_lr: 1 is above training.lr"),
        ("training: {early_stop: true}", "training.early_stop: needs something to watch"),
        (
            "training: {monitor: train/loss, mode: max}",
            "training.mode: 'max' would keep the checkpoint with the largest",
        ),
        ("training: {monitor: eer, mode: max}", "the largest eer; set mode: min, or remove the key"),
        ("training: {monitor: eval/lfw/accuracy_std, mode: max}", "set mode: min, or remove the key"),
        ("training: {mode: min}", "the smallest accuracy; set mode: max, or remove the key"),
        ("training: {grad_clip_norm: 0, grad_clip_part: backbone}", "training.grad_clip_part: has no effect"),
        ("head: {h: 0.3}", "head.h: has no effect with head.type 'arcface'"),
        ("head: {easy_margin: true}", "head.easy_margin: belongs to the exact gradient"),
        ("head: {type: arcfase}", "did you mean 'arcface'?"),
        ("model: {pretrained: true}", "model.pretrained: true names no weights"),
        ("model: {backbone: mobilefacenet, dropout: 0.1}", "model.dropout: mobilefacenet has no dropout"),
        ("eval: {dataset: x, bin_file: [a.bin, b.bin]}", "eval.dataset: names one pair set"),
        ("eval: {bin_file: [a/x.bin, b/x.bin]}", "eval.bin_file: lists two files of the same name"),
        ("data: {img_size: [112]}", "data.img_size"),
        ("data: 3", "data: must be a section of keys, not 3"),
        ("device: cuda:x", "device: 'cuda:x' is no device"),
        ("[1, 2]", "the top level must be a mapping"),
        ("seed: 1\nseed: 2", "line 2: 'seed' is set twice"),
        ("seed: [1", "not valid YAML"),
        ("seed: !!python/object/apply:os.system ['true']", "the tag"),
        ("model: &a {}\nhead: *a", "aliases (*a) are not allowed"),
        ("1: 2", "1: unknown key"),
        ("? [a]\n: 1", "keys must be plain words"),
    ],
)
def test_a_mistake_gets_its_sentence(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(problems(write(tmp_path, text)))


def test_a_deeply_nested_document_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in problems(write(tmp_path, "a: " + "[" * 5000 + "]" * 5000))[0]


def test_a_document_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"seed: \xff")
    assert "not UTF-8" in problems(path)[0]
    path.write_text("#" * (1 << 20) + "\n#")
    assert "at most" in problems(path)[0]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(MissingPathError, match=r"config file nowhere\.yaml does not exist"):
        load_config("nowhere.yaml")


def test_configurations_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("configs/demo.yaml") == CONFIGS / "demo.yaml"


def test_numbers_are_read_as_in_yaml_1_2(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "training: {lr: 1e-3, weight_decay: 5E-4, min_lr: 0}"))
    assert (config.training.lr, config.training.weight_decay, config.training.min_lr) == (1e-3, 5e-4, 0)


def test_an_empty_file_and_empty_sections_mean_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()
    assert load_config(write(tmp_path, "model:\n  # all commented out\nhead:\n")) == Config()


def test_overrides_count_more_than_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "training: {lr: 0.1, epochs: 3}")
    config = load_config(path, ["training.lr=0.05 training.milestones=[2, 3] ", "", "data.root=a b", "seed=7"])
    assert config.training.lr == 0.05
    assert config.training.epochs == 3
    assert config.training.milestones == (2, 3)
    assert config.data.root == "a b"
    assert config.seed == 7


def test_overrides_split_only_where_a_key_begins() -> None:
    assert list(split_overrides(["a.b=1 c.d=[2, 3] e=x y  f=2"])) == ["a.b=1", "c.d=[2, 3]", "e=x y", "f=2"]


@pytest.mark.parametrize("value", ["'my run a.b=1'", "'it''s here a.b=1'", '"my \\" run a.b=1"'])
def test_a_quoted_value_is_never_taken_apart(value: str) -> None:
    assert list(split_overrides([f"x.y={value} c.d=2"])) == [f"x.y={value}", "c.d=2"]


def test_an_apostrophe_in_the_middle_of_a_value_quotes_nothing() -> None:
    assert list(split_overrides(["a=it's c.d=2 e='x'"])) == ["a=it's", "c.d=2", "e='x'"]


@pytest.mark.parametrize("text", ["training.lr", "=3"])
def test_an_override_without_key_or_value_is_refused(tmp_path: Path, text: str) -> None:
    assert "write KEY=VALUE" in problems(write(tmp_path, ""), text)[0]


def test_dumped_yaml_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    config = config_from_dict({"eval": {"bin_file": ["a.bin"]}, "data": {"img_size": [112, 96], "root": "ä"}})
    assert load_config(write(tmp_path, dump_yaml(config))) == config
    assert config_from_dict(config_to_dict(config)) == config


def test_size_and_pair_sets_in_their_forms() -> None:
    assert config_from_dict({"data": {"img_size": 96}}).image_hw == (96, 96)
    assert config_from_dict({"data": {"img_size": [112, 96]}}).image_hw == (112, 96)
    assert config_from_dict({}).bin_files == ()
    assert config_from_dict({"eval": {"bin_file": "lfw.bin"}}).bin_files == ("lfw.bin",)
    assert config_from_dict({"eval": {"dataset": "lfw"}}).bin_files == ("lfw.bin",)


def test_a_configuration_of_the_earlier_framework_is_accepted(tmp_path: Path) -> None:
    text = """
seed: 42
deterministic: true
device: cuda
model: {backbone: resnet50, embedding_size: 512, pretrained: false}
head: {type: adaface, num_classes: 85742, margin: 0.4, scale: 64.0}
data: {name: faces_emore, root: /data/faces_emore, batch_size: 256, num_workers: 8, img_size: 112}
training: {epochs: 24, optimizer: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.0005, scheduler: multistep,
  milestones: [10, 18, 22], gamma: 0.1, min_lr: 1e-5, warmup_epochs: 1, amp: true, amp_init_scale: 128.0,
  grad_clip_norm: 5.0, resume: false, early_stop: true, patience: 10, monitor: accuracy, mode: max, min_delta: 0.0,
  data_parallel: true}
checkpoint: {save_dir: checkpoints/resnet50, keep_last_n: 3}
logging: {log_dir: logs, print_freq: 100, tensorboard: true}
eval: {dataset: lfw, bin_file: lfw.bin, test_batch_size: 256, eval_freq: 1}
"""
    given = flatten(yaml.safe_load(text.replace("1e-5", "1.0e-5")))
    loaded = flatten(config_to_dict(load_config(write(tmp_path, text))))
    assert {key: loaded[key] for key in given} == given


def test_the_schema_explains_every_key() -> None:
    schema = json_schema()
    described = 0
    for section in [schema, *schema["$defs"].values()]:
        for name, facts in section["properties"].items():
            assert facts.get("description"), name
            described += 1
    assert described > len(known_keys())
