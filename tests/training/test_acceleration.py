"""Settings of speed that torch keeps for the whole process."""

from __future__ import annotations

import pytest
import torch

from facerec.training.acceleration import allow_tf32


@pytest.mark.parametrize("enabled", [True, False])
def test_tf32_is_set_and_can_be_asked_for_as_torch_export_does(enabled: bool) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        allow_tf32(enabled=enabled)
        assert torch.backends.cudnn.allow_tf32 is enabled
        assert torch.backends.cuda.matmul.allow_tf32 is enabled
        assert torch.backends.cudnn.conv.fp32_precision == ("tf32" if enabled else "none")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
