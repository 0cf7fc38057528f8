"""Weights whose names share a prefix, which trainers put before the names of a network (`model.`, `backbone.`, `module.`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from maekit.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from maekit.interop.official import Weights

_CLASS_TOKEN = "cls_token"
_FIRST_BLOCK = "blocks.0."
_EMBEDDING = "patch_embed.proj.weight"
"""A convolution of four axes; in maekit's own weights, a matrix."""
_EMBEDDINGS = "embeddings.patch_embeddings."
_WHOLE_MODEL = "vit."


class Network(NamedTuple):
    """One network of a checkpoint.

    Attributes:
        weights: its weights, without the prefix.
        prefix: what stood before each of their names, with its last dot; empty for none.
        outside: names of weights that do not have the prefix, such as those of a projector.
    """

    weights: Weights
    prefix: str
    outside: list[str]


def select_network(tensors: Weights, file: Path) -> Network:
    """The vision transformer of a checkpoint, recognised by the names of its parts below any prefix.

    Args:
        tensors: of the whole checkpoint. Without a transformer in it, they are returned as they are.
        file: shown in error messages.

    Raises:
        UserError: there are several, such as a student and a teacher.
    """
    prefixes = _prefixes(tensors)
    if not prefixes or "" in prefixes:
        return Network(tensors, "", [])
    if len(prefixes) > 1:
        keys = [prefix.removesuffix(".") for prefix in prefixes]
        raise UserError(
            "several networks",
            location=str(file),
            value=", ".join(keys),
            expected="one",
            hint=f"Choose one, such as `--key {keys[0]}`.",
        )
    return below(tensors, prefixes[0])


def below(tensors: Weights, prefix: str) -> Network:
    """The weights whose names begin with a prefix."""
    inside = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return Network(inside, prefix, [name for name in tensors if not name.startswith(prefix)])


def _prefixes(tensors: Weights) -> list[str]:
    """What stands before the names of each transformer, in the order of the file."""
    prefixes: dict[str, None] = {}
    for name in tensors:
        prefix = None
        if name.endswith(_CLASS_TOKEN):
            prefix = name.removesuffix(_CLASS_TOKEN)
            own = (embedding := tensors.get(prefix + _EMBEDDING)) is not None and embedding.ndim == 2
            blocks = any(other.startswith(prefix + _FIRST_BLOCK) for other in tensors)
            prefix = prefix if blocks and not own else None
        elif _EMBEDDINGS in name:
            prefix = name.partition(_EMBEDDINGS)[0]
            prefix = prefix.removesuffix(_WHOLE_MODEL) if f".{prefix}".endswith(f".{_WHOLE_MODEL}") else prefix
        if prefix is not None and (not prefix or prefix.endswith(".")):
            prefixes[prefix] = None
    return list(prefixes)
