"""The second reader: the same records through the interface of ``mxnet.recordio``, here played by our own reader."""

from __future__ import annotations

import pickle
import sys
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from facerec.data import mxnet_reader
from facerec.data.pack import FacePack
from facerec.data.recordio import RecordReader, parse_image_record
from facerec.errors import ConfigError, RecordError

IRHeader = namedtuple("IRHeader", ["flag", "label", "id", "id2"])


class MXNetError(Exception):
    pass


class FakeReader:
    def __init__(self, idx_path: str, rec_path: str, mode: str) -> None:
        assert mode == "r"
        self.reader = RecordReader(rec_path, idx_path=idx_path)

    def read_idx(self, key: int) -> bytes:
        if key not in self.reader.keys:
            raise KeyError(key)
        return self.reader.read(key)


def unpack(payload: bytes) -> tuple[IRHeader, bytes]:
    if payload[:4] == b"bad!":
        raise MXNetError("damaged")
    record = parse_image_record(payload)
    label = record.labels if record.flag else record.label
    return IRHeader(record.flag, label, record.record_id, record.record_id2), bytes(record.image)


@pytest.fixture
def fake_mxnet(monkeypatch):
    module = SimpleNamespace(
        recordio=SimpleNamespace(MXIndexedRecordIO=FakeReader, unpack=unpack),
        base=SimpleNamespace(MXNetError=MXNetError),
    )
    monkeypatch.setitem(sys.modules, "mxnet", module)
    return module


@pytest.mark.parametrize("name", ["small", "veclabel"])
def test_both_readers_give_the_same_records(shared_data, fake_mxnet, name):
    native = FacePack.open(shared_data / "mxnet" / name)
    pack = pickle.loads(pickle.dumps(mxnet_reader.MxnetPack(native)))
    assert (pack.num_images, pack.num_classes, pack.image_hw) == (
        native.num_images,
        native.num_classes,
        native.image_hw,
    )
    assert pack.fingerprint == native.fingerprint
    for key in pack.image_keys.tolist():
        one, other = pack.read_image(key), native.read_image(key)
        assert bytes(one.image) == bytes(other.image)
        assert (one.flag, one.label, one.record_id) == (other.flag, other.label, other.record_id)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert pack.label_of(one, key=key) == native.label_of(other, key=key)


def test_what_mxnet_cannot_read_is_a_record_error(shared_data, fake_mxnet, monkeypatch):
    pack = mxnet_reader.MxnetPack(FacePack.open(shared_data / "mxnet/small"))
    monkeypatch.setattr(FakeReader, "read_idx", lambda self, key: b"bad!")
    with pytest.raises(RecordError, match=r"record 3 at byte \d+ cannot be read by mxnet: damaged") as caught:
        pack.read_image(3)
    assert caught.value.key == 3


def test_the_alias_that_mxnet_needs_is_there_when_it_is_imported(fake_mxnet, monkeypatch):
    monkeypatch.delattr(np, "bool")
    mxnet_reader.import_mxnet()
    assert np.bool is bool


def test_an_mxnet_that_does_not_load_is_a_configuration_error(monkeypatch):
    def fail(name: str) -> None:
        raise OSError("libmxnet.so: cannot open shared object file")

    monkeypatch.setattr(mxnet_reader.importlib, "import_module", fail)
    with pytest.raises(ConfigError, match=r"cannot be imported \(libmxnet.so.*set data\.reader: native"):
        mxnet_reader.import_mxnet()
