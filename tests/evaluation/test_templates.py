"""Templates in the layout of IJB-C and in a simple one, from files to figures, against brute force."""

import io
import itertools
import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import roc_curve as sklearn_roc_curve

from facerec.config.load import config_from_dict
from facerec.errors import DataError, MissingPathError
from facerec.evaluation.embed import embed_pixels
from facerec.evaluation.template_files import read_templates
from facerec.evaluation.template_report import template_metrics
from facerec.evaluation.template_run import run_on_templates
from facerec.evaluation.template_scores import (
    _blocks,
    embed_templates,
    identify_templates,
    verify_templates,
)
from facerec.metrics.roc import far_label
from facerec.models.build import build_backbone

CPU = torch.device("cpu")
HW = (112, 112)
POINTS = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


class Sketch(torch.nn.Module):
    """The picture shrunk to 4 by 4: pictures of one person stay near each other."""

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


def picture(generator, face):
    shifted = np.clip(face + generator.normal(0, 12, face.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(shifted).resize((112, 112), Image.Resampling.NEAREST)


def write_ijb(folder, *, num_people=12, seed=0):
    """Three templates a person, some of videos; the first is in a gallery: G1 for odd people, G2 for even ones."""
    generator = np.random.default_rng(seed)
    (folder / "meta").mkdir(parents=True)
    (folder / "loose_crop").mkdir()
    faces = generator.integers(0, 256, (num_people, 4, 4, 3)).astype(float)
    images, template_of, gallery = [], {}, {"G1": [], "G2": []}
    template, medium, probes = 100, 0, []
    for person in range(num_people):
        for kind in range(3):
            template += 3
            template_of[template] = person
            for _ in range(1 + generator.integers(3)):
                medium += 1
                for _ in range(1 + generator.integers(3)):
                    name = f"{len(images) + 1}.jpg"
                    # Twice as large and shifted: only the alignment brings the face back.
                    shown = picture(generator, faces[person]).resize((224, 224), Image.Resampling.NEAREST)
                    canvas = Image.new("RGB", (260, 250))
                    canvas.paste(shown, (20, 15))
                    canvas.save(folder / "loose_crop" / name, quality=95)
                    points = 2 * POINTS + 0.5 + [20, 15]
                    images.append((name, template, medium, points, generator.uniform(0.5, 1.0)))
            if kind == 0:
                gallery["G1" if person % 2 else "G2"].append((template, person))
            else:
                probes.append((template, person))
    order = generator.permutation(len(images))
    images = [images[index] for index in order]
    meta = folder / "meta"
    (meta / "ijbc_face_tid_mid.txt").write_text("".join(f"{i[0]} {i[1]} {i[2]}\n" for i in images))
    (meta / "ijbc_name_5pts_score.txt").write_text(
        "".join(f"{i[0]} {' '.join(f'{v:.3f}' for v in i[3].ravel())} {i[4]:.6f}\n" for i in images)
    )
    numbers = sorted(template_of)
    pairs = [(a, b, int(template_of[a] == template_of[b])) for a in numbers for b in numbers if a < b]
    (meta / "ijbc_template_pair_label.txt").write_text("".join(f"{a} {b} {c}\n" for a, b, c in pairs))
    for name, rows in (("gallery_G1", gallery["G1"]), ("gallery_G2", gallery["G2"]), ("probe_mixed", probes)):
        lines = ["TEMPLATE_ID,SUBJECT_ID,FILENAME\n", *(f"{t},{p},img/{t}.png\n" for t, p in rows)]
        (meta / f"ijbc_1N_{name}.csv").write_text("".join(lines))
    return images, pairs, gallery, probes


@pytest.fixture(scope="module")
def ijb(tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates") / "IJBC"
    return folder, write_ijb(folder)


@pytest.fixture(scope="module")
def pooled(ijb):
    templates = read_templates(ijb[0])
    return templates, embed_templates(Sketch(), templates, image_hw=HW, device=CPU, batch_size=16)


def brute_force_templates(folder, images):
    """Each image embedded alone, pooled by loops, from the same aligned pixels."""
    from facerec.data.align.geometry import fit_similarity, template_for, warp_face

    grouped = {}
    for name, template, medium, points, score in images:
        photo = np.array(Image.open(folder / "loose_crop" / name))
        face = warp_face(photo, fit_similarity(np.round(points, 3), template_for(HW)), HW)
        found = embed_pixels(Sketch(), face[None], device=CPU)
        vector = (found.original[0] + found.flipped[0]) * np.float32(score)
        grouped.setdefault(template, {}).setdefault(medium, []).append(vector)
    return {
        template: (lambda v: v / np.linalg.norm(v))(sum(np.mean(vectors, axis=0) for vectors in media.values()))
        for template, media in grouped.items()
    }


def brute_force_eer(scores, genuine):
    """Where the misses cross the false accepts, on straight lines between the thresholds."""
    thresholds = [np.inf, *sorted(scores.tolist(), reverse=True)]
    points = [(np.mean(scores[~genuine] >= one), np.mean(scores[genuine] < one)) for one in thresholds]
    for (far, miss), (next_far, next_miss) in itertools.pairwise(points):
        if next_far >= next_miss:
            share = (miss - far) / (miss - far + next_far - next_miss)
            return far + share * (next_far - far)
    raise AssertionError


def brute_force_nearest(scores, genuine, far):
    """As published tables are read: the last of the nearest points of scikit-learn's curve."""
    fars, tars, _ = sklearn_roc_curve(genuine, scores)
    nearest = min(abs(fars - far))
    return tars[np.flatnonzero(abs(fars - far) == nearest)[-1]]


def brute_force_open_set(vectors, galleries, probes, fpir):
    """FNIR, FPIR and threshold, every probe searched in every gallery for itself."""
    mates, strangers = [], []
    for entries in galleries.values():
        for template, person in probes:
            row = {who: float(vectors[template] @ vectors[entry]) for entry, who in entries}
            nearest = max(row, key=row.__getitem__)
            if person in row:
                mates.append((row[person], nearest == person))
            else:
                strangers.append(row[nearest])
    thresholds = [*strangers, *(score for score, _ in mates)]
    threshold = min(t for t in thresholds if np.mean([score >= t for score in strangers]) <= fpir)
    missed = [not (is_first and score >= threshold) for score, is_first in mates]
    return np.mean(missed), np.mean([score >= threshold for score in strangers]), threshold


def test_ijb_figures_equal_brute_force(ijb, pooled):
    folder, (images, pairs, gallery, probes) = ijb
    templates, vectors = pooled
    expected = brute_force_templates(folder, images)
    assert vectors.numbers.tolist() == sorted(expected)
    np.testing.assert_allclose(vectors.embeddings, [expected[n] for n in sorted(expected)], atol=1e-5)
    found = verify_templates(vectors, templates.pairs, templates.genuine)
    # The scores of the pooled vectors themselves, so that ties of rounding fall the same way.
    by_number = dict(zip(vectors.numbers.tolist(), vectors.embeddings, strict=True))
    scores = np.array([float(by_number[a] @ by_number[b]) for a, b, _ in pairs])
    genuine = np.array([bool(same) for _, _, same in pairs])
    for point in found.points:
        best = max(
            (np.mean(scores[genuine] >= t) for t in scores if np.mean(scores[~genuine] >= t) <= point.far_target),
            default=0.0,
        )
        assert point.tar == pytest.approx(best, abs=0.02)
    wins = [(a > b) + 0.5 * (a == b) for a in scores[genuine] for b in scores[~genuine]]
    assert found.auc == pytest.approx(np.mean(wins), abs=1e-4)
    assert found.auc > 0.95
    assert found.eer == pytest.approx(brute_force_eer(scores, genuine), abs=1e-3)
    for point in found.points:
        label = far_label(point.far_target)
        assert found.nearest[label] == pytest.approx(brute_force_nearest(scores, genuine, point.far_target), abs=0.02)
    searched = identify_templates(vectors, templates.galleries, templates.probes)
    for name, entries in (*gallery.items(), ("all", gallery["G1"] + gallery["G2"])):
        ranks = []
        for template, person in probes:
            row = {who: float(by_number[template] @ by_number[entry]) for entry, who in entries}
            if person in row:
                ranks.append(sorted(row, key=row.__getitem__, reverse=True).index(person) + 1)
        for rate in searched.ranks[name]:
            assert rate.num_mated == len(ranks)
            assert rate.rate == pytest.approx(np.mean([rank <= rate.rank for rank in ranks]))
    for point in searched.open_set:
        assert point.num_strangers == point.num_mated == len(probes)
        fnir, fpir, threshold = brute_force_open_set(by_number, gallery, probes, point.fpir_target)
        assert (point.fnir, point.tpir) == pytest.approx((fnir, 1 - fnir))
        assert point.fpir == pytest.approx(fpir)
        assert point.fpir <= point.fpir_target
        assert point.threshold == pytest.approx(threshold, abs=1e-5)
    assert [point.fpir_target for point in searched.open_set] == [0.01, 0.1]


def test_metrics_name_the_galleries_apart_and_the_whole_set_plainly(ijb, pooled):
    templates, embedded = pooled
    verified = verify_templates(embedded, templates.pairs, templates.genuine)
    found = identify_templates(embedded, templates.galleries, templates.probes)
    metrics = template_metrics("IJB-C", verified=verified, found=found)
    assert metrics["eval/IJB-C/rank_1"] == found.ranks["all"][0].rate
    assert metrics["eval/IJB-C/G1/rank_5"] == found.ranks["G1"][1].rate
    assert metrics["eval/IJB-C/tar_at_far_1e-4"] == verified.points[2].tar
    assert metrics["eval/IJB-C/threshold_at_fpir_1e-2"] == found.open_set[0].threshold
    assert set(template_metrics("x", verified=verified, found=None)) == {
        key.replace("IJB-C", "x") for key in metrics if "rank" not in key and "fpir" not in key
    }


def test_without_alignment_the_figures_are_worse(ijb, pooled):
    """The negative control: the landmarks do their work."""
    import dataclasses

    templates, aligned = pooled
    plain = dataclasses.replace(templates, landmarks=None)
    crooked = embed_templates(Sketch(), plain, image_hw=HW, device=CPU, batch_size=64)
    assert not np.allclose(crooked.embeddings, aligned.embeddings, atol=1e-2)


def test_blocks_of_templates_change_nothing(monkeypatch, pooled):
    templates, expected = pooled
    monkeypatch.setattr("facerec.evaluation.template_scores._BLOCK_IMAGES", 7)
    seen = []
    found = embed_templates(
        Sketch(), templates, image_hw=HW, device=CPU, batch_size=16, progress=lambda *done: seen.append(done)
    )
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-6)
    assert seen[-1] == (len(templates.templates), len(templates.templates))


def test_blocks_hold_whole_templates(monkeypatch):
    monkeypatch.setattr("facerec.evaluation.template_scores._BLOCK_IMAGES", 3)
    assert _blocks(np.array([1, 1, 2, 3, 3, 3, 3, 4])) == [(0, 3), (3, 7), (7, 8)]


def write_simple(folder):
    generator = np.random.default_rng(1)
    folder.mkdir()
    faces = generator.integers(0, 256, (6, 4, 4, 3)).astype(float)
    lines = []
    for template in range(12):
        for index in range(2):
            buffer = io.BytesIO()
            picture(generator, faces[template % 6]).save(buffer, "PNG")
            (folder / f"{template}_{index}.png").write_bytes(buffer.getvalue())
            lines.append(f"{template}_{index}.png,{template}")
    (folder / "images.csv").write_text("image,template\n" + "\n".join(lines) + "\n")
    pairs = [f"{a},{b},{int(a % 6 == b % 6)}" for a in range(12) for b in range(a)]
    (folder / "pairs.csv").write_text("template_a,template_b,genuine\n" + "\n".join(pairs) + "\n")
    (folder / "gallery.csv").write_text("template,person\n" + "".join(f"{t},p{t}\n" for t in range(5)))
    (folder / "probe.csv").write_text("template,person\n" + "".join(f"{t},p{t - 6}\n" for t in range(6, 12)))
    return folder


def test_ones_own_templates_go_the_whole_way(tmp_path):
    folder = write_simple(tmp_path / "mine")
    plain = {
        "device": "cpu",
        "model": {"backbone": "mobilefacenet", "embedding_size": 32},
        "data": {"img_size": 32},
        "eval": {"test_batch_size": 32},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    config = config_from_dict(plain)
    save_file(build_backbone(config.model, image_hw=config.image_hw).state_dict(), tmp_path / "w.safetensors")
    run = run_on_templates(
        folder, checkpoint=tmp_path / "w.safetensors", config_path=tmp_path / "config.yaml", output=tmp_path / "out"
    )
    assert all(path.is_file() for path in run.files)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["templates"] == run.results
    assert run.results["mine"]["verification"]["pairs"] == 66
    assert run.results["mine"]["verification"]["genuine"] == 6
    searched = run.results["mine"]["identification"]
    assert searched["closed_set"]["gallery"]["mated"] == 5
    assert searched["open_set"]["1e-1"]["strangers"] == 1
    assert "rank 1" in run.text


def damaged(folder, name, change):
    path = folder / name
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("images.csv", lambda text: text.replace("image,", "picture,"), "lacks the column 'image'"),
        ("images.csv", lambda text: text.replace("0_0.png", "../0_0.png"), "must be a path inside"),
        ("images.csv", lambda text: text.replace("0_0.png,0", "0_0.png,zero"), "line 2: 'zero' is no whole number"),
        ("images.csv", lambda text: text.replace("0_0.png,0", "0_0.png"), "line 2 has 1 columns"),
        ("pairs.csv", lambda text: text.replace("1,0,0", "1,0,2"), "genuine must be 1"),
        ("probe.csv", lambda text: text + "6,other\n", "gives template 6 another person"),
        ("gallery.csv", lambda text: text.splitlines()[0] + "\n", "lists no template"),
    ],
)
def test_a_damaged_list_is_named_with_its_line(tmp_path, name, change, sentence):
    folder = write_simple(tmp_path / "mine")
    damaged(folder, name, change)
    with pytest.raises(DataError, match=sentence):
        read_templates(folder)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("ijbc_template_pair_label.txt", lambda text: text + "1 2\n", "three whole numbers"),
        ("ijbc_template_pair_label.txt", lambda text: text + "1 2 x\n", "three whole numbers"),
        ("ijbc_template_pair_label.txt", lambda text: text + "1 99999999999 0\n", "too large"),
        ("ijbc_template_pair_label.txt", lambda text: text + "103 106 5\n", "1 for one person or 0 for two"),
        ("ijbc_name_5pts_score.txt", lambda text: text.split("\n", 1)[1], "same images in the same order"),
        ("ijbc_name_5pts_score.txt", lambda text: "a.jpg 1 2\n" + text, "line 1 must hold"),
        ("ijbc_face_tid_mid.txt", lambda text: text.replace(" ", ",", 1), "line 1 must hold"),
    ],
)
def test_damaged_metadata_is_named(ijb, tmp_path, name, change, sentence):
    import shutil

    shutil.copytree(ijb[0] / "meta", tmp_path / "IJBC" / "meta")
    damaged(tmp_path / "IJBC" / "meta", name, change)
    with pytest.raises(DataError, match=sentence):
        read_templates(tmp_path / "IJBC")


def test_a_pair_of_a_template_without_images_is_an_error(pooled):
    with pytest.raises(DataError, match="names template 7, which has no image"):
        verify_templates(pooled[1], np.array([[103, 7]], dtype=np.int32), np.array([True]))


def test_pairs_are_read_alike_in_any_chunk(ijb, monkeypatch):
    whole = read_templates(ijb[0])
    monkeypatch.setattr("facerec.evaluation.template_files._CHUNK_BYTES", 50)
    parts = read_templates(ijb[0])
    np.testing.assert_array_equal(whole.pairs, parts.pairs)
    np.testing.assert_array_equal(whole.genuine, parts.genuine)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(MissingPathError, match=r"images\.csv"):
        read_templates(tmp_path)
    with pytest.raises(MissingPathError, match="does not exist"):
        read_templates(tmp_path / "nowhere")
