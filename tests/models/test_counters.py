"""Random numbers from counters on a device: the published generator, and a normal distribution."""

from __future__ import annotations

import math

import torch

from facerec.models.counters import counter_bits, counter_normal

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mixed(state: int) -> int:
    """The finaliser of splitmix64 in plain integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def by_hand(counters: tuple[int, ...], index: int) -> int:
    state = 0
    for counter in counters:
        state = mixed(((state ^ counter) + _GOLDEN) & _MASK)
    state = mixed(((state ^ index) + _GOLDEN) & _MASK)
    return mixed((state + _GOLDEN) & _MASK)


def test_bits_are_those_of_splitmix64_in_plain_integers() -> None:
    indices = torch.tensor([0, 1, 2, 77, 10**9])
    for counters in ((0,), (42, 7), (2**61, 3, 1), (2**63, 5), (2**64 - 1, 5), (2**64 + 3, 5)):
        bits = [value & _MASK for value in counter_bits(counters, indices).tolist()]
        assert bits == [by_hand(tuple(counter & _MASK for counter in counters), int(index)) for index in indices]


def test_a_tensor_counts_like_an_integer() -> None:
    indices = torch.arange(5)
    assert torch.equal(counter_bits((torch.tensor(42), torch.tensor(7)), indices), counter_bits((42, 7), indices))


def test_every_counter_changes_every_number() -> None:
    indices = torch.arange(1000)
    first = counter_bits((1, 2), indices)
    for counters in ((1, 3), (2, 2), (2, 1)):
        assert not (counter_bits(counters, indices) == first).any()
    assert len(set(first.tolist())) == 1000


def test_normal_numbers_are_normal() -> None:
    numbers = counter_normal((5,), torch.arange(100_000))
    assert abs(float(numbers.mean())) < 4 / math.sqrt(100_000)
    assert abs(float(numbers.std()) - 1.0) < 0.01
    for bound, share in ((1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)):
        assert abs(float((numbers.abs() < bound).double().mean()) - share) < 0.005
    assert abs(float((numbers[1:] * numbers[:-1]).mean())) < 4 / math.sqrt(100_000)
