"""Tokens that nobody measured: left out of the blocks, with the results of before, in memory that grows with the tokens."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from maekit.core import (
    BlockMasking,
    Encoder,
    GridPatchifier,
    MaskedAutoencoder,
    RandomMasking,
    SpanMasking,
    TransformerConfig,
)
from maekit.core.row_groups import row_groups, update_selected
from maekit.core.transformer import TransformerBlocks
from maekit.profiling.memory_estimate import LiveBytes
from maekit.tasks.classification import Classification

SIZE = TransformerConfig(16, 2, 2)
LINE = GridPatchifier((1, 480), (4,), ("time",))
LENGTHS = torch.tensor([24, 120, 36, 60, 48, 100, 30, 24])
RAGGED = torch.arange(120) < LENGTHS[:, None]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_groups_hold_every_selected_token_once(counts: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(counts), 200, generator=generator).argsort(1)
    selected = order < torch.tensor(counts)[:, None]
    groups = row_groups(selected)
    taken = torch.cat(
        [(group.where if group.selected is None else group.where[group.selected]).flatten() for group in groups]
    )
    assert taken.sort().values.tolist() == selected.flatten().nonzero()[:, 0].tolist()
    rows = torch.cat([group.where[:, 0] // 200 for group in groups])
    assert rows.sort().values.tolist() == list(range(len(counts)))
    assert all((group.where // 200 == group.where[:, :1] // 200).all() for group in groups)


def model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "fine-tuning":
        return Classification(nn.Identity(), Encoder(LINE, SIZE), classes=("a", "b"))
    options: dict[str, Any] = {"decoder_attention": "cross"} if kind == "cross" else {}
    return MaskedAutoencoder(
        LINE, encoder=SIZE, decoder=TransformerConfig(16, 1, 2), masking=RandomMasking(LINE), mask_ratio=0.5, **options
    )


def result(found: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    if isinstance(found, Classification):
        return found.features(x, valid).square().mean()
    noise = torch.rand(valid.shape, generator=torch.Generator().manual_seed(1))
    loss: Tensor = found(x, valid=valid, noise=noise).loss
    return loss


@pytest.mark.parametrize("kind", ["fine-tuning", "self", "cross"])
def test_losses_and_gradients_are_those_of_before(kind: str) -> None:
    """With junk in the unmeasured places, gaps inside of rows, and rows of many lengths."""
    found, x = model(kind), torch.randn(8, 1, 480)
    valid = RAGGED.clone()
    valid[1, 10:20] = False
    junk = LINE.unpatchify(torch.where(valid[..., None], LINE.patchify(x), torch.nan))
    outcomes = []
    for update_all, signal in ((True, x), (False, x), (False, junk)):
        for module in found.modules():
            if isinstance(module, TransformerBlocks):
                module.update_all = update_all
        found.zero_grad()
        loss = result(found, signal, valid)
        loss.backward()  # type: ignore[no-untyped-call]
        outcomes.append([loss, *(p.grad for p in found.parameters() if p.grad is not None)])
    assert len(row_groups(valid)) > 1
    for outcome in outcomes[1:]:
        torch.testing.assert_close(outcome, outcomes[0], atol=1e-5, rtol=1e-4)


def flops(kind: str, valid: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        result(model(kind), torch.randn(len(valid), 1, 480), valid).backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops()


@pytest.mark.parametrize(("kind", "half", "ragged"), [("fine-tuning", 0.45, 0.65), ("self", 0.45, 0.65)])
def test_unmeasured_tokens_cost_nothing(kind: str, half: float, ragged: float) -> None:
    """A batch of half as many tokens costs less than half; one whose rows have 20 to 100 % of them (46 % together) not much more."""
    whole = flops(kind, torch.ones_like(RAGGED))
    assert flops(kind, (torch.arange(120) < 60).expand(8, -1)) < half * whole
    assert flops(kind, RAGGED) < ragged * whole


def test_a_head_of_every_patch_still_has_the_tokens_of_unmeasured_ones() -> None:
    """They attend to what was measured, as mask tokens do."""
    encoder = Encoder(LINE, SIZE).eval()
    encoder.blocks.update_all = True
    x = torch.randn(2, 8, 1, 480)
    with torch.no_grad():
        one, other = (encoder(signal, RAGGED)[:, 1:][~RAGGED] for signal in x)
    assert not torch.isclose(one, other).all(-1).any()


def test_a_device_is_not_waited_for() -> None:
    """A mask whose values cannot be read leaves nothing out."""
    tokens, selected = torch.empty(8, 120, 4, device="meta"), RAGGED.to("meta")
    assert update_selected(tokens, selected, lambda x, mask: x[:, : len(mask[0])]).shape == tokens.shape  # type: ignore[index]


def peak_bytes(
    patches: int, decoder: Literal["self", "cross"], masking: type, *, masked: bool, update_all: bool
) -> int:
    line = GridPatchifier((1, 4 * patches), (4,), ("time",))
    live = LiveBytes()
    with live:
        found = MaskedAutoencoder(
            line, encoder=SIZE, decoder=TransformerConfig(8, 1, 2), masking=masking(line), decoder_attention=decoder
        )
        for part in (found.encoder, found.decoder):
            part.blocks.update_all = update_all
        valid = (torch.arange(patches) < torch.tensor([[patches], [patches // 3]])) if masked else None
        x, noise = torch.randn(2, 1, 4 * patches), torch.rand(2, patches)
        (found(x, valid=valid, noise=noise).loss + found.encoder(x, valid).mean()).backward()
    return live.peak


@pytest.mark.parametrize(
    ("decoder", "masking", "masked", "update_all"),
    [("self", RandomMasking, True, False), ("self", BlockMasking, True, True), ("cross", SpanMasking, False, False)],
)
def test_memory_grows_linearly(
    decoder: Literal["self", "cross"], masking: type, masked: bool, update_all: bool
) -> None:
    """Of a step; the kernels are real, so that one which computes all products of attention would show."""
    small, large = (
        peak_bytes(patches, decoder, masking, masked=masked, update_all=update_all) for patches in (400, 1600)
    )
    assert large < 4.2 * small
