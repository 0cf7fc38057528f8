"""Models as graphs that run without maekit: ONNX and torch.export, each run once and compared with the original."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

CLOSE = 1e-3
"""Largest difference to the original, of the largest output, that is put down to another order of sums."""
MOST_IN_ONE_FILE = 1_900_000_000
"""Bytes of weights; one ONNX file is a protocol buffer, which ends at 2 GiB."""


def write(model: nn.Module, example: Tensor, target: Path, form: str) -> list[str]:
    """Write `model` with a free batch size.

    Args:
        model: one tensor in (`signal`), one out (`output`).
        example: (batch of at least two, *prepared).
        target: file to write; removed again where its graph does not compute the same.
        form: `onnx` or `torch_export`.

    Returns:
        How close the graph comes to the original.

    Raises:
        UserError: a missing package, a step that the format cannot say, or a graph that computes something else.
    """
    with torch.no_grad():
        expected = model(example)
        try:
            found = (_onnx if form == "onnx" else _torch_export)(model, example, target)
        except ImportError as error:
            raise UserError(
                f"{error.name} is not installed", location=f"--format {form}", hint="pip install 'maekit[onnx]'"
            ) from error
        except Exception as error:  # the exporters raise what their many passes happen to raise
            _remove(target)
            raise UserError(
                f"this model cannot be written as {form} ({_cause(error)})",
                location=str(target),
                hint="The other of onnx and torch_export may; `--format safetensors` always does.",
            ) from error
    difference = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    if not difference < CLOSE:
        _remove(target)
        raise UserError(
            "the graph computes something else and was removed",
            location=str(target),
            value=difference,
            expected=f"a relative difference under {CLOSE}",
        )
    notes = [
        f"in: signal {_shape(example)}; out: output {_shape(expected)}",
        f"run again on {len(example)} samples: differs by {difference:.1e} of the largest output",
    ]
    auxiliary = _auxiliary(target)
    return (
        [*notes, f"the weights stand in {auxiliary}, which goes where the graph goes"] if auxiliary.exists() else notes
    )


def _shape(x: Tensor) -> str:
    return f"({', '.join(['batch', *map(str, x.shape[1:])])}) {str(x.dtype).removeprefix('torch.')}"


def _auxiliary(target: Path) -> Path:
    """Where torch's exporter puts weights that one ONNX file cannot hold."""
    return target.with_name(f"{target.name}.data")


def _remove(target: Path) -> None:
    for path in (target, _auxiliary(target)):
        path.unlink(missing_ok=True)


def _cause(error: BaseException) -> str:
    """The first line of what went wrong underneath all that was wrapped around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:200]


def _onnx(model: nn.Module, example: Tensor, target: Path) -> Tensor:
    import onnx
    import onnxruntime
    import onnxscript

    del onnxscript  # torch's exporter needs it and says so less clearly
    with _quiet():
        torch.onnx.export(
            model,
            (example,),
            str(target),
            dynamo=True,
            input_names=["signal"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
            external_data=sum(p.numel() * p.element_size() for p in model.state_dict().values()) > MOST_IN_ONE_FILE,
        )
    onnx.checker.check_model(str(target))
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    parts = [
        session.run(None, {"signal": part.numpy()})[0] for part in (example[:1], example[1:])
    ]  # another batch size
    return torch.cat([torch.from_numpy(part) for part in parts])


def _torch_export(model: nn.Module, example: Tensor, target: Path) -> Tensor:
    with _quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        # Through open files, for to a name torch wants one suffix.
        with target.open("wb") as file:
            torch.export.save(program, file)
        with target.open("rb") as file:
            again = torch.export.load(file).module()
    return torch.cat([again(example[:1]), again(example[1:])])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say to their own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
