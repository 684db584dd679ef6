"""Stored embeddings are read without trust: types, shapes and sizes are checked before memory is taken."""

import io
import zipfile

import numpy as np
import pytest

from facerec.errors import DataError, MissingPathError
from facerec.evaluation.embed import Embeddings
from facerec.evaluation.stored import read_embeddings, write_embeddings


def arrays(**changes):
    generator = np.random.default_rng(0)
    good = {
        "original": generator.normal(size=(30, 4)).astype(np.float32),
        "flipped": generator.normal(size=(30, 4)).astype(np.float32),
        "pair_index": generator.integers(0, 30, (20, 2)),
        "issame": np.arange(20) % 2 == 0,
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def save(path, **changes):
    np.savez(path, **arrays(**changes))
    return path


def test_what_is_stored_is_read(tmp_path):
    stored = read_embeddings(save(tmp_path / "a.npz"))
    np.testing.assert_array_equal(stored.embeddings.original, arrays()["original"])
    np.testing.assert_array_equal(stored.embeddings.flipped, arrays()["flipped"])
    np.testing.assert_array_equal(stored.pair_index, arrays()["pair_index"])
    np.testing.assert_array_equal(stored.issame, arrays()["issame"])
    assert len(stored.sha256) == 64


def test_flipped_is_optional_and_compression_allowed(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **arrays(flipped=None))
    assert read_embeddings(tmp_path / "a.npz").embeddings.flipped is None


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_and_zero_one_labels_are_accepted(tmp_path, dtype):
    changed = arrays()["original"].astype(dtype)
    stored = read_embeddings(
        save(tmp_path / "a.npz", original=changed, flipped=None, issame=arrays()["issame"].astype(np.int8))
    )
    assert stored.embeddings.original.dtype == np.float32
    assert stored.issame.dtype == np.bool_


BAD = {
    "original missing": ({"original": None}, "'original' is missing"),
    "pair_index missing": ({"pair_index": None}, "'pair_index' is missing"),
    "issame missing": ({"issame": None}, "'issame' is missing"),
    "original of one dimension": ({"original": np.zeros(30, np.float32)}, r"original must be floats of shape \(N, D\)"),
    "original of integers": ({"original": np.zeros((30, 4), int)}, "original must be floats"),
    "original empty": ({"original": np.zeros((0, 4), np.float32)}, "original must be floats"),
    "flipped of another shape": ({"flipped": np.zeros((30, 5), np.float32)}, "must agree"),
    "pair_index of floats": ({"pair_index": np.zeros((20, 2))}, "pair_index must be integers"),
    "pair_index of three": ({"pair_index": np.zeros((20, 3), int)}, r"shape \(P, 2\)"),
    "pair_index too large": ({"pair_index": np.full((20, 2), 30)}, "between 0 and 29"),
    "pair_index negative": ({"pair_index": np.full((20, 2), -1)}, "between 0 and 29"),
    "issame too short": ({"issame": np.zeros(19, bool)}, "each of the 20 pairs"),
    "issame of twos": ({"issame": np.full(20, 2)}, "true or false"),
    "pair_set of a name": ({"pair_set": np.array(["lfw"])}, "64 hexadecimal digits"),
    "pair_set of two": ({"pair_set": np.array(["ab" * 32] * 2)}, "64 hexadecimal digits"),
    "objects": ({"issame": np.array([object()] * 20)}, "Python objects"),
    "structured": ({"issame": np.zeros(20, dtype=[("a", "?")])}, "true or false"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", BAD)
def test_what_contradicts_itself_is_refused_in_one_sentence(tmp_path, case):
    changes, sentence = BAD[case]
    with pytest.raises(DataError, match=sentence) as caught:
        read_embeddings(save(tmp_path / "a.npz", **changes))
    assert "\n" not in str(caught.value)


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    with pytest.raises(DataError, match="Python objects"):
        read_embeddings(save(tmp_path / "a.npz", issame=np.array([Bomb()] * 20, dtype=object)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingPathError, match=r"nowhere\.npz does not exist"):
        read_embeddings(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"no \.npz file"):
        read_embeddings(tmp_path / "a.npz")


def member(shape, *, payload=b""):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + payload


def replace_member(path, name, content):
    save(path)
    with zipfile.ZipFile(path) as archive:
        kept = {info: archive.read(info) for info in archive.namelist() if info != f"{name}.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for other, data in {**kept, f"{name}.npy": content}.items():
            archive.writestr(other, data)
    return path


def test_a_header_that_claims_terabytes_takes_no_memory(tmp_path):
    with pytest.raises(DataError, match=r"claims \d{13,} bytes, 0 are there"):
        read_embeddings(replace_member(tmp_path / "a.npz", "original", member((10**9, 10**4))))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array", member((30, 4), payload=b"short")])
def test_a_damaged_array_is_refused(tmp_path, content):
    with pytest.raises(DataError, match=r"a\.npz"):
        read_embeddings(replace_member(tmp_path / "a.npz", "original", content))


def test_every_cut_and_every_flipped_byte_gives_a_data_error_or_the_same_arrays(tmp_path):
    np.savez_compressed(tmp_path / "good.npz", **arrays())
    good = (tmp_path / "good.npz").read_bytes()
    path = tmp_path / "a.npz"
    generator = np.random.default_rng(0)
    for position in generator.integers(0, len(good), 250):
        for damaged in (good[:position], good[:position] + bytes([good[position] ^ 0xFF]) + good[position + 1 :]):
            path.write_bytes(damaged)
            try:
                stored = read_embeddings(path)
            except DataError:
                continue
            np.testing.assert_array_equal(stored.embeddings.original, arrays()["original"])
            np.testing.assert_array_equal(stored.issame, arrays()["issame"])


def test_identities_and_groups_are_read(tmp_path):
    index = np.arange(30).reshape(-1, 2)
    issame = np.arange(15) % 2 == 0
    identity = np.where(np.arange(30) % 4 < 2, np.arange(30) // 2, np.arange(30) + 50)
    group = np.where(np.arange(30) < 11, "north", "south")
    stored = read_embeddings(save(tmp_path / "a.npz", pair_index=index, issame=issame, identity=identity, group=group))
    np.testing.assert_array_equal(stored.identity[index[:, 0]] == stored.identity[index[:, 1]], issame)
    assert stored.group.tolist() == ["north"] * 5 + [""] + ["south"] * 9
    by_pair = read_embeddings(save(tmp_path / "b.npz", pair_index=index, issame=issame, group=np.arange(15) % 2))
    assert by_pair.identity is None
    assert by_pair.group.tolist() == [str(pair % 2) for pair in range(15)]


MORE_BAD = {
    "identity of another length": ({"identity": np.zeros(29, int)}, "identity must be integers of shape"),
    "identity of floats": ({"identity": np.zeros(30)}, "identity must be integers"),
    "identity against the truth": ({"identity": np.arange(30)}, "contradict each other in pair 0"),
    "group of another length": ({"group": np.zeros(7, int)}, "group must be text or integers"),
    "group of floats": ({"group": np.zeros(30)}, "group must be text or integers"),
    "group of objects": ({"group": np.array([None] * 30, dtype=object)}, "Python objects"),
    "group of bytes beyond ASCII": ({"group": np.array([b"\xff"] * 30)}, "no ASCII text"),
}


@pytest.mark.parametrize("name", MORE_BAD)
def test_identities_and_groups_that_cannot_be_are_refused(tmp_path, name):
    changes, sentence = MORE_BAD[name]
    index = np.arange(30).reshape(-1, 2)[:14]
    path = save(tmp_path / "a.npz", pair_index=index, issame=np.arange(14) % 2 == 0, **changes)
    with pytest.raises(DataError, match=sentence):
        read_embeddings(path)


@pytest.mark.parametrize("flip", [True, False])
def test_what_is_written_is_read_again_without_rows_that_no_pair_uses(tmp_path, flip):
    values = arrays()
    embeddings = Embeddings(original=values["original"], flipped=values["flipped"] if flip else None)
    index, issame = np.array([[3, 9], [9, 20]]), np.array([True, False])
    write_embeddings(tmp_path / "a.npz", embeddings, pair_index=index, issame=issame, pair_set="0f" * 32)
    stored = read_embeddings(tmp_path / "a.npz")
    assert stored.pair_set == "0f" * 32
    assert len(stored.embeddings.original) == 3
    np.testing.assert_array_equal(stored.embeddings.original[stored.pair_index], values["original"][index])
    assert (stored.embeddings.flipped is None) is not flip
    np.testing.assert_array_equal(stored.issame, issame)
