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
        UserError: a missing package, or a graph that computes something else.
    """
    with torch.no_grad():
        expected = model(example)
        try:
            found = (_onnx if form == "onnx" else _torch_export)(model, example, target)
        except ImportError as error:
            raise UserError(
                f"{error.name} is not installed", place=f"--format {form}", mend="pip install 'maekit[onnx]'"
            ) from error
    difference = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    if not difference < CLOSE:
        target.unlink()
        raise UserError("the graph computes something else and was removed", place=str(target), value=difference,
                        expected=f"a relative difference under {CLOSE}")  # fmt: skip
    shape = ", ".join(map(str, example.shape[1:]))
    return [
        f"in: signal (batch, {shape}) {str(example.dtype).removeprefix('torch.')}; out: output (batch, {', '.join(map(str, expected.shape[1:]))})",
        f"run again on {len(example)} samples: differs by {difference:.1e} of the largest output",
    ]


def _onnx(model: nn.Module, example: Tensor, target: Path) -> Tensor:
    import onnx
    import onnxruntime
    import onnxscript

    del onnxscript  # torch's exporter needs it and says so less clearly
    with _quiet():
        torch.onnx.export(
            model, (example,), str(target), dynamo=True, input_names=["signal"], output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), external_data=False, verbose=False,
        )  # fmt: skip
    onnx.checker.check_model(str(target))
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    parts = [
        session.run(None, {"signal": part.numpy()})[0] for part in (example[:1], example[1:])
    ]  # another batch size
    return torch.cat([torch.from_numpy(part) for part in parts])


def _torch_export(model: nn.Module, example: Tensor, target: Path) -> Tensor:
    with _quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        torch.export.save(program, target)
        again = torch.export.load(target).module()
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
