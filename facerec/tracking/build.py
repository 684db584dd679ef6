"""From a configuration to the tracker that it asks for."""

from __future__ import annotations

import os
from pathlib import Path

from facerec.config.schema import Config
from facerec.tracking.group import TrackerGroup
from facerec.tracking.mlflow_tracker import MlflowTracker
from facerec.tracking.null import NullTracker
from facerec.tracking.spool import DEFAULT_SPOOL_DIR
from facerec.tracking.tensorboard_tracker import TensorBoardTracker
from facerec.training.tracker import Tracker

__all__ = ["build_tracker"]


def build_tracker(config: Config, *, log_folder: Path) -> Tracker:
    """The tracker for ``config.logging``; TensorBoard events go below ``log_folder``, into a folder per run.

    In a training of several processes only the one of rank 0 records anything.

    Raises:
        ConfigError: TensorBoard is asked for and not installed.
    """
    if os.environ.get("RANK", "0") != "0":
        return NullTracker()
    trackers: list[Tracker] = []
    if config.logging.mlflow:
        trackers.append(MlflowTracker(spool_dir=DEFAULT_SPOOL_DIR))
    if config.logging.tensorboard:
        trackers.append(TensorBoardTracker(folder=log_folder))
    if not trackers:
        return NullTracker()
    return trackers[0] if len(trackers) == 1 else TrackerGroup(trackers)
