"""Similarities and warps against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from facerec.data.align.geometry import fit_similarity, template_for, warp_face
from facerec.errors import DataError, UsageError

T = template_for((112, 112))


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The published algorithm with its singular value decomposition, reflection guarded; (2, 3)."""
    s, t = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(d) @ sign) / s.var(0).sum()
    return np.hstack([scale * rotation, (target.mean(0) - scale * rotation @ source.mean(0))[:, None]])


def least_squares(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The four numbers of a similarity from a linear system; (2, 3)."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


@pytest.mark.parametrize("seed", range(20))
def test_the_fit_is_umeyamas_and_the_least_squares_solution(seed: int) -> None:
    random = np.random.default_rng(seed)
    angle = random.uniform(-3, 3)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = T @ rotation.T * random.uniform(0.2, 9) + random.uniform(-500, 500, 2) + random.normal(0, 2, (5, 2))
    fitted = fit_similarity(points, T)
    matrix = np.array([[fitted.a, -fitted.b, fitted.c], [fitted.b, fitted.a, fitted.d]])
    np.testing.assert_allclose(matrix, umeyama(points, T), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(matrix, least_squares(points, T), rtol=1e-7, atol=1e-7)
    distances = np.linalg.norm(fitted.apply(points) - T, axis=1)
    assert fitted.residual == pytest.approx(np.sqrt((distances**2).mean()))


def test_a_face_that_fits_is_fitted_exactly() -> None:
    fitted = fit_similarity(T * 2.5 + 7, T)
    assert fitted.scale == pytest.approx(1 / 2.5)
    assert fitted.angle_rad == pytest.approx(0, abs=1e-12)
    assert fitted.residual == pytest.approx(0, abs=1e-9)


def test_landmarks_that_are_no_face_are_refused() -> None:
    for points in (np.zeros((5, 2)), np.full((5, 2), np.nan)):
        with pytest.raises(DataError):
            fit_similarity(points, T)


def test_the_narrow_template_is_the_wide_one_without_its_shift() -> None:
    np.testing.assert_allclose(np.add(template_for((112, 96)), [8, 0]), T)
    assert T[0].tolist() == [38.2946, 51.6963]
    with pytest.raises(UsageError, match="112x96"):
        template_for((96, 112))


def smooth_photo(side: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, size=(side, side, 3))
    blurred = ndimage.gaussian_filter(noise, (6, 6, 0))
    return ((blurred - blurred.min()) / np.ptp(blurred) * 255).astype(np.uint8)


def test_a_shift_by_whole_pixels_copies_pixels() -> None:
    photo = smooth_photo(200)
    face = warp_face(photo, fit_similarity(np.add(T, [31, 17]), T), (112, 112))
    np.testing.assert_array_equal(face, photo[17:129, 31:143])


@pytest.mark.parametrize(("scale", "angle"), [(1.0, 0.3), (0.55, -0.8), (2.7, 0.5), (3.3, 3.0)])
def test_every_pixel_comes_from_its_place(scale: float, angle: float) -> None:
    """Smooth pictures have no detail to lose, so a warp of one pixel by another program gives the same."""
    photo = smooth_photo(500)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    points = (T - 56) @ rotation.T + 250
    fitted = fit_similarity(points, T)
    face = warp_face(photo, fitted, (112, 112)).astype(float)
    y, x = np.mgrid[0:112, 0:112].astype(float)
    sources = (np.stack([x.ravel(), y.ravel()], axis=1) - 56) @ rotation.T + 250
    expected = np.stack(
        [ndimage.map_coordinates(photo[..., c].astype(float), sources.T[::-1], order=3) for c in range(3)], axis=1
    ).reshape(112, 112, 3)
    assert np.abs(face - expected).mean() < 1.2
    assert np.abs(face - expected).max() < 14


def test_fine_detail_becomes_grey_and_no_pattern() -> None:
    """Stripes two pixels wide, reduced six times: sampling single pixels would leave stripes of full contrast."""
    photo = np.zeros((800, 800, 3), dtype=np.uint8)
    photo[:, ::2] = 255
    face = warp_face(photo, fit_similarity(T * 6.0 + 40, T), (112, 112)).astype(float)
    inner = face[4:-4, 4:-4]
    assert abs(inner.mean() - 127.5) < 3
    assert inner.std() < 4


def test_beyond_the_photograph_all_is_black() -> None:
    photo = np.full((112, 112, 3), 200, dtype=np.uint8)
    face = warp_face(photo, fit_similarity(T - 56, T), (112, 112))
    assert face[:50].max() == 0
    assert (face[62:, 62:] == 200).all()
    with pytest.raises(DataError, match="outside"):
        warp_face(photo, fit_similarity(T - 5000, T), (112, 112))
