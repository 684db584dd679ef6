"""An ONNX graph in 8-bit integers, by onnxruntime."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facerec.data.decode import decode_image
from facerec.errors import UsageError
from facerec.fsio import atomic_write_bytes

__all__ = ["Quantisation", "quantise"]

Quantisation = Literal["dynamic", "static"]
_MAX_CALIBRATION = 200
"""Pictures that the ranges of a static quantisation come from; more hardly change them."""


def quantise(
    graph: Path,
    out: Path,
    *,
    mode: Quantisation,
    calibration: Sequence[bytes] = (),
    image_hw: tuple[int, int],
) -> None:
    """Write ``graph`` with 8-bit weights, and activations whose ranges are found while it runs or beforehand.

    Args:
        graph: An ONNX graph of this project.
        out: Where to write; may be ``graph``.
        mode: ``dynamic`` finds the ranges anew for every batch, ``static`` on the calibration pictures.
        calibration: Encoded pictures like those of later use; for ``static`` alone.
        image_hw: Height and width that the graph takes.

    Raises:
        UsageError: onnxruntime is not installed, or a static quantisation has no pictures.
    """
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise UsageError("quantisation needs the extra 'onnx' (onnx, onnxruntime)") from error
    if mode == "static" and not calibration:
        raise UsageError("a static quantisation needs pictures to find the ranges on; give --calibration FILE.bin")
    # onnxruntime explains itself at length on the root logger.
    logging.getLogger().addFilter(_from_onnxruntime)
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
            quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
            if mode == "dynamic":
                quantization.quantize_dynamic(str(prepared), str(quantised), weight_type=quantization.QuantType.QUInt8)
            else:
                quantization.quantize_static(
                    str(prepared),
                    str(quantised),
                    _reader(quantization.CalibrationDataReader, calibration, image_hw),
                    quant_format=quantization.QuantFormat.QDQ,
                    per_channel=True,
                )
            atomic_write_bytes(out, quantised.read_bytes())
    finally:
        logging.getLogger().removeFilter(_from_onnxruntime)


def _from_onnxruntime(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname


def _reader(base: Any, images: Sequence[bytes], image_hw: tuple[int, int]) -> Any:
    chosen = images[:: max(1, len(images) // _MAX_CALIBRATION)][:_MAX_CALIBRATION]

    def batches() -> Iterator[dict[str, NDArray[np.uint8]]]:
        for image in chosen:
            pixels_HWC = decode_image(image, image_hw=image_hw, what="a calibration picture")
            yield {"pixels": np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)[None])}

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = batches()

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(self._batches, None)

    return Reader()
