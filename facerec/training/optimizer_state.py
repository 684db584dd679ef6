"""The state of an optimiser as named tensors and plain data.

The tensors carry the names of their weights, so that neither the order of the weights nor their division into groups
nor the number of processes has to be the same when the state is read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facerec.errors import CheckpointError

__all__ = ["load_optimizer", "split_optimizer"]

_Named = Iterable[tuple[str, nn.Parameter]]


def split_optimizer(optimizer: torch.optim.Optimizer, weights: _Named) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of the state, called ``<weight>.<field>``, and the rest as plain data."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for weight_name, weight in weights:
        for name, value in optimizer.state.get(weight, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{weight_name}.{name}"] = value
            else:
                scalars.setdefault(weight_name, {})[name] = value
    return tensors, {"kind": type(optimizer).__name__, "state": scalars}


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    weights: _Named,
    *,
    tensors: Mapping[str, Tensor],
    scalars: Mapping[str, Any],
    source: Path,
) -> None:
    """Set the state to what `split_optimizer` gave; the settings of the groups stay those of the present optimiser.

    Raises:
        CheckpointError: the state is of another kind of optimiser, or of weights that this one does not have.
    """
    if scalars["kind"] != type(optimizer).__name__:
        raise CheckpointError(f"{source} was trained with {scalars['kind']}, not with {type(optimizer).__name__}")
    named = dict(weights)
    fields: dict[str, dict[str, Any]] = {name: dict(values) for name, values in scalars["state"].items()}
    for key, tensor in tensors.items():
        weight_name, _, name = key.rpartition(".")
        fields.setdefault(weight_name, {})[name] = tensor
    if "groups" in scalars:
        # Format 1 numbers the trainable weights in their order.
        names = [name for name, weight in named.items() if weight.requires_grad]
        fields = {names[int(index)]: values for index, values in fields.items()}
    if unknown := sorted(set(fields) - set(named)):
        raise CheckpointError(f"{source} belongs to another model: the optimiser has no weight '{unknown[0]}'")
    places = _places(optimizer)
    state = {
        places[named[name]]: {field: _laid_out(value, named[name]) for field, value in values.items()}
        for name, values in fields.items()
        if named[name] in places
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _places(optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, int]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return {weight: index for index, weight in enumerate(weights)}


def _laid_out(value: Any, weight: nn.Parameter) -> Any:
    if not isinstance(value, Tensor) or value.shape != weight.shape:
        return value
    # In the memory layout of the weight, so that the update runs through the same kernels as before.
    return torch.empty_like(weight, dtype=value.dtype, memory_format=torch.preserve_format).copy_(value)
