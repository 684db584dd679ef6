"""What a training would do, found out without training."""

from __future__ import annotations

from facerec.config.schema import Config
from facerec.data.loader import build_train_loader
from facerec.evaluation.suites import find_pair_sets
from facerec.models.build import build_model
from facerec.models.device import choose_precision, describe_device, resolve_device

__all__ = ["describe_plan"]


def describe_plan(config: Config) -> str:
    """Open the data, build the model and say what would run; writes nothing.

    Raises:
        FacerecError: whatever would stop the training before its first step.
    """
    device = resolve_device(config.device)
    pair_sets = find_pair_sets(config)
    with build_train_loader(config) as loader:
        model = build_model(config, num_classes=loader.num_classes)
        first = next(loader.epoch(0))
        steps = loader.steps_per_epoch
        sizes = {part: sum(weight.numel() for weight in module.parameters()) for part, module in model.named_children()}
        lines = [
            f"data      {loader.num_images} images of {loader.num_classes} identities from {config.data.root}",
            f"batch     {tuple(first.images_BCHW.shape)}, {steps} steps per epoch, {config.training.epochs} epochs, "
            f"{steps * config.training.epochs} updates",
            f"backbone  {config.model.backbone}: {sizes['backbone'] / 1e6:.2f} M parameters",
            f"head      {config.head.type}: {sizes['head'] / 1e6:.2f} M parameters",
            f"device    {device} ({describe_device(device)}), {choose_precision(device, amp=config.training.amp)}",
        ]
    lines += [f"verify    {pairs.name}: {pairs.num_pairs} pairs, {pairs.num_genuine} genuine" for pairs in pair_sets]
    return "\n".join(lines)
