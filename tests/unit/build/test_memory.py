"""Models and batches that no memory of the machine holds are refused before they are allocated."""

from __future__ import annotations

from pathlib import Path

import pytest

from maekit.core.transformer import TransformerConfig, build_blocks
from maekit.errors import UserError
from maekit.runs.train import pretrain


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "model.encoder={width: 65536, depth: 64, heads: 8}",
            r"model\.encoder.*larger than the memory.*12,288\.0 GiB of weights",
        ),
        ("model.decoder={width: 65536, depth: 64, heads: 8}", r"model\.decoder.*larger than the memory"),
        ("training.batch_size=1000000000", r"batch_size.*1,000,000,000 samples.*training\.micro_batch"),
    ],
)
def test_what_no_memory_holds_is_refused(setting: str, message: str, tiny: Path, tmp_path: Path) -> None:
    overrides = [setting, "schedule.samples_per_epoch=1000000000"]
    with pytest.raises(UserError, match=message):
        pretrain(tiny, runs=tmp_path, overrides=overrides)


def test_what_cannot_be_trained_here_is_refused(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maekit.build.memory.physical_memory", lambda: 2**16)
    with pytest.raises(UserError, match="cannot be trained in the memory"):
        pretrain(
            tiny,
            runs=tmp_path,
            overrides=[
                "model.encoder={width: 16, depth: 1, heads: 1}",
                "model.decoder={width: 16, depth: 1, heads: 1}",
            ],
        )


def test_parameters_of_a_transformer() -> None:
    config = TransformerConfig(64, 3, 4, mlp_ratio=2.0)
    counted = sum(p.numel() for p in build_blocks(config).parameters() if p.ndim == 2)
    assert config.parameters == counted
