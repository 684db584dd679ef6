"""A whole evaluation on templates: a checkpoint and a folder in, results and reports out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facerec.errors import DataError
from facerec.evaluation.blocks import facts_table, mark, percent, range_text
from facerec.evaluation.document import Block, Heading, Paragraph, Picture, Table, to_text
from facerec.evaluation.output import closing_facts, file_label, open_folder, write_documents
from facerec.evaluation.pictures import Curve, draw_curves
from facerec.evaluation.pictures_detail import write_cmc_picture
from facerec.evaluation.run import command_of, describe_flip, describe_model, load_model
from facerec.evaluation.stored_scores import REPORT_FILE
from facerec.evaluation.suites import SetProgress
from facerec.evaluation.template_files import TemplateSet, read_templates
from facerec.evaluation.template_report import identification_to_json, template_metrics, verification_to_json
from facerec.evaluation.template_scores import (
    RANKS,
    Identification,
    PooledTemplates,
    TemplateVerification,
    embed_templates,
    identify_templates,
    verify_templates,
)
from facerec.metrics.intervals import clopper_pearson
from facerec.metrics.roc import OperatingPoint, far_label
from facerec.models.device import describe_device

__all__ = ["TemplateRun", "run_on_templates"]

_INTERVALS = "Intervals: Clopper-Pearson, as if all were independent."


@dataclass(frozen=True, kw_only=True)
class TemplateRun:
    """What an evaluation on templates found and where it wrote."""

    templates: TemplateSet
    folder: Path
    metrics: dict[str, float]
    """The rates as `template_metrics` names them."""
    results: dict[str, Any]
    """What ``report.json`` says of the set, by its name."""
    text: str
    """The same for a terminal."""
    documents: tuple[Path, ...]
    """``report.json``, ``report.md`` and ``report.html``."""
    pictures: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that was written."""
        return (*self.documents, *self.pictures)


def run_on_templates(
    folder: str | Path,
    *,
    checkpoint: str | Path,
    config_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    output: Path | None = None,
    device: str | None = None,
    progress: SetProgress | None = None,
    subject: str | None = None,
) -> TemplateRun:
    """Verify and search the templates of a folder, and write the reports; see `read_templates`.

    Args:
        folder: IJB-B, IJB-C or one's own templates.
        checkpoint: A checkpoint or run folder, or a weights file.
        config_path: The configuration; a checkpoint of this project carries its own.
        overrides: ``KEY=VALUE`` texts over either of them.
        name: Name of the set.
        output: Folder for the reports; by default a new one under ``logging.log_dir``.
        device: In place of the configuration's.
        progress: Told of every batch.
        subject: How the user named the checkpoint, where it was fetched from elsewhere.

    Raises:
        FacerecError: as reading, loading, embedding and the metrics say.
    """
    templates = read_templates(folder, name=name)
    if templates.pairs is None and not templates.galleries:
        raise DataError(f"{folder} asks nothing: it holds neither pairs nor a gallery with probes")
    loaded, config, target = load_model(checkpoint, config_path, overrides=overrides, device=device)
    pooled = embed_templates(
        loaded.backbone,
        templates,
        image_hw=config.image_hw,
        device=target,
        batch_size=config.eval.test_batch_size,
        flip=config.eval.flip,
        progress=None if progress is None else lambda done, total: progress(templates.name, done, total),
    )
    verified, found = _judge(pooled, templates)
    facts = {
        "command": command_of(
            subject or checkpoint,
            config_path=config_path,
            overrides=overrides,
            name=name,
            device=device,
            others=[("--templates", folder)],
        ),
        **describe_model(loaded),
        "images": f"{_describe_images(templates)}, {describe_flip(config.eval.flip)}",
        "device": f"{target}: {describe_device(target)}",
        "folder": str(folder),
    }
    parent = Path(config.logging.log_dir) / "evaluations"
    return _write(templates, facts, verified=verified, found=found, output=output, parent=parent)


def _judge(
    pooled: PooledTemplates, templates: TemplateSet
) -> tuple[TemplateVerification | None, Identification | None]:
    verified = found = None
    if templates.pairs is not None and templates.genuine is not None:
        verified = verify_templates(pooled, templates.pairs, templates.genuine)
    if templates.probes is not None:
        found = identify_templates(pooled, templates.galleries, templates.probes)
    return verified, found


def _describe_images(templates: TemplateSet) -> str:
    counts = templates.counts
    how = "aligned by their landmarks" if templates.landmarks is not None else "taken as they are"
    return f"{counts['images']} in {counts['templates']} templates, {how}"


def _write(
    templates: TemplateSet,
    facts: dict[str, str],
    *,
    verified: TemplateVerification | None,
    found: Identification | None,
    output: Path | None,
    parent: Path,
) -> TemplateRun:
    now = datetime.now(UTC)
    folder = open_folder(output, parent, label=file_label(templates.name), now=now)
    facts = {**facts, **closing_facts(now)}
    pictures = []
    blocks: list[Block] = []
    results: dict[str, Any] = {}
    if verified is not None:
        pictures.append(folder / "roc.png")
        curve = Curve(label=f"{templates.name}: AUC {verified.auc:.5f}", roc=verified.roc, points=verified.points)
        draw_curves([curve], pictures[-1], title="Templates: receiver operating characteristic")
        results["verification"] = verification_to_json(verified)
        blocks += [*_verification_blocks(verified), Picture(path=pictures[-1], caption="TAR over FAR, logarithmic.")]
    if found is not None:
        pictures.append(folder / "cmc.png")
        write_cmc_picture(found.cmc, pictures[-1])
        results["identification"] = identification_to_json(found)
        blocks += [*_search_blocks(found), Picture(path=pictures[-1], caption="Mated probes found, over the rank.")]
    blocks += [Heading(text="How this was measured"), facts_table(facts)]
    title = f"Templates of {templates.name}"
    content = {"facts": facts, "templates": {templates.name: results}}
    return TemplateRun(
        templates=templates,
        folder=folder,
        metrics=template_metrics(templates.name, verified=verified, found=found),
        results={templates.name: results},
        text=to_text(title, blocks),
        documents=write_documents(folder, Path(REPORT_FILE).stem, title=title, blocks=blocks, content=content),
        pictures=tuple(pictures),
    )


def _verification_blocks(verified: TemplateVerification) -> Iterator[Block]:
    roc = verified.roc
    yield Heading(text="Verification, one to one")
    yield Paragraph(
        text=f"{roc.num_genuine + roc.num_impostor} pairs of templates, {roc.num_genuine} genuine. AUC "
        f"{verified.auc:.6f}, EER {percent(verified.eer, digits=3)} %."
    )
    yield Table(
        head=("target FAR", "TAR", "95 % interval", "TAR at the nearest FAR", "FAR seen", "FAR at most", "score from"),
        rows=[_point_row(point, verified.nearest[far_label(point.far_target)]) for point in verified.points],
        notes=[
            "TAR never exceeds the target FAR; published IJB tables read it at the nearest FAR instead, which may.",
            "~ fewer than 30 false accepts are expected; * fewer than 3: only the bound of the FAR is known.",
            f"{_INTERVALS} Each template is in many pairs, so they are too narrow.",
        ],
    )


def _point_row(point: OperatingPoint, nearest: float) -> tuple[str, ...]:
    return (
        far_label(point.far_target),
        f"{mark(point)}{percent(point.tar)} %",
        range_text(clopper_pearson(point.true_accepts, point.num_genuine)),
        f"{percent(nearest)} %",
        f"{point.far:.2e}",
        f"{point.far_upper:.2e}",
        f"{point.threshold:.4f}",
    )


def _search_blocks(found: Identification) -> Iterator[Block]:
    yield Heading(text="Identification, one to many")
    yield Table(
        head=("gallery", "mated probes", *(f"rank {rank}" for rank in RANKS), "95 % interval of rank 1"),
        rows=[
            (
                name,
                f"{rates[0].num_mated}",
                *(f"{percent(rate.rate)} %" for rate in rates),
                range_text(rates[0].interval),
            )
            for name, rates in found.ranks.items()
        ],
        notes=[
            "Closed set: probes whose person is in the gallery. Ties count against the probe.",
            f"{_INTERVALS} Where people have several probes they are too narrow.",
        ],
    )
    if found.open_set:
        yield Table(
            head=("target FPIR", "FNIR", "95 % interval", "TPIR", "FPIR seen", "score from", "mated", "strangers"),
            rows=[
                (
                    far_label(point.fpir_target),
                    f"{'*' if point.is_bound else '' if point.trusted else '~'}{percent(point.fnir)} %",
                    range_text(point.fnir_interval),
                    f"{percent(point.tpir)} %",
                    f"{point.fpir:.2e}",
                    f"{point.threshold:.4f}",
                    f"{point.num_mated}",
                    f"{point.num_strangers}",
                )
                for point in found.open_set
            ],
            notes=[
                "Open set: every probe in every gallery; a stranger's person is not in it. A miss is a person who is "
                "not first, or below the threshold.",
                "~ fewer than 30 false positives are expected; * fewer than 3.",
            ],
        )
