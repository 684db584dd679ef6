"""Every key of a training configuration, with its meaning, its default and its range.

The dataclasses are plain data; ``config.load`` validates YAML against them and ``config.checks`` holds the rules that
span several keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

__all__ = [
    "BACKBONE_OPTIONS",
    "AugmentConfig",
    "BlurConfig",
    "CheckpointConfig",
    "ColorJitterConfig",
    "Config",
    "DataConfig",
    "ErasingConfig",
    "EvalConfig",
    "FlipConfig",
    "GreyConfig",
    "HeadConfig",
    "JpegQualityConfig",
    "LoggingConfig",
    "LowResolutionConfig",
    "ModelConfig",
    "RandomCropConfig",
    "SamplerConfig",
    "ShiftConfig",
    "TrainingConfig",
    "head_option_names",
    "head_options",
]

Probability = Annotated[float, Ge(0.0), Le(1.0)]
PositiveInt = Annotated[int, Ge(1)]
NaturalInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0.0)]
NonNegativeFloat = Annotated[float, Ge(0.0)]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The backbone: pictures in, embeddings out."""

    backbone: str = "iresnet50"
    """Name of the backbone; `facerec zoo` lists them."""
    embedding_size: PositiveInt = 512
    """Length of the embedding."""
    pretrained: str | bool | None = None
    """Weights to start from: a checkpoint folder or a weights file; false or null for none."""
    dropout: Annotated[float, Ge(0.0), Lt(1.0)] | None = None
    """Dropout before the final layer; null takes the backbone's own value."""
    drop_path: Annotated[float, Ge(0.0), Lt(1.0)] | None = None
    """Rate of stochastic depth at the last block; null takes the backbone's own value."""
    mask_ratio: Annotated[float, Ge(0.0), Lt(1.0)] | None = None
    """vit only: share of the patches that training leaves out; null takes the backbone's own value."""
    grad_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""


BACKBONE_OPTIONS = ("dropout", "drop_path", "mask_ratio")
"""The keys of `ModelConfig` that only some backbones have."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The margin head: embeddings and labels in, scaled logits out."""

    type: str = "arcface"
    """Name of the head; `facerec zoo` lists them."""
    num_classes: PositiveInt | None = None
    """Number of identities; null takes it from the data, any other number must equal the data's."""
    margin: NonNegativeFloat | None = None
    """Margin in radians, as a cosine, or as a factor on the angle, by the head; null takes the published value."""
    scale: PositiveFloat = 64.0
    """Factor s on the cosines; for AdaCos the largest value that its own may take."""
    gradient: Literal["exact", "straight_through"] | None = None
    """ArcFace, sub-centre ArcFace, combined: the true gradient, or the one behind the published tables."""
    easy_margin: bool | None = None
    """ArcFace with the exact gradient, and MagFace: apply the margin only where the cosine is positive."""
    h: PositiveFloat | None = None
    """AdaFace only: concentration of the feature norms."""
    t_alpha: Annotated[float, Gt(0.0), Le(1.0)] | None = None
    """AdaFace and CurricularFace: weight of the newest batch in the running statistics."""
    m1: PositiveFloat | None = None
    """Combined margin only: factor on the angle."""
    m2: NonNegativeFloat | None = None
    """Combined margin only: shift of the angle, in radians."""
    m3: NonNegativeFloat | None = None
    """Combined margin only: shift of the cosine."""
    l_a: PositiveFloat | None = None
    """MagFace only: norm of the embedding at which the margin is smallest."""
    u_a: PositiveFloat | None = None
    """MagFace only: norm of the embedding at which the margin is largest."""
    l_m: NonNegativeFloat | None = None
    """MagFace only: smallest margin, in radians."""
    u_m: NonNegativeFloat | None = None
    """MagFace only: largest margin, in radians."""
    lambda_g: NonNegativeFloat | None = None
    """MagFace only: weight of the regulariser of the norm in the loss."""
    margin_std: NonNegativeFloat | None = None
    """ElasticFace only: standard deviation of the drawn margins."""
    plus: bool | None = None
    """ElasticFace only: the larger of the drawn margins to the pictures farther from their class."""
    sub_centres: PositiveInt | None = None
    """Sub-centre ArcFace only: centres of each class."""
    loss: Literal["plain", "fused"] = "plain"
    """Hold the logits of the whole batch, or compute the same loss by chunks of classes that are never kept."""
    sample_rate: Annotated[float, Gt(0.0), Le(1.0)] = 1.0
    """Share of the classes in the loss of each batch (PartialFC); those of the batch are always among them."""
    chunk_mib: PositiveInt | None = None
    """Fused loss only: memory for a chunk of logits, in MiB; null takes 256."""


@dataclass(frozen=True, kw_only=True)
class FlipConfig:
    """Mirror the picture."""

    p: Probability = 0.5
    """Probability."""


@dataclass(frozen=True, kw_only=True)
class ColorJitterConfig:
    """Change brightness, contrast and saturation, each by a factor drawn from [1 - x, 1 + x]."""

    p: Probability = 0.0
    """Probability."""
    brightness: Annotated[float, Ge(0.0), Le(1.0)] = 0.2
    """Largest relative change of the brightness."""
    contrast: Annotated[float, Ge(0.0), Le(1.0)] = 0.2
    """Largest relative change of the contrast."""
    saturation: Annotated[float, Ge(0.0), Le(1.0)] = 0.2
    """Largest relative change of the saturation."""


@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    """Move the picture by whole pixels; the border is repeated."""

    p: Probability = 0.0
    """Probability."""
    pixels: NaturalInt = 4
    """Largest shift in x and in y, in pixels."""


@dataclass(frozen=True, kw_only=True)
class RandomCropConfig:
    """Keep a rectangle of the picture only."""

    p: Probability = 0.0
    """Probability."""
    mode: Literal["zoom", "blank"] = "zoom"
    """`zoom` scales the rectangle to the full size; `blank` leaves it in place in black, as AdaFace does."""
    min_area: Annotated[float, Gt(0.0), Le(1.0)] = 0.2
    """Smallest area of the rectangle, as a fraction of the picture."""


@dataclass(frozen=True, kw_only=True)
class LowResolutionConfig:
    """Scale down and up again (AdaFace's low resolution)."""

    p: Probability = 0.0
    """Probability."""
    min_side: Annotated[float, Gt(0.0), Le(1.0)] = 0.2
    """Smallest intermediate side, as a fraction of the picture's."""


@dataclass(frozen=True, kw_only=True)
class GreyConfig:
    """Remove the colours."""

    p: Probability = 0.0
    """Probability."""


@dataclass(frozen=True, kw_only=True)
class BlurConfig:
    """Blur by a Gaussian."""

    p: Probability = 0.0
    """Probability."""
    max_sigma: PositiveFloat = 2.0
    """Largest standard deviation, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ErasingConfig:
    """Replace a rectangle by noise."""

    p: Probability = 0.0
    """Probability."""
    max_area: Annotated[float, Gt(0.0), Le(1.0)] = 0.2
    """Largest area of the rectangle, as a fraction of the picture."""


@dataclass(frozen=True, kw_only=True)
class JpegQualityConfig:
    """Encode as a JPEG of low quality and decode again."""

    p: Probability = 0.0
    """Probability."""
    min_quality: Annotated[int, Ge(1), Le(95)] = 30
    """Lowest quality; the highest is 95."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training pictures, on 8-bit RGB, applied in the order of these keys."""

    random_crop: RandomCropConfig = field(default_factory=RandomCropConfig)
    """Keep a rectangle only."""
    shift: ShiftConfig = field(default_factory=ShiftConfig)
    """Move by whole pixels."""
    flip: FlipConfig = field(default_factory=FlipConfig)
    """Mirror; on by default."""
    color_jitter: ColorJitterConfig = field(default_factory=ColorJitterConfig)
    """Brightness, contrast, saturation."""
    grey: GreyConfig = field(default_factory=GreyConfig)
    """Turn grey."""
    low_resolution: LowResolutionConfig = field(default_factory=LowResolutionConfig)
    """Scale down and up."""
    blur: BlurConfig = field(default_factory=BlurConfig)
    """Gaussian blur."""
    jpeg_quality: JpegQualityConfig = field(default_factory=JpegQualityConfig)
    """Encode as a poor JPEG."""
    erasing: ErasingConfig = field(default_factory=ErasingConfig)
    """Erase a rectangle."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How the pictures of an epoch are put into batches."""

    type: Literal["shuffle", "balanced"] = "shuffle"
    """Every picture once in random order, or batches of some identities with equally many pictures of each."""
    images: Annotated[int, Ge(2)] | None = None
    """balanced only: pictures of an identity in a batch, a divisor of `batch_size`; null takes 4."""

    @property
    def images_per_identity(self) -> int:
        """``images``, or the field's usual number (Hermans et al. 2017, arXiv:1703.07737, section 3)."""
        return 4 if self.images is None else self.images


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the training pictures come from."""

    name: str = "train"
    """Name of the training set in the tracking store."""
    root: str | tuple[str, ...] | None = None
    """Folder with `train.rec`, `train.idx` and `property`, or a list of them, of which no two share an identity."""
    weights: tuple[PositiveFloat, ...] | None = None
    """Several roots only: share of each in the pictures of an epoch; null takes every picture once."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Which pictures meet in a batch."""
    batch_size: PositiveInt = 128
    """Pictures in a batch."""
    num_workers: NaturalInt = 2
    """Processes that decode and augment; 0 works in the trainer's own process."""
    img_size: PositiveInt | Annotated[tuple[PositiveInt, ...], Len(2, 2)] = 112
    """Side of the input, or [height, width], in pixels; pictures of another size are scaled."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes of the pictures."""
    reader: Literal["native", "mxnet"] = "native"
    """Record reader; `mxnet` needs the extra of that name."""
    io: Literal["mmap", "pread"] = "mmap"
    """How records are read; `pread` suits network file systems."""
    shuffle_block: NaturalInt = 0
    """Shuffle blocks of this many neighbouring records instead of single ones; 0 shuffles single records."""
    on_bad_record: Literal["fail", "skip"] = "fail"
    """What a damaged record does: stop the training, or be left out and counted."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the weights are found."""

    epochs: PositiveInt = 20
    """Passes over the training set."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Update rule."""
    lr: PositiveFloat = 0.1
    """Learning rate after the warm-up."""
    momentum: Annotated[float, Ge(0.0), Lt(1.0)] = 0.9
    """SGD only: momentum."""
    nesterov: bool = True
    """SGD only: Nesterov's form of the momentum; the published recipes have the plain form, false."""
    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay on all weights, head included, but for those that `no_decay` names."""
    no_decay: tuple[Literal["norm", "bias", "vector"], ...] = ()
    """Weights without decay: of normalisation layers, biases, or all of one dimension (both, and PReLU and scales)."""
    lr_reference_batch: PositiveInt | None = None
    """Batch that `lr` is meant for: the rates are multiplied by the batch of all processes over it; null: not."""
    backbone_lr_factor: PositiveFloat = 1.0
    """Factor on the learning rate of the backbone, for fine-tuning with a new head."""
    freeze_backbone_epochs: NaturalInt = 0
    """First epochs in which only the head learns; the backbone is then as in evaluation, its statistics included."""
    scheduler: Literal["multistep", "cosine", "linear", "polynomial", "constant"] = "cosine"
    """Course of the learning rate after the warm-up."""
    milestones: tuple[PositiveInt, ...] = (10, 18, 22)
    """multistep only: epochs after which the learning rate is multiplied by `gamma`."""
    gamma: Annotated[float, Gt(0.0), Le(1.0)] = 0.1
    """multistep only: the factor at each milestone."""
    min_lr: NonNegativeFloat = 0.0
    """cosine, linear and polynomial only: learning rate at the end."""
    power: PositiveFloat = 2.0
    """polynomial only: exponent of the part of the training that is left."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs, fractions allowed, in which the learning rate rises linearly, step by step."""
    amp: bool = True
    """Mixed precision: bfloat16 where the hardware has it, else float16 with a loss scaler on CUDA, else none."""
    amp_init_scale: PositiveFloat = 128.0
    """First loss scale of the float16 scaler; bfloat16 needs none."""
    compile: bool | CompileMode = False
    """Compile the backbone, with a mode of torch.compile if one is named; true means `default`."""
    tf32: bool = False
    """Let CUDA round the factors of float32 products to TF32, in the head too; evaluation never does."""
    accumulation_steps: PositiveInt = 1
    """Equal parts in which a batch is computed, one after the other, to save memory; the update stays one."""
    ema_decay: Annotated[float, Gt(0.0), Lt(1.0)] | None = None
    """Also keep a moving average of the weights with this decay; it is what is verified and saved as the model."""
    sync_bn: bool = False
    """Batch normalisation over the batch of all processes, instead of each process's own."""
    grad_clip_norm: NonNegativeFloat = 5.0
    """Largest norm of the gradient over the weights that `grad_clip_part` names; 0 does not clip."""
    grad_clip_part: Literal["all", "backbone"] = "all"
    """Clip the gradient of backbone and head as one, or that of the backbone alone, as arcface_torch does."""
    resume: bool | str = False
    """Go on with the latest run under `checkpoint.save_dir`, or with the run or checkpoint folder named here."""
    early_stop: bool = False
    """Stop when `monitor` has not improved for `patience` evaluations."""
    patience: PositiveInt = 10
    """Evaluations without an improvement before an early stop."""
    monitor: str = "accuracy"
    """Metric that decides which checkpoint is best; a name from an evaluation, or `train/loss`."""
    mode: Literal["max", "min"] | None = None
    """Whether a larger or a smaller `monitor` is better; null takes what its name says, which no value may deny."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest change of `monitor` that counts as an improvement."""
    data_parallel: bool = False
    """Spread a batch over all GPUs of one process; `--nproc`, one process per GPU, is faster and replaces it."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """What is kept of a training."""

    save_dir: str = "checkpoints"
    """Folder that gets one folder per run."""
    keep_last_n: PositiveInt = 3
    """Newest checkpoints to keep beside the best."""
    every_steps: NaturalInt = 0
    """Also save after every so many steps; 0 saves at the end of each epoch only."""


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is told, and where."""

    log_dir: str = "logs"
    """Folder for log files and TensorBoard events, one folder per run."""
    print_freq: PositiveInt = 50
    """Steps between two lines of progress and two points of the training curves."""
    tensorboard: bool = False
    """Also write TensorBoard events; needs the extra of that name."""
    mlflow: bool = True
    """Track the run in MLflow."""
    model: bool = True
    """Keep the best checkpoint with the run as a predictor that MLflow can register and serve."""
    experiment: str = "facerec"
    """MLflow experiment; one that `mlflow run` has chosen counts more."""
    run_name: str | None = None
    """Name of the run; null names it after backbone, head and data."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags of the run, for grouping."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Verification on pair sets."""

    dataset: str | None = None
    """Name of the pair set in metrics; null takes the file's name."""
    bin_file: str | tuple[str, ...] | None = None
    """One `.bin` file or several: absolute, under `data.root`, or in the working folder."""
    test_batch_size: PositiveInt = 256
    """Pictures in a batch."""
    eval_freq: PositiveInt = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    flip: bool = True
    """Add the embedding of the mirrored picture, as the field's protocol does."""
    before_training: bool = False
    """Also evaluate the untrained network, as step 0."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole training configuration."""

    seed: NaturalInt = 42
    """Seed of the initial weights, of the order and of the augmentation."""
    deterministic: bool = False
    """Use only algorithms that give the same bits again, at some cost in speed on CUDA."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes CUDA where it is."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The backbone."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The margin head."""
    data: DataConfig = field(default_factory=DataConfig)
    """The training pictures."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The training."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """What is kept."""
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    """What is told."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """The verification."""

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        size = self.data.img_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def data_roots(self) -> tuple[str, ...]:
        """The folders of the training packs, none to several."""
        root = self.data.root
        if root is None:
            return ()
        return (root,) if isinstance(root, str) else root

    @property
    def bin_files(self) -> tuple[str, ...]:
        """The names of the verification sets, none to several."""
        names = self.eval.bin_file
        if names is None:
            return (f"{self.eval.dataset}.bin",) if self.eval.dataset else ()
        return (names,) if isinstance(names, str) else names


def head_options(config: HeadConfig, defaults: dict[str, Any]) -> dict[str, Any]:
    """The head's optional settings: what the configuration says, else the registered defaults."""
    chosen = {name: getattr(config, name) for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in chosen.items()}


def head_option_names() -> list[str]:
    """The keys of a head that only some heads have."""
    common = ("type", "num_classes", "scale", "loss", "sample_rate", "chunk_mib")
    return [key.name for key in fields(HeadConfig) if key.name not in common]
