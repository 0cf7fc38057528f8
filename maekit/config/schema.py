"""The sections and keys of a recipe, as pydantic models that need no torch."""

from __future__ import annotations

import re
from math import isqrt
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationInfo,
    field_validator,
)
from pydantic.functional_validators import BeforeValidator

from maekit.config.data_spec import Strict, Window
from maekit.config.split_spec import AnySplit, Folds, Split
from maekit.config.unions import LIST, MAPPING, MARK, NUMBER, TEXT, by_kind, choose
from maekit.errors import UserError, nearest

PRESET_NAMES = ("vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge")
Preset = Literal["vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge"]
LONGEST_NAME = 200
_MAX_TRIED = 100_000
"""Numbers that are tried as divisors of a batch."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

Momentum = Annotated[float, Field(ge=0, lt=1)]


class Section(Strict):
    """A section of a recipe; its numbers are finite, also those that are written as text."""

    model_config = ConfigDict(allow_inf_nan=False)


def _spell_out_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Choice(BaseModel):
    """A plug-in by its short name, and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything except the name."""
        return dict(self.model_extra or {})


Named = Annotated[Choice, BeforeValidator(_spell_out_name)]
"""`{name: span, length: 4}`, or the name alone."""


LabelledGroups = Annotated[
    Annotated[PositiveInt, NUMBER] | Annotated[list[str], LIST], by_kind("a whole number or a list of groups")
]
_COUNT, _SHARE = Tag(MARK + "count"), Tag(MARK + "share")


def _count_or_share(value: Any) -> Tag | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return _COUNT if isinstance(value, int) else _SHARE


BadSamples = Annotated[
    Annotated[int, Field(ge=0), _COUNT] | Annotated[float, Field(gt=0, lt=1), _SHARE],
    choose(_count_or_share, "a whole number, or a share of all samples between 0 and 1"),
]


class Data(Section):
    """The data, and how they are cut and split; what is left out comes from the data spec.

    `root` is the folder with the files, relative to the current directory. `labelled_groups` (a number, or names) and
    `label_fraction` reduce the training labels. `bad_samples` (a number, or a share of all) is how many samples may be
    unreadable: these are left out and listed in the run folder.
    """

    spec: str
    root: str = "."
    window: Window | None = None
    split: AnySplit | None = None
    labelled_groups: LabelledGroups | None = None
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    bad_samples: BadSamples = 0


class Size(Section):
    """A transformer's size; `drop_path` is the stochastic depth rate of the last block."""

    width: Annotated[PositiveInt, Field(le=1 << 16)]
    depth: Annotated[PositiveInt, Field(le=1000)]
    heads: PositiveInt
    mlp_ratio: Annotated[PositiveFloat, Field(le=1000)] = 4.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @field_validator("heads")
    @classmethod
    def _divides(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and width % heads:
            raise ValueError(f"width {width} does not divide into {heads} heads")
        return heads

    @field_validator("mlp_ratio")
    @classmethod
    def _leaves_units(cls, ratio: float, info: ValidationInfo) -> float:
        width = info.data.get("width")
        if width is not None and int(width * ratio) < 1:
            raise ValueError(f"width {width} times {ratio} leaves no hidden unit")
        return ratio


AnySize = Annotated[
    Annotated[Preset, TEXT] | Annotated[Size, MAPPING],
    by_kind(f"{', '.join(map(repr, PRESET_NAMES))}, or a mapping with keys among {', '.join(Size.model_fields)}"),
]


class Model(Section):
    """The masked autoencoder.

    `backbone` is the kind of encoder, with its options. `encoder` and `decoder` are sizes of transformers; `encoder` applies to the
    default backbone only, and `drop_path` to an encoder that is named by its preset. `loss_on: all` is an ablation.

    `decoder_attention: cross` is CrossMAE's decoder (Fu et al., 2024, arXiv:2401.14391): removed patches attend to visible ones
    only, and in training a share `cross_mask_ratio` of the patches may be predicted.
    """

    backbone: Named = Choice(name="transformer")
    encoder: AnySize = "vit_base"
    decoder: AnySize = Size(width=512, depth=8, heads=16)
    masking: Named = Choice(name="random")
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    target: Named = Choice(name="patch_norm")
    encoder_mask_tokens: bool = False
    loss_on: Literal["removed", "all"] = "removed"
    decoder_attention: Literal["self", "cross"] = "self"
    cross_mask_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Init(Section):
    """The pretraining recipe of a labelled one: a path relative to it, or the name of one that comes with maekit."""

    recipe: str


class Optimizer(Section):
    """AdamW, or LARS (You et al., 2017) for linear probes with large batches; the learning rate is base_lr * batch_size / 256.

    `betas` are AdamW's; `momentum` and `trust_coefficient` (for weights that are not vectors) are LARS's.
    """

    name: Literal["adamw", "lars"] = "adamw"
    base_lr: PositiveFloat = 1.5e-4
    betas: tuple[Momentum, Momentum] = (0.9, 0.95)
    weight_decay: NonNegativeFloat = 0.05
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    clip_grad: PositiveFloat | None = None
    momentum: Momentum = 0.9
    trust_coefficient: PositiveFloat = 0.001


class Schedule(Section):
    """Linear warm-up, then half a cosine; the learning rate changes at every step.

    An epoch uses every training sample once. With `samples_per_epoch` it draws that many, whatever the size of the split, so that
    fewer labels (`data.label_fraction`) do not also mean fewer steps.
    """

    epochs: PositiveInt
    samples_per_epoch: PositiveInt | None = None
    warmup_epochs: NonNegativeFloat = 0.0
    min_lr: NonNegativeFloat = 0.0

    @field_validator("warmup_epochs")
    @classmethod
    def _fits(cls, warmup: float, info: ValidationInfo) -> float:
        epochs = info.data.get("epochs")
        if epochs is not None and warmup > epochs:
            raise ValueError(f"{warmup:g} is longer than the {epochs} epochs")
        return warmup


class Training(Section):
    """How the training loop runs. `batch_size` is the effective one, over all processes and accumulated micro-batches.

    `precision: auto` is bfloat16 on a GPU that has it, and on a CPU where a timed product and step are faster with it; the run
    records the decision and keeps it. `micro_batch` is the largest number of samples that one process takes at once. The
    number of accumulated micro-batches then follows from the number of processes, so that a recipe has the same effective
    batch on any machine; `gradient_accumulation_steps` states it instead. `ema` is the decay of a moving average of the weights, which is then
    evaluated and saved. `activation_checkpointing` recomputes each block in the backward pass instead of keeping its
    activations: about a third more time for a fraction of the memory. `workers` are processes that read and prepare samples; `auto`
    starts with none, and after ten steps takes as many as hide reading behind the step, if there are free cores. `tensorboard` writes event files beside the metrics (extra
    `maekit[tensorboard]`); the JSON lines are the record.
    """

    batch_size: PositiveInt = 64
    gradient_accumulation_steps: PositiveInt = 1
    micro_batch: PositiveInt | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = 0
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    activation_checkpointing: bool = False
    save_every_epochs: PositiveInt = 1
    save_every_steps: PositiveInt | None = None
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    log_every_steps: PositiveInt = 10
    evaluate_every_epochs: PositiveInt = 1
    max_bad_steps: Annotated[int, Field(ge=0)] = 10
    tensorboard: bool = False

    @field_validator("gradient_accumulation_steps")
    @classmethod
    def _divides(cls, gradient_accumulation_steps: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch_size")
        if batch is not None and batch % gradient_accumulation_steps:
            raise ValueError(f"a batch of {batch} does not divide into {gradient_accumulation_steps} micro-batches")
        return gradient_accumulation_steps

    @field_validator("micro_batch")
    @classmethod
    def _stated_once(cls, micro_batch: int | None, info: ValidationInfo) -> int | None:
        if micro_batch is not None and info.data.get("gradient_accumulation_steps", 1) != 1:
            raise ValueError("`gradient_accumulation_steps` and `micro_batch` exclude each other: give one")
        return micro_batch

    @field_validator("ema")
    @classmethod
    def _whole_weights(cls, ema: float | None, info: ValidationInfo) -> float | None:
        if ema is not None and info.data.get("parallel") == "fsdp2":
            raise ValueError("the moving average needs whole weights in every process: use `parallel: ddp` with it")
        return ema

    def micro_batches(self, processes: int) -> int:
        """The number of micro-batches that each of `processes` accumulates: the smallest that `micro_batch` allows."""
        if self.micro_batch is None:
            return self.gradient_accumulation_steps
        share = self.batch_size // processes
        small = [n for n in range(1, min(isqrt(share), _MAX_TRIED) + 1) if share % n == 0]
        numbers = {*small, *(share // n for n in small)}
        return min((n for n in numbers if share // n <= self.micro_batch), default=max(share, 1))

    def at_once(self, processes: int) -> int:
        """Samples in a micro-batch of one of `processes`; evaluation takes as many."""
        return max(self.batch_size // (processes * self.micro_batches(processes)), 1)


class PublishedReference(Section):
    """Published or measured results of this recipe, which `maekit compare` compares a run with.

    `accuracy` and the like are metrics of the run itself; `finetuned` and `linear` are accuracies of runs that start from a
    pretraining. A difference up to `tolerance` is accepted. Recipes that extend this one do not inherit its reference.
    """

    metrics: Annotated[dict[str, float], Field(min_length=1)]
    tolerance: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    source: str

    @field_validator("tolerance")
    @classmethod
    def _of_metrics(cls, tolerance: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        metrics = info.data.get("metrics", tolerance)
        for name in tolerance:
            if name not in metrics:
                raise ValueError(
                    f"{name!r} is none of the metrics {', '.join(metrics)}. {nearest(name, metrics)}".rstrip()
                )
        return tolerance


class Recipe(Section):
    """A whole recipe: data, model, task and how it is trained.

    `augment` lists random variations of training samples; those of an auxiliary signal stand inside its choice.

    `auxiliary` are other signals of the data spec that the encoder reads together with the signal, each by its name with an
    adapter of its own; null takes one away that is inherited.
    """

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    adapter: Named
    augment: list[Named] = Field(default_factory=list)
    auxiliary: dict[str, Named] = Field(default_factory=dict)
    data: Data
    model: Model = Model()
    task: Named = Choice(name="pretraining")
    init: Init | None = None
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    training: Training = Training()
    reference: PublishedReference | None = None

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _without_null(cls, auxiliary: Any) -> Any:
        return (
            {name: choice for name, choice in auxiliary.items() if choice is not None}
            if isinstance(auxiliary, dict)
            else auxiliary
        )

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            raise ValueError(
                "the name becomes a folder: letters, digits, `_`, `-`, `.` and single `/` between words, none of "
                f"which begins with `.` or `-`; at most {LONGEST_NAME} characters"
            )
        return name


PLUGIN_KEYS = (("adapter",), ("task",), ("model", "backbone"), ("model", "masking"), ("model", "target"))
"""Where a recipe names a plug-in; every entry of `auxiliary` does too, see `is_choice`."""


def is_choice(keys: tuple[str | int, ...]) -> bool:
    """Whether a plug-in is named at these keys."""
    return keys in PLUGIN_KEYS or (len(keys) == 2 and keys[0] == "auxiliary")


def split_choice(choice: Choice, location: str) -> tuple[Choice, list[Choice]]:
    """The adapter of an auxiliary signal, and the augmentations that stand under `augment` among its options.

    Raises:
        UserError: no list of names or mappings with a name.
    """
    options = choice.options
    listed = options.pop("augment", [])
    if not isinstance(listed, list) or not all(_is_choice(entry) for entry in listed):
        raise UserError(
            "augmentations of an auxiliary signal",
            location=location,
            value=listed,
            expected="a list such as [{name: gain, db: 3}, flip]",
        )
    return Choice(name=choice.name, **options), [
        Choice(**({"name": entry} if isinstance(entry, str) else entry)) for entry in listed
    ]


def _is_choice(entry: Any) -> bool:
    return isinstance(entry, str) or (isinstance(entry, dict) and isinstance(entry.get("name"), str))


EXCLUSIVE: dict[tuple[str | int, ...], tuple[set[str], set[str]]] = {
    ("data", "window"): ({"seconds", "hop_seconds"}, {"length", "hop"}),
    ("data", "split"): (set(Split.model_fields), set(Folds.model_fields)),
}
"""Keys that exclude each other: a recipe that gives keys of one set drops inherited keys of the other."""


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, for editors.

    Only a file without `extends` must have the required sections; one with it may leave out anything, at any depth.
    `maekit recipe check` finds what is missing then.
    """
    schema = Recipe.model_json_schema()
    required = schema.pop("required")
    for definition in schema["$defs"].values():
        definition.pop("required", None)
    schema["$defs"]["Choice"] = {"anyOf": [{"type": "string"}, schema["$defs"]["Choice"]]}
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another recipe, relative to this one, or a shipped name.",
    }
    schema["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    return schema
