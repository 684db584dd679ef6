"""Which process a run belongs to, and whether it still lives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from facerec.process import host_name, is_same_process, pid_namespace, process_started

__all__ = [
    "HEARTBEAT_TAG",
    "HOST_TAG",
    "PID_TAG",
    "REASON_TAG",
    "STARTED_TAG",
    "host_name",
    "identity_tags",
    "is_gone",
    "last_sign",
    "may_live",
    "utc_now",
]

HOST_TAG = "facerec.host"
PID_TAG = "facerec.pid"
STARTED_TAG = "facerec.started_at"
HEARTBEAT_TAG = "facerec.heartbeat"
REASON_TAG = "facerec.status_reason"
_PROCESS_STARTED_TAG = "facerec.process_started"
_NAMESPACE_TAG = "facerec.pid_namespace"

_SILENCE_S = 600.0


def utc_now() -> str:
    """The time as ISO 8601 text, in seconds of UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def identity_tags() -> dict[str, str]:
    """Tags by which `is_gone` recognises this process later."""
    return {
        HOST_TAG: host_name(),
        PID_TAG: str(os.getpid()),
        STARTED_TAG: utc_now(),
        _PROCESS_STARTED_TAG: process_started(),
        _NAMESPACE_TAG: pid_namespace(),
    }


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote ``tags`` has certainly ended.

    A process on another machine, and a run without an owner, are never called gone. One in another container on a
    machine of the same name cannot be seen; it counts as gone when its heartbeat has been silent for ten minutes.
    """
    pid = tags.get(PID_TAG, "")
    if tags.get(HOST_TAG) != host_name() or not pid.isdigit():
        return False
    if tags.get(_NAMESPACE_TAG, "") != pid_namespace():
        return _is_silent(tags)
    return not is_same_process(int(pid), tags.get(_PROCESS_STARTED_TAG, ""))


def may_live(tags: Mapping[str, str]) -> bool:
    """Whether the process that wrote ``tags``, on whatever machine, has shown itself within the last ten minutes."""
    return not is_gone(tags) and not _is_silent(tags)


def last_sign(tags: Mapping[str, str]) -> datetime | None:
    """When the process last showed that it lived: its heartbeat, else its start; None where neither is readable."""
    for tag in (HEARTBEAT_TAG, STARTED_TAG):
        try:
            sign = datetime.fromisoformat(tags.get(tag, ""))
        except ValueError:
            continue
        return sign if sign.tzinfo else sign.replace(tzinfo=UTC)
    return None


def _is_silent(tags: Mapping[str, str]) -> bool:
    sign = last_sign(tags)
    return sign is not None and (datetime.now(UTC) - sign).total_seconds() > _SILENCE_S
