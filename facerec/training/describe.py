"""What a run tells the tracker of itself before its first step."""

from __future__ import annotations

from collections.abc import Sequence

from facerec.config.load import config_to_dict, flatten
from facerec.data.pairs import PairSet
from facerec.training.environment import describe_environment
from facerec.training.session import Session
from facerec.training.tracker import DatasetDescription, RunDescription

__all__ = ["describe_pair_sets", "describe_run"]


def describe_run(session: Session) -> RunDescription:
    """Parameters, tags and data of the run."""
    config, loader = session.config, session.loader
    head, backbone, data = config.head.type, config.model.backbone, config.data.name
    params = flatten(config_to_dict(config)) | describe_environment(session.device)
    params["head.num_classes"] = loader.num_classes
    params |= {
        "run.precision": str(session.parts.precision),
        "run.steps_per_epoch": loader.steps_per_epoch,
        "run.processes": session.world.size,
        "run.total_batch": session.total_batch,
        "data.images": loader.num_images,
        "data.fingerprint": loader.pack.fingerprint,
    }
    params |= {f"eval.sha256.{pairs.name}": pairs.sha256 for pairs in session.pair_sets}
    return RunDescription(
        name=config.logging.run_name or f"{backbone}-{head}-{data}",
        experiment=config.logging.experiment,
        params=params,
        tags={
            "facerec.backbone": backbone,
            "facerec.head": head,
            "facerec.dataset": data,
            "facerec.run_folder": str(session.run_folder),
            **config.logging.tags,
        },
        datasets=(_training_set(session), *describe_pair_sets(session.pair_sets)),
        resume_run_id=session.resume_run_id,
        resume_step=None if session.resumed_from is None else session.global_step,
        folder_name=session.run_folder.name,
    )


def _training_set(session: Session) -> DatasetDescription:
    loader = session.loader
    return DatasetDescription(
        name=session.config.data.name,
        digest=loader.pack.fingerprint,
        context="train",
        source=", ".join(session.config.data_roots),
        facts={"images": loader.num_images, "identities": loader.num_classes},
    )


def describe_pair_sets(pair_sets: Sequence[PairSet]) -> tuple[DatasetDescription, ...]:
    """Pair sets as the data of a run, named by their content."""
    return tuple(
        DatasetDescription(
            name=pairs.name,
            digest=pairs.sha256,
            context="eval",
            source=str(pairs.path),
            facts={"pairs": pairs.num_pairs, "genuine": pairs.num_genuine},
        )
        for pairs in pair_sets
    )
