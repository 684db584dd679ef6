"""Settings of speed that torch keeps for the whole process."""

from __future__ import annotations

import pytest
import torch

from facerec.training.acceleration import allow_tf32


@pytest.mark.parametrize("enabled", [True, False])
def test_tf32_is_set_everywhere_and_torchs_older_flags_can_still_be_read(enabled: bool) -> None:
    backends = torch.backends
    before = [part.fp32_precision for part in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)]
    try:
        allow_tf32(enabled=enabled)
        assert backends.cudnn.allow_tf32 is enabled
        assert backends.cuda.matmul.allow_tf32 is enabled
    finally:
        for part, precision in zip(
            (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn), before, strict=True
        ):
            part.fp32_precision = precision
