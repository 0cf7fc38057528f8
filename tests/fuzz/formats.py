"""Structure-aware mutations of binary files: sound containers with strange content, besides changed bytes."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import struct
import warnings
import zipfile
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from scipy.io import savemat, wavfile

from fuzz.mutations import WORDS, mutate_bytes, mutate_json, mutate_text, strange_value

SHAPES: tuple[tuple[int, ...], ...] = (
    (0,),
    (1,),
    (7,),
    (300,),
    (300, 1),
    (1, 300),
    (3, 100),
    (2, 3, 4),
    (),
    (0, 3),
    (1, 1, 1, 1),
)
DTYPES = (
    "f8",
    "f4",
    "f2",
    ">f8",
    "i1",
    "u1",
    "<i2",
    ">i4",
    "i8",
    "u8",
    "?",
    "c8",
    "c16",
    "S3",
    "U2",
    "M8[ns]",
    "m8[s]",
    "f4,i2",
)


def strange_array(rng: random.Random) -> np.ndarray[Any, Any]:
    """An array of any shape and type, with extreme values in places."""
    shape, dtype = rng.choice(SHAPES), np.dtype(rng.choice(DTYPES))
    size = int(np.prod(shape, dtype=int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dtype.kind in "SUV" or rng.random() < 0.2:
            return (
                np.frombuffer(rng.randbytes(size * dtype.itemsize), dtype=dtype).reshape(shape)
                if dtype.kind != "U"
                else np.full(shape, "ab", dtype)
            )
        values = np.sin(np.arange(size, dtype=np.float64)) * rng.choice((1, 1, 100, 1e30))
        if size and rng.random() < 0.5:
            values[rng.randrange(size)] = rng.choice((np.nan, np.inf, -np.inf, 1e308, -9999))
        return (
            np.nan_to_num(values).astype(dtype).reshape(shape)
            if dtype.kind in "iuMm?"
            else values.astype(dtype).reshape(shape)
        )


def mutate_npy(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(rng, content, other)
    buffer = io.BytesIO()
    np.save(buffer, strange_array(rng))
    written = buffer.getvalue()
    if rng.random() < 0.5:  # the header is text: shape, order, type
        length = struct.unpack("<H", written[8:10])[0]
        header = mutate_text(rng, written[10 : 10 + length].decode("latin-1")).encode("latin-1", "replace")
        header = header[:60_000]
        return written[:8] + struct.pack("<H", len(header)) + header + written[10 + length :]
    return written


def mutate_zip(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """A zip archive with members of strange names, sizes and flags; some lead outside the folder."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, content, other)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for info in source.infolist():
            name, data = info.filename, source.read(info)
            if rng.random() < 0.4:
                name = rng.choice(
                    (
                        f"../{name}",
                        f"/{name}",
                        f"./{name}",
                        f"a/../{name}",
                        f"a\\..\\..\\{name}",
                        f"C:\\{name}",
                        name.upper(),
                        "",
                        ".",
                        "..",
                        f"{name}/",
                        f"a//{name}",
                        f"theirs/{name}",
                        rng.choice(WORDS),
                    )
                )
            if rng.random() < 0.3:
                data = rng.choice((b"", bytes(3 << 20), data[: len(data) // 2], mutate_bytes(rng, data)))
            member = zipfile.ZipInfo(name)
            if rng.random() < 0.1:
                member.external_attr, data = 0o120777 << 16, b"../decoy"  # a symbolic link
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target.writestr(member, data)
                if rng.random() < 0.1:
                    target.writestr(name, data)
    written = buffer.getvalue()
    if rng.random() < 0.2:
        at = written.rfind(b"PK\x01\x02")
        return written[:at] + mutate_bytes(rng, written[at:])
    return written


def mutate_npz(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.5:
        return mutate_zip(rng, content, other)
    buffer = io.BytesIO()
    arrays = {rng.choice(("a", "t", "x", "data", "arr_0")): strange_array(rng) for _ in range(rng.randrange(4))}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def mutate_mat(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.5:
        return mutate_bytes(rng, content, other)
    buffer = io.BytesIO()
    values: dict[str, Any] = {}
    for name in rng.sample(("a", "t", "x", "data", "_hidden", "a" * 31), rng.randrange(4)):
        array = np.asarray(strange_array(rng))
        values[name] = rng.choice(
            (array, {"a": array, "t": {"deep": array}}, np.array([array, "x"], dtype=object), [1, [2, 3]], "text")
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            savemat(buffer, values, do_compression=rng.random() < 0.5, oned_as=rng.choice(("row", "column")))
    except Exception:  # not every type can be stored
        return mutate_bytes(rng, content, other)
    return buffer.getvalue()


def mutate_wav(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.6:
        head = rng.random() < 0.7
        return mutate_bytes(rng, content[:60], other[:60]) + content[60:] if head else mutate_bytes(rng, content, other)
    buffer = io.BytesIO()
    values = np.zeros(
        rng.choice(((0,), (1,), (300,), (300, 2), (300, 70))), rng.choice(("u1", "<i2", "<i4", "<f4", "<f8"))
    )
    wavfile.write(buffer, rng.choice((0, 1, 50, 44100, 2**31 - 1)), values)
    return buffer.getvalue()


class Harm:
    """A call that a pickle asks for; it would make a folder where a run of the fuzzer notices it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def mutate_pickle(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.6:
        return mutate_bytes(rng, content, other)
    values: Any = rng.choice((
        Harm(os.mkdir, "harmed"), {"a": [Harm(os.system, "mkdir harmed")]}, np.array([Harm(os.mkdir, "harmed")], dtype=object),
        strange_value(rng), {"a": strange_array(rng)}, [[[]]] * 50, {1: {2: {3: {}}}}, Harm(bytearray, 1 << 40), Harm(eval, "open('harmed','w')"),
    ))  # fmt: skip
    return pickle.dumps(values, rng.randrange(6))


def mutate_gzip(rng: random.Random, content: bytes, other: bytes) -> bytes:
    packed = gzip.compress(rng.choice((content, content + bytes(5 << 20), b"", content[: len(content) // 2])), mtime=0)
    return (
        mutate_bytes(rng, packed, gzip.compress(other, mtime=0)) if rng.random() < 0.6 else packed * rng.choice((1, 2))
    )


def mutate_picture(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.6:
        return mutate_bytes(rng, content, other)
    buffer = io.BytesIO()
    mode = rng.choice(("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LA"))
    picture = Image.new(mode, rng.choice(((1, 1), (1, 900), (17, 16), (300, 2), (16, 16))))
    try:
        picture.save(buffer, rng.choice(("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO")))
    except (OSError, ValueError):  # not every format has every mode
        return mutate_bytes(rng, content, other)
    return buffer.getvalue()


def mutate_pth(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.4:
        return mutate_bytes(rng, content, other)
    buffer = io.BytesIO()
    weights: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    for name in rng.sample(sorted(weights), min(len(weights), rng.randrange(1, 4))):
        tensor = weights[name]
        weights[name] = rng.choice((
            tensor.double(), tensor.reshape(-1), tensor[:1], tensor * float("nan"), tensor.to(torch.int8), torch.zeros(0), tensor.to_sparse(), None, "x", {"a": tensor},
            torch.empty(10**9, device="meta"), tensor.expand(1000, *tensor.shape), Harm(os.mkdir, "harmed"), tensor.to(torch.complex64), tensor.t() if tensor.ndim == 2 else tensor,
        ))  # fmt: skip
        if rng.random() < 0.3:
            weights[rng.choice((f"module.{name}", f"{name}.x", rng.choice(WORDS), 3))] = weights.pop(name)  # type: ignore[index]
    wrapped: Any = rng.choice(
        (
            weights,
            {"model": weights},
            {"model": weights, "ema": weights},
            [weights],
            {"state_dict": weights, "epoch": 3},
        )
    )
    torch.save(wrapped, buffer)
    written = buffer.getvalue()
    return mutate_bytes(rng, written) if rng.random() < 0.2 else written


def mutate_safetensors(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """The header (length and JSON) or bytes anywhere are changed."""
    if rng.random() < 0.4:
        return mutate_bytes(rng, content, other)
    length = struct.unpack("<Q", content[:8])[0]
    header = mutate_json(rng, content[8 : 8 + length])
    stated = len(header) if rng.random() < 0.8 else rng.choice((0, 1, length, 2**31, 2**63, 100_000_000))
    return struct.pack("<Q", stated) + header + content[8 + length :]


def mutate_hdf5(rng: random.Random, content: bytes, other: bytes) -> bytes:
    if rng.random() < 0.45:
        return mutate_bytes(rng, content, other)
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        for _ in range(rng.choice((1, 1, 2, 4))):
            names: list[str] = []
            file.visit(names.append)
            _change_item(rng, file, rng.choice(names) if names else "x")
    written = buffer.getvalue()
    return mutate_bytes(rng, written) if rng.random() < 0.1 else written


def _change_item(rng: random.Random, file: Any, name: str) -> None:
    """Replace, remove, link or relabel one item of an HDF5 file."""
    operation = rng.randrange(10)
    try:
        item = file[name]
        if operation == 0:
            del file[name]
        elif operation in (1, 2) and isinstance(item, h5py.Dataset):
            attributes = dict(item.attrs)
            del file[name]
            _strange_dataset(rng, file, name).attrs.update(attributes)
        elif operation == 3:
            file.move(name, rng.choice((f"{name}x", f"deep/er/{name}", rng.choice(WORDS).replace("\x00", "") or "x")))
        elif operation == 4:
            del file[name]
            file[name] = rng.choice(
                (
                    h5py.SoftLink("/"),
                    h5py.SoftLink(f"/{name}"),
                    h5py.SoftLink("/nowhere"),
                    h5py.ExternalLink("../decoy/secret.h5", "/x"),
                )
            )
        elif operation == 5:
            file[f"{name}_again"] = item
        elif operation == 6 and isinstance(item, h5py.Group):
            item["loop"] = file["/"]
        elif operation == 7 and len(item.attrs):
            del item.attrs[rng.choice(list(item.attrs))]
        else:
            keys = [
                *item.attrs,
                "rate_hz",
                "start_s",
                "MATLAB_class",
                "missing_value",
                "scale_factor",
                "columns",
                "subject",
                "DIMENSION_LIST",
                "_FillValue",
                "units",
            ]
            item.attrs[rng.choice(keys)] = rng.choice((
                0.0, -1.0, np.nan, 1e308, np.inf, 2**62, "", "50", "text", b"\xff\xfe", np.zeros(0), np.arange(3), [b"a", b"b"], h5py.Empty("f4"), np.bool_(True), 1j, item.ref,
            ))  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError, RuntimeError):
        pass  # HDF5 does not allow every change of every item


def _strange_dataset(rng: random.Random, file: Any, name: str) -> Any:
    kind = rng.randrange(8)
    if kind == 0:  # declared huge, nothing stored
        return file.create_dataset(
            name, rng.choice(((2**40,), (2**31, 2**20), (10**6, 3), (2**62,))), rng.choice(("f4", "i1")), chunks=True
        )
    if kind == 1:  # zeros that compress to nothing
        return file.create_dataset(name, (1 << 22,), "u1", compression="gzip", chunks=(1 << 22,), fillvalue=0)
    if kind == 2:
        return file.create_dataset(name, (5,), h5py.vlen_dtype(np.dtype(rng.choice(("f4", "i2")))))
    if kind == 3:
        return file.create_dataset(name, data=np.array(["a", "é", ""], dtype=h5py.string_dtype()))
    if kind == 4:
        return file.create_dataset(name, data=np.zeros(rng.choice((0, 3, 300)), dtype=[("a", "f4"), ("b", "i2", (2,))]))
    if kind == 5:
        return file.create_dataset(name, data=h5py.Empty("f4"))
    if kind == 6:
        return file.create_dataset(
            name, (4,), rng.choice((h5py.ref_dtype, h5py.regionref_dtype, h5py.enum_dtype({"A": 0, "B": 1})))
        )
    array = strange_array(rng)
    return file.create_dataset(name, data=array if array.dtype.kind not in "UMm" else np.arange(300.0))


def mutate_wfdb_header(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return mutate_text(rng, content.decode("latin-1")).encode("latin-1", "replace")
