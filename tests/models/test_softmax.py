"""The plain normalised softmax against its formula."""

from __future__ import annotations

import numpy as np

from facerec.models.heads.softmax import Softmax
from tests.cosines import SCALE, cosines, head_with, logits_of, random_case


def test_logits_are_the_scaled_cosines_at_the_label_too() -> None:
    embeddings, weight, labels = random_case()
    logits = logits_of(head_with(Softmax, weight), embeddings, labels)
    np.testing.assert_allclose(logits, SCALE * cosines(embeddings, weight), atol=1e-9)
