"""Who runs a trial, and whether it still does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from facerec.process import host_name, is_same_process, pid_namespace, process_started
from facerec.tuning.outages import StorageAwayError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = [
    "HEARTBEAT_ATTR",
    "OWNER_ATTR",
    "Heart",
    "Watch",
    "describe_owner",
    "has_ended_here",
    "owner_of_this_process",
]

OWNER_ATTR = "facerec.owner"
HEARTBEAT_ATTR = "facerec.heartbeat"

_UNOWNED_S = 60.0


def owner_of_this_process() -> dict[str, Any]:
    """What names this process for good: host, number, start, and the namespace in which the number counts."""
    return {
        "host": host_name(),
        "pid": os.getpid(),
        "started": process_started(),
        "namespace": pid_namespace(),
    }


def describe_owner(attrs: Mapping[str, Any]) -> str:
    """The owner of a trial, for people."""
    owner = attrs.get(OWNER_ATTR)
    return f"process {owner['pid']} on {owner['host']}" if owner else "a process that never named itself"


def has_ended_here(owner: Mapping[str, Any]) -> bool:
    """Whether the process belonged to this machine and is gone."""
    is_here = owner["host"] == host_name() and owner["namespace"] == pid_namespace()
    return is_here and not is_same_process(int(owner["pid"]), owner["started"])


class Watch:
    """Tells which running trials have lost their worker.

    A worker of this machine is dead when its process is gone. One that cannot be seen from here, on another machine or
    in another container, is dead when its sign of life has not changed for ``silence_s`` while this object watched:
    no clock is compared with another.
    """

    def __init__(self, *, silence_s: float) -> None:
        self._silence_s = silence_s
        self._seen: dict[int, tuple[object, float]] = {}

    def is_dead(self, trial: FrozenTrial) -> bool:
        """Whether the running trial has no worker any more."""
        owner = trial.user_attrs.get(OWNER_ATTR)
        if owner is None:
            # Killed between taking the trial and signing it, which takes milliseconds.
            started = trial.datetime_start
            return started is not None and _age_s(started) > _UNOWNED_S
        if owner["host"] == host_name() and owner["namespace"] == pid_namespace():
            return not is_same_process(int(owner["pid"]), owner["started"])
        sign = trial.user_attrs.get(HEARTBEAT_ATTR)
        now_s = time.monotonic()
        # Numbers are those of a study, and one object watches the search and its confirmation.
        trial_id = trial._trial_id
        known, since_s = self._seen.get(trial_id, (None, now_s))
        if known != sign or trial_id not in self._seen:
            self._seen[trial_id] = (sign, now_s)
            return False
        return now_s - since_s > self._silence_s


class Heart:
    """Gives a sign of life for the running trial while the block runs, from a thread of its own."""

    def __init__(self, storage: BaseStorage, trial_id: int, *, every_s: float) -> None:
        self._storage = storage
        self._trial_id = trial_id
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="facerec-heart", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        from optuna.exceptions import OptunaError

        while not self._stop.wait(self._every_s):
            try:
                sign = datetime.now(UTC).isoformat(timespec="milliseconds")
                self._storage.set_trial_user_attr(self._trial_id, HEARTBEAT_ATTR, sign)
            except (OptunaError, OSError, StorageAwayError):
                # A storage that is away for a while, or a trial that another worker has closed: the next beat tells.
                continue


def _age_s(moment: datetime) -> float:
    aware = moment if moment.tzinfo else moment.astimezone()
    return (datetime.now(UTC) - aware).total_seconds()
