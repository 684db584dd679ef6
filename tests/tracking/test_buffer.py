from __future__ import annotations

import math
import statistics
import time

from facerec.tracking.buffer import Buffer


def test_events_come_out_in_the_order_of_going_in_with_points_in_between_together():
    buffer = Buffer()
    buffer.add_metrics({"a": 1.0, "b@c": 2.0}, step=3)
    buffer.add_metrics({"a": 1.5}, step=4)
    buffer.add_event("tags", {"tags": {}})
    buffer.add_metrics({"a": 1.7}, step=5)
    events = list(buffer.take())
    assert [kind for kind, _ in events] == ["metrics", "tags", "metrics"]
    assert [point[:3] for point in events[0][1]["points"]] == [("a", 1.0, 3), ("b_c", 2.0, 3), ("a", 1.5, 4)]
    assert len(buffer) == 0
    assert list(buffer.take()) == []


def test_values_that_are_not_finite_are_left_out():
    buffer = Buffer()
    buffer.add_metrics({"nan": math.nan, "inf": math.inf, "low": -math.inf, "good": 1}, step=0)
    (_, body), *rest = buffer.take()
    assert [point[0] for point in body["points"]] == ["good"]
    assert rest == []


def test_no_call_to_the_store_gets_more_than_a_thousand_points():
    buffer = Buffer()
    for step in range(2500):
        buffer.add_metrics({"loss": 0.5}, step=step)
    assert [len(body["points"]) for _, body in buffer.take()] == [1000, 1000, 500]


def test_points_carry_the_time_of_logging_in_milliseconds():
    buffer = Buffer()
    before = time.time() * 1000
    buffer.add_metrics({"loss": 0.5}, step=0)
    (_, body), *_ = buffer.take()
    assert before - 1 <= body["points"][0][3] <= time.time() * 1000


def test_adding_five_values_takes_microseconds():
    buffer = Buffer()
    values = {f"train/{name}": 0.5 for name in "abcde"}
    durations = []
    for step in range(2000):
        start = time.perf_counter()
        buffer.add_metrics(values, step=step)
        durations.append(time.perf_counter() - start)
    assert statistics.median(durations) < 1e-4
