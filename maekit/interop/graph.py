"""Models as graphs that run without maekit (ONNX, torch.export). Each is run once and compared with the original."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from maekit.errors import UserError
from maekit.files import described_errors, partial_path, put_in_place, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

TOLERANCE = 1e-3
"""Largest difference between graph and original, relative to the largest output; it allows for another order of sums."""
MAX_ONNX_BYTES = 1_900_000_000
"""Bytes of weights that one ONNX file holds; it is a protocol buffer, limited to 2 GiB."""


def write_graph(model: nn.Module, example: Tensor, target: Path, form: str) -> list[str]:
    """Write `model` as a graph with a free batch size, after checking that the graph computes the same.

    Args:
        model: takes one tensor (`signal`) and returns one (`output`).
        example: (batch of at least two, *prepared).
        target: the file. Large ONNX weights go to a file beside it.
        form: `onnx` or `torch_export`.

    Returns:
        Notes for the user: shapes, and how close the graph is to the original.

    Raises:
        UserError: a package is missing, the format cannot express an operation, or the graph computes something else.
    """
    # The graph names the file of its weights, so both are written under their final names in a temporary folder.
    with _draft_folder(target) as folder, torch.no_grad():
        draft = folder / target.name
        expected = model(example)
        try:
            output = (_export_onnx if form == "onnx" else _export_torch)(model, example, draft)
        except ImportError as error:
            raise UserError(
                f"{error.name} is not installed", location=f"--format {form}", hint="pip install 'maekit[onnx]'"
            ) from error
        except (OSError, MemoryError):
            raise
        except Exception as error:  # the exporters raise whatever one of their many passes raises
            raise UserError(
                f"this model cannot be written as {form} ({_root_cause(error)})",
                location=str(target),
                hint="The other of onnx and torch_export may work; `--format safetensors` always does.",
            ) from error
        difference = ((output - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
        if not difference < TOLERANCE:
            raise UserError(
                "the graph computes something else, and was not written",
                location=str(target),
                value=difference,
                expected=f"a relative difference under {TOLERANCE}",
            )
        notes = [
            f"in: signal {_shape(example)}; out: output {_shape(expected)}",
            f"compared on {len(example)} samples: differs by {difference:.1e} of the largest output",
        ]
        weights = folder / f"{target.name}.data"
        if weights.exists():
            put_in_place(weights, target.with_name(weights.name))
            notes.append(f"the weights are in {target.with_name(weights.name)}; keep the two files together")
        put_in_place(draft, target)
    return notes


@contextmanager
def _draft_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, removed when the block ends; errors of the system in it name `target`."""
    folder = partial_path(target)
    try:
        with described_errors(target):
            folder.mkdir()
            yield folder
    finally:
        remove(folder)


def _export_onnx(model: nn.Module, example: Tensor, target: Path) -> Tensor:
    """Write ONNX, and run it with two batch sizes; returns the outputs of all samples."""
    import onnx
    import onnxruntime
    import onnxscript

    del onnxscript  # torch's exporter needs it, and reports its absence less clearly
    with _quiet_exporter():
        torch.onnx.export(
            model,
            (example,),
            str(target),
            dynamo=True,
            input_names=["signal"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
            external_data=sum(p.numel() * p.element_size() for p in model.state_dict().values()) > MAX_ONNX_BYTES,
        )
    onnx.checker.check_model(str(target))
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"signal": part.numpy()})[0] for part in (example[:1], example[1:])]
    return torch.cat([torch.from_numpy(part) for part in parts])


def _export_torch(model: nn.Module, example: Tensor, target: Path) -> Tensor:
    """Write a torch.export program, and run it with two batch sizes; returns the outputs of all samples."""
    with _quiet_exporter():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        content = io.BytesIO()  # torch's writer of zip files crashes the process where the disk is full
        torch.export.save(program, content)
        target.write_bytes(content.getbuffer())
        with target.open("rb") as file:
            loaded = torch.export.load(file).module()
    return torch.cat([loaded(example[:1]), loaded(example[1:])])


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppress messages of the exporters to their own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _shape(x: Tensor) -> str:
    return f"({', '.join(['batch', *map(str, x.shape[1:])])}) {str(x.dtype).removeprefix('torch.')}"


def _root_cause(error: BaseException) -> str:
    """First line of the innermost exception."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:200]
