"""Pickles of plain containers, numbers, text and NumPy arrays. Any other content is refused, and nothing is run.

A pickle is a program that imports functions by name and calls them. Here only a short list of names is allowed, each
mapped to a function of this module that makes an array or a number and has no other effect. The list covers what
`ndarray.__reduce__`, `numpy.dtype.__reduce__` and NumPy's scalars write, in NumPy 1 (`numpy.core`) and 2
(`numpy._core`).
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from maekit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_CODE = re.compile(r"[<>|=]?([biufcSUO]\d*|\?)")


class _NotPlainError(pickle.UnpicklingError):
    """The pickle uses a name that is not on the list."""


def _array_type(*_: object) -> None:
    raise _NotPlainError("an array that is not made as NumPy makes it")


def _array(kind: object, *_: object) -> NDArray[Any]:
    """An empty array, which `ndarray.__setstate__` then fills."""
    if kind is not _array_type:
        raise _NotPlainError("an array of a kind that is not NumPy's own")
    return np.empty(0, dtype=np.uint8)


def _dtype(code: object, *_: object) -> np.dtype[Any]:
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise _NotPlainError(f"the type of numbers {code!r}")
    return np.dtype(code)


def _number(kind: object, content: object) -> Any:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(content, bytes):
        raise _NotPlainError("a number that is not made as NumPy makes it")
    return np.frombuffer(content, dtype=kind, count=1)[0]


def _buffer(content: object, kind: object, shape: object, order: object) -> NDArray[Any]:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(content, bytes | bytearray):
        raise _NotPlainError("an array that is not made as NumPy makes it")
    return np.frombuffer(content, dtype=kind).reshape(shape, order=order).copy()  # type: ignore[call-overload,no-any-return]


def _encoded(text: object, code: object) -> bytes:
    if not isinstance(text, str) or code != "latin1":
        raise _NotPlainError("text that is to be encoded")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""  # called by protocols 0 to 2 for empty bytes


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _array_type,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encoded,  # bytes in protocols 0 to 2
    ("collections", "OrderedDict"): OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _array
    _NAMES[f"{_core}.multiarray", "scalar"] = _number
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _buffer
for _module in ("builtins", "__builtin__"):
    _NAMES[_module, "set"] = set
    _NAMES[_module, "frozenset"] = frozenset
    _NAMES[_module, "complex"] = complex
    _NAMES[_module, "bytes"] = _empty_bytes


class _PlainUnpickler(pickle.Unpickler):
    """Finds only the names of the list."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _NotPlainError(f"{module}.{name}")
        return _NAMES[module, name]


def load_plain_pickle(content: bytes, location: str) -> Any:
    """Load a pickle of containers, numbers, text and arrays.

    Args:
        content: bytes of the file.
        location: shown in error messages.

    Raises:
        UserError: it uses any other name, or is damaged. Nothing that it names has been imported or run.
    """
    try:
        return _PlainUnpickler(io.BytesIO(content)).load()
    except _NotPlainError as error:
        raise UserError(
            "a pickle that holds more than data",
            location=location,
            value=str(error),
            expected="containers, numbers, text and NumPy arrays",
            hint="Nothing of it was run. If you trust it, save its data in another format yourself.",
        ) from error
    except Exception as error:  # damaged bytes end in anything from EOFError to IndexError
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot be read as a pickle ({text})", location=location, hint="Is it cut off? Copy it again."
        ) from error
