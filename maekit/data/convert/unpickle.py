"""Pickles of plain containers, numbers, text and NumPy arrays; whatever else one names is refused, and nothing is run.

A pickle is a program that names functions and calls them. Here the names it may use are a short list, and each stands
for a function of this module that makes an array, a number or nothing else. Names as in NumPy 1 (`numpy.core`) and 2
(`numpy._core`), for what `ndarray.__reduce__`, `numpy.dtype.__reduce__` and NumPy's numbers write.
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


class _NotPlain(pickle.UnpicklingError):
    """A name that is not on the list."""


def _array_type(*_: object) -> None:
    raise _NotPlain("an array that is not made as NumPy makes it")


def _array(kind: object, shape: object, code: object) -> NDArray[Any]:
    """The empty array that `ndarray.__setstate__` then fills, which is all that NumPy asks for."""
    if kind is not _array_type:
        raise _NotPlain("an array of a kind that is not NumPy's own")
    return np.empty(0, dtype=np.uint8)


def _dtype(code: object, *_: object) -> np.dtype[Any]:
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise _NotPlain(f"the type of numbers {code!r}")
    return np.dtype(code)


def _number(kind: object, content: object) -> Any:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(content, bytes):
        raise _NotPlain("a number that is not made as NumPy makes it")
    return np.frombuffer(content, dtype=kind, count=1)[0]


def _buffer(content: object, kind: object, shape: object, order: object, *_: object) -> NDArray[Any]:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(content, bytes | bytearray):
        raise _NotPlain("an array that is not made as NumPy makes it")
    return np.frombuffer(content, dtype=kind).reshape(shape, order=order).copy()  # type: ignore[call-overload,no-any-return]


def _encoded(text: object, code: object) -> bytes:
    if not isinstance(text, str) or code != "latin1":
        raise _NotPlain("text that is to be encoded")
    return text.encode("latin1")


def _nothing() -> bytes:
    return b""  # how protocols 0 to 2 write it


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
    _NAMES[_module, "bytes"] = _nothing


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise _NotPlain(f"{module}.{name}")
        return _NAMES[module, name]


def plain(content: bytes, location: str) -> Any:
    """What a pickle holds, made of containers, numbers, text and arrays only.

    Args:
        content: of the file.
        location: for messages.

    Raises:
        UserError: it names anything else, or is damaged. Nothing that it names has then been imported or run.
    """
    try:
        return _Plain(io.BytesIO(content)).load()
    except _NotPlain as error:
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
