"""The templates of cards agree with the card that the program writes."""

from __future__ import annotations

import re
from pathlib import Path

from facerec.serving.card import USE, write_card
from facerec.serving.spec import PredictorSpec

CARDS = Path(__file__).resolve().parents[2] / "docs" / "cards"


def template(name: str) -> str:
    return (CARDS / name).read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


def flowing(text: str) -> str:
    return " ".join(text.split())


def test_the_sections_of_a_written_card_stand_in_the_template_in_the_same_order() -> None:
    spec = PredictorSpec(
        backbone="iresnet18",
        embedding_size=512,
        dropout=None,
        image_hw=(112, 112),
        flip=True,
        runtime="torch",
        calibration=None,
    )
    written = headings(write_card("faces", spec=spec, facts={"data": "orl"}))
    assert [heading for heading in headings(template("model-card.md")) if heading in written] == written
    assert set(written) <= set(re.findall(r"\w+", template("model-card.md").partition("\n## ")[0]))


def test_a_written_card_and_the_template_say_the_same_of_its_use() -> None:
    text = flowing(template("model-card.md"))
    assert all(line in text for line in USE)


def test_the_card_of_data_forbids_the_same() -> None:
    assert USE[-1] in flowing(template("data-card.md"))


def test_the_card_of_data_asks_for_what_decides_its_use() -> None:
    asked = headings(template("data-card.md"))
    for heading in ("Where it is from", "Consent", "What it may be used for", "Who is in it", "Keeping", "Contact"):
        assert heading in asked
