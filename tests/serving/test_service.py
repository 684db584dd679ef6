"""Rows in, answers out: what verification computes, in any batch, from any thread."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from facerec.errors import ImageError, UsageError
from facerec.evaluation.embed import embed_images
from facerec.metrics.similarity import normalise
from facerec.models.weights import load_backbone
from facerec.serving import images as images_module
from facerec.serving.embedder import Embedder, build_embedder
from facerec.serving.images import Limits
from facerec.serving.loading import load_service
from facerec.serving.package import spec_of, stage
from facerec.serving.request import parse_request
from facerec.serving.service import Row, Service
from tests.serving.models import SIDE, face, text_of
from tests.serving.test_request import make_spec


@pytest.fixture(scope="module")
def predictor_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    loaded = load_backbone(checkpoint)
    spec = spec_of(loaded.config, runtime="torch", calibration=None)
    return stage(loaded, spec, tmp_path_factory.mktemp("staged"), card="# card").predictor


@pytest.fixture(scope="module")
def service(predictor_folder: Path, checkpoint: Path) -> Service:
    from facerec.serving.spec import read_spec

    spec = read_spec(predictor_folder)
    return Service(spec, build_embedder(spec, predictor_folder, device=torch.device("cpu")))


def ask(service: Service, *rows: tuple[Any, Any], **params: Any) -> list[dict[str, Any]]:
    return service.answer([Row(image_a=a, image_b=b) for a, b in rows], parse_request(params, service.spec))


def test_served_embeddings_equal_those_of_evaluation_for_any_batch(service: Service, checkpoint: Path) -> None:
    images = [face(identity) for identity in range(130)]
    loaded = load_backbone(checkpoint)
    embeddings = embed_images(
        loaded.backbone, images, image_hw=(SIDE, SIDE), device=torch.device("cpu"), batch_size=256
    )
    assert embeddings.flipped is not None
    expected = normalise(embeddings.original.astype(np.float64) + embeddings.flipped)
    for count in (1, 2, 7, 64, 65, 130):
        answers = ask(service, *[(text_of(image), None) for image in images[:count]], mode="embed")
        served = np.array([answer["embedding"] for answer in answers])
        assert np.abs(served - expected[:count]).max() <= 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="serving on a GPU needs one")
def test_a_gpu_serves_the_embeddings_of_evaluation_for_any_batch(predictor_folder: Path, checkpoint: Path) -> None:
    device = torch.device("cuda")
    images = [face(identity) for identity in range(130)]
    # Without TensorFloat-32, whose choice of kernel depends on the batch.
    with torch.backends.cudnn.flags(allow_tf32=False):
        loaded = load_backbone(checkpoint, device=device)
        embeddings = embed_images(loaded.backbone, images, image_hw=(SIDE, SIDE), device=device, batch_size=256)
        assert embeddings.flipped is not None
        expected = normalise(embeddings.original.astype(np.float64) + embeddings.flipped)
        service = load_service(predictor_folder, device="cuda")
        for count in (1, 7, 65, 130):
            answers = ask(service, *[(text_of(image), None) for image in images[:count]], mode="embed")
            served = np.array([answer["embedding"] for answer in answers])
            assert np.abs(served - expected[:count]).max() <= 1e-5


def test_an_embedding_has_length_1_and_the_similarity_is_its_cosine(service: Service) -> None:
    a, b = text_of(face(1)), text_of(face(2))
    first, second = (np.array(ask(service, (text, None), mode="embed")[0]["embedding"]) for text in (a, b))
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-6)
    (answer,) = ask(service, (a, b), threshold=0.5)
    assert answer["similarity"] == pytest.approx(float(first @ second), abs=1e-6)
    assert answer["same_person"] is (answer["similarity"] >= 0.5)
    assert (answer["threshold"], answer["far"], answer["far_at_most"], answer["error"]) == (0.5, None, None, None)
    assert ask(service, (a, b), threshold=-1.0)[0]["same_person"] is True


def test_without_a_threshold_there_is_no_decision(service: Service) -> None:
    (answer,) = ask(service, (text_of(face(1)), text_of(face(2))))
    assert answer["same_person"] is None
    assert answer["similarity"] is not None


def test_the_flip_has_its_effect(service: Service) -> None:
    row = (text_of(face(1)), None)
    with_flip = ask(service, row, mode="embed")[0]["embedding"]
    without = ask(service, row, mode="embed", flip=False)[0]["embedding"]
    assert np.abs(np.array(with_flip) - without).max() > 1e-3


def test_equal_pictures_are_embedded_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    embed = service._embedder.embed

    def count(pixels: Any, *, flip: bool) -> Any:
        seen.append(len(pixels))
        return embed(pixels, flip=flip)

    monkeypatch.setattr(service._embedder, "embed", count)
    a, b = text_of(face(1)), text_of(face(2))
    answers = ask(service, (a, b), (b, a), (a, a))
    assert seen == [2]
    assert answers[0]["similarity"] == answers[1]["similarity"]
    assert answers[2]["similarity"] == pytest.approx(1.0)


def test_one_bad_row_leaves_the_others_alone_and_is_named_by_its_own_number(service: Service) -> None:
    a, b = text_of(face(1)), text_of(face(2))
    alone = ask(service, (a, b))[0]
    answers = ask(service, ("!!", b), (a, b), (a, None), (a, "!!"), (None, None))
    assert answers[1] == alone
    assert [answer["error"] for answer in answers] == [
        "row 0, image_a: the picture is no valid base64 text",
        None,
        "row 2: image_b is missing; mode 'similarity' compares two images",
        "row 3, image_b: the picture is no valid base64 text",
        "row 4, image_a: the picture is missing; give the base64 text of a JPEG, PNG or WebP image",
    ]
    assert answers[0]["similarity"] is None


def test_on_error_fail_fails_the_request(service: Service) -> None:
    a = text_of(face(1))
    with pytest.raises(ImageError, match="row 1, image_b"):
        ask(service, (a, a), (a, "!!"), on_error="fail")


def test_a_second_picture_has_no_effect_on_an_embedding_and_is_refused(service: Service) -> None:
    (answer,) = ask(service, (text_of(face(1)), text_of(face(2))), mode="embed")
    assert answer["embedding"] is None
    assert "takes image_a alone" in answer["error"]


def test_a_search_needs_a_gallery_and_too_many_rows_are_refused(service: Service) -> None:
    with pytest.raises(UsageError, match="without a gallery"):
        ask(service, (text_of(face(1)), None), mode="search")
    small = Service(service.spec, service._embedder, limits=Limits(rows=3))
    with pytest.raises(UsageError, match="4 rows are too many; at most 3"):
        ask(small, *[("x", "y")] * 4)


def test_an_answer_says_what_its_rate_may_truly_be(service: Service) -> None:
    known = Service(dataclasses.replace(service.spec, calibration=make_spec().calibration), service._embedder)
    (answer,) = ask(known, (text_of(face(1)), text_of(face(2))))
    assert list(answer) == ["similarity", "same_person", "threshold", "far", "far_at_most", "error"]
    assert (answer["far"], answer["far_at_most"]) == (1e-3, 2e-3)


def test_rows_beyond_the_pixels_of_a_request_get_a_sentence(service: Service) -> None:
    small = Service(service.spec, service._embedder, limits=Limits(total_pixels=3 * SIDE * SIDE))
    rows = [(text_of(face(2 * k)), text_of(face(2 * k + 1))) for k in range(3)]
    answers = ask(small, *rows)
    assert [answer["error"] is None for answer in answers] == [True, False, False]
    assert answers[1]["error"] == (
        "row 1, image_b: the picture is beyond the 3072 pixels that a request may have together; send fewer rows"
    )
    assert ask(small, rows[2])[0]["error"] is None, "every request has its own"


def test_rows_that_are_not_reached_in_time_get_a_sentence(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(images_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    seen: list[int] = []

    def embed(pixels: Any, *, flip: bool) -> Any:
        seen.append(len(pixels))
        now[0] += 31.0
        return Embedder.embed(service._embedder, pixels, flip=flip)

    slow = Service(service.spec, SimpleNamespace(embed=embed), limits=Limits(seconds=30.0))  # type: ignore[arg-type]
    answers = ask(slow, *[(text_of(face(k)), None) for k in range(70)], mode="embed")
    assert seen == [64]
    assert [answer["error"] is None for answer in answers] == [True] * 64 + [False] * 6
    assert answers[64]["error"] == ("row 64, image_a: the picture was not reached within 30 s; send fewer rows at once")
    with pytest.raises(ImageError, match="row 64, image_a: the picture was not reached"):
        ask(slow, *[(text_of(face(k)), None) for k in range(70)], mode="embed", on_error="fail")


def test_pictures_that_were_decoded_too_late_are_not_embedded(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(images_module, "time", SimpleNamespace(monotonic=lambda: 10.0 * next(ticks)))
    late = Service(service.spec, service._embedder, limits=Limits(seconds=25.0))
    answers = ask(late, (text_of(face(1)), None), (text_of(face(2)), None), mode="embed")
    assert [answer["embedding"] for answer in answers] == [None, None]
    assert all("was not reached within 25 s" in answer["error"] for answer in answers)


def test_no_rows_give_no_answers(service: Service) -> None:
    assert ask(service) == []


def test_threads_get_the_same_answers_as_one(service: Service) -> None:
    rows = [(text_of(face(k)), text_of(face(k + 1))) for k in range(12)]
    alone = [ask(service, row)[0]["similarity"] for row in rows]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda row: ask(service, row)[0]["similarity"], rows * 3))
    assert together == alone * 3
