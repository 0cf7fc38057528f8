"""What a recipe may say: pydantic models, without torch, so that checking one takes milliseconds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic.functional_validators import BeforeValidator

from maekit.data.spec import Folds, Share, Split, Strict, Window

PRESET_NAMES = ("vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge")
Preset = Literal["vit_tiny", "vit_small", "vit_base", "vit_large", "vit_huge"]
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def _name_alone(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Choice(BaseModel):
    """Something an installed package (or `--plugin`) brings, by its short name, and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything beside the name."""
        return dict(self.model_extra or {})


Named = Annotated[Choice, BeforeValidator(_name_alone)]
"""`{name: span, length: 4}`, or the name alone."""


class Data(Strict):
    """Which data, cut and split how; what is left out comes from the data spec.

    `root` is the folder with the files, relative to the current directory. `labelled_groups` (a number, or names)
    and `label_fraction` take away training labels, to see what few are worth.
    """

    spec: str
    root: str = "."
    window: Window | None = None
    split: Split | Folds | None = None
    labelled_groups: PositiveInt | list[str] | None = None
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0


class Size(Strict):
    """A transformer's size; `drop_path` is the stochastic depth rate of the last block."""

    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    mlp_ratio: PositiveFloat = 4.0
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _heads_divide(self) -> Size:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        return self


class Model(Strict):
    """The masked autoencoder. `drop_path` applies to an encoder named by its preset."""

    encoder: Preset | Size = "vit_base"
    decoder: Preset | Size = Size(width=512, depth=8, heads=16)
    masking: Named = Choice(name="random")
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    target: Named = Choice(name="patch_norm")
    encoder_mask_tokens: bool = False
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Init(Strict):
    """Where a fine-tuning recipe gets its encoder: the pretraining recipe, relative to this one."""

    recipe: str


class Optimizer(Strict):
    """AdamW. The learning rate is base_lr * batch_size / 256."""

    name: Literal["adamw"] = "adamw"
    base_lr: PositiveFloat = 1.5e-4
    betas: tuple[Share, Share] = (0.9, 0.95)
    weight_decay: NonNegativeFloat = 0.05
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    clip_grad: PositiveFloat | None = None


class Schedule(Strict):
    """Linear warm-up, then half a cosine, stepped at every iteration."""

    epochs: PositiveInt
    warmup_epochs: NonNegativeFloat = 0.0
    min_lr: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _warmup_fits(self) -> Schedule:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} is longer than the {self.epochs} epochs")
        return self


class Training(Strict):
    """How the loop runs. `batch_size` is the effective one: over all processes and accumulated micro-batches.

    `tensorboard` writes event files beside the metrics (extra `maekit[tensorboard]`); the JSON lines are the record.
    """

    batch_size: PositiveInt = 64
    accumulation: PositiveInt = 1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    workers: Annotated[int, Field(ge=0)] = 0
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    save_every_epochs: PositiveInt = 1
    save_every_steps: PositiveInt | None = None
    keep_checkpoints: Annotated[int, Field(ge=2)] = 2
    log_every_steps: PositiveInt = 10
    evaluate_every_epochs: PositiveInt = 1
    max_bad_steps: Annotated[int, Field(ge=0)] = 10
    tensorboard: bool = False


def json_schema() -> dict[str, Any]:
    """JSON Schema of a recipe, for editors; a recipe file may also have `extends`."""
    schema = Recipe.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "Another recipe, relative to this one."}
    return schema


class Recipe(Strict):
    """A whole recipe: data, model, task and how it is trained."""

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    adapter: Named
    data: Data
    model: Model = Model()
    task: Named = Choice(name="pretraining")
    init: Init | None = None
    optimizer: Optimizer = Optimizer()
    schedule: Schedule
    training: Training = Training()

    @model_validator(mode="after")
    def _safe_name(self) -> Recipe:
        if not _NAME.fullmatch(self.name) or any(set(part) == {"."} for part in self.name.split("/")):
            raise ValueError(
                f"name {self.name!r} becomes a folder: letters, digits, `_`, `-`, `.` and single `/` between words"
            )
        return self
