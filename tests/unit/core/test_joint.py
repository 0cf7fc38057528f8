"""Several signals under one encoder: masked together, contrasted, any of them missing, and carried on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blobs import DETECTION, PICTURE, write
from torch import Tensor

from maekit.build.weights import read_weights
from maekit.core.autoencoder import Encoder, MaskedAutoencoder
from maekit.core.joint import PRIMARY, JointAutoencoder, JointEncoder, SignalBatch
from maekit.core.masking import RandomMasking
from maekit.core.patchify import GridPatchifier
from maekit.core.targets.derivative import DerivativeTarget
from maekit.core.targets.pixels import PatchNormTarget
from maekit.core.transformer import TransformerConfig
from maekit.errors import UserError
from maekit.runs.evaluate import evaluate
from maekit.runs.reconstruct import reconstruct
from maekit.runs.report import report
from maekit.runs.train import finetune, pretrain
from maekit.tasks.momentum import MomentumContrast, partner_rank

SIZE = TransformerConfig(24, 2, 3)
MAPS, PICTURES = GridPatchifier((1, 8, 8), (4, 4)), GridPatchifier((3, 4, 8), (4, 4))


def encoder() -> JointEncoder:
    torch.manual_seed(0)
    return JointEncoder(MAPS, SIZE, auxiliary={"picture": PICTURES})


def model() -> JointAutoencoder:
    one = encoder()
    return JointAutoencoder(
        MAPS, encoder=one, decoder=TransformerConfig(16, 1, 2), masking=RandomMasking(MAPS), mask_ratio=0.5
    )


def batch(seed: int = 0, valid: Tensor | None = None) -> dict[str, SignalBatch]:
    drawn = torch.Generator().manual_seed(seed)
    maps, pictures = torch.randn(3, 1, 8, 8, generator=drawn), torch.randn(3, 3, 4, 8, generator=drawn)
    noise = torch.rand(3, 4, generator=drawn), torch.rand(3, 2, generator=drawn)
    return {PRIMARY: SignalBatch(maps, None, noise[0]), "picture": SignalBatch(pictures, valid, noise[1])}


def test_alone_it_is_the_encoder_and_the_autoencoder_of_one_signal() -> None:
    joint, signals = model().eval(), batch()
    alone = Encoder(MAPS, SIZE)
    alone.load_state_dict({k: v for k, v in joint.encoder.state_dict().items() if not k.startswith("auxiliary.")})
    torch.testing.assert_close(joint.encoder(signals[PRIMARY].x), alone.eval()(signals[PRIMARY].x))
    plain = MaskedAutoencoder(
        MAPS, encoder=alone, decoder=TransformerConfig(16, 1, 2), masking=RandomMasking(MAPS), mask_ratio=0.5
    )
    plain.decoder.load_state_dict(joint.decoder.state_dict())
    torch.testing.assert_close(
        joint(signals[PRIMARY].x, noise=signals[PRIMARY].noise),
        plain.eval()(signals[PRIMARY].x, noise=signals[PRIMARY].noise),
    )


def test_each_signal_sees_the_other_and_nothing_of_what_was_removed() -> None:
    joint, signals = model().eval(), batch()
    before = joint.forward_signals(signals)
    assert {name: tuple(out.pred.shape) for name, out in before.items()} == {PRIMARY: (3, 4, 16), "picture": (3, 2, 48)}
    removed = PICTURES.unpatchify(before["picture"].mask[..., None].expand(-1, -1, 48).float()).bool()
    hidden = signals | {"picture": signals["picture"]._replace(x=torch.where(removed, 9.0, signals["picture"].x))}
    torch.testing.assert_close(joint.forward_signals(hidden)[PRIMARY].pred, before[PRIMARY].pred)
    torch.testing.assert_close(joint.forward_signals(hidden)["picture"].pred, before["picture"].pred)
    shown = signals | {"picture": signals["picture"]._replace(x=torch.where(removed, signals["picture"].x, 9.0))}
    assert not torch.allclose(joint.forward_signals(shown)[PRIMARY].pred, before[PRIMARY].pred)


def test_a_missing_signal_changes_nothing_and_is_not_in_the_loss() -> None:
    valid = torch.ones(3, 2, dtype=torch.bool)
    valid[1] = False
    joint, signals = model().eval(), batch(valid=valid)
    found = joint.forward_signals(signals)
    other = signals["picture"].x.clone()
    other[1] = torch.nan
    again = joint.forward_signals(signals | {"picture": signals["picture"]._replace(x=other)})
    for name in found:
        torch.testing.assert_close(again[name].loss, found[name].loss)
    torch.testing.assert_close(again[PRIMARY].pred, found[PRIMARY].pred)
    alone = joint.forward_signals({PRIMARY: SignalBatch(signals[PRIMARY].x, None, signals[PRIMARY].noise)})
    torch.testing.assert_close(found[PRIMARY].pred[1], alone[PRIMARY].pred[1])
    assert not torch.allclose(found[PRIMARY].pred[0], alone[PRIMARY].pred[0])


def test_missing_values_of_an_auxiliary_signal_do_not_go_through_the_target_of_the_own_one() -> None:
    valid = torch.ones(3, 2, dtype=torch.bool)
    valid[1] = False
    joint = JointAutoencoder(
        MAPS,
        encoder=encoder(),
        decoder=TransformerConfig(16, 1, 2),
        masking=RandomMasking(MAPS),
        mask_ratio=0.5,
        target=DerivativeTarget(MAPS, axis="axis0"),
    )
    out = joint.forward_signals(batch(valid=valid))
    picture = out["picture"]
    errors = (picture.pred - PatchNormTarget(PICTURES)(PICTURES.patchify(batch()["picture"].x))).square().mean(-1)
    torch.testing.assert_close(picture.loss, errors[picture.mask].mean())
    assert not picture.mask[1].any()


def contrast(**options: float) -> MomentumContrast:
    torch.manual_seed(1)
    given = {"dim": 8, "queue": 6, "momentum": 0.9, "temperature": 0.1, "near": 0} | options
    return MomentumContrast(encoder(), "picture", **given)  # type: ignore[arg-type]


def test_the_queue_is_filled_in_turn_and_the_momentum_encoder_follows() -> None:
    one, fast = contrast(), encoder()
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.add_(1)
    before = one.slow.patch_embed.proj.weight.clone()
    one(fast, batch(), torch.tensor([3, 4, 5]))
    assert one.indices.tolist() == [3, 4, 5, -1, -1, -1]
    torch.testing.assert_close(one.slow.patch_embed.proj.weight, before + 0.1)
    one(fast, batch(1), torch.tensor([6, 7, 8]))
    one(fast, batch(2), torch.tensor([9, 10, 11]))
    assert one.indices.tolist() == [9, 10, 11, 6, 7, 8]
    torch.testing.assert_close(one.keys.norm(dim=-1), torch.ones(2, 6))
    frozen = one.eval()
    frozen(fast, batch(3), torch.tensor([1, 2, 3]))
    assert one.indices.tolist() == [9, 10, 11, 6, 7, 8]


def test_the_loss_by_hand_and_without_what_is_near() -> None:
    """Of one sample: cross entropy of its similarity to its partner against those to the queue, in both directions."""
    fast = encoder()
    one = contrast(near=1).eval()
    signals = {name: SignalBatch(signal.x[:1]) for name, signal in batch().items()}
    one.indices[:3] = torch.tensor([7, 20, 25])
    said = one.embeddings(fast, signals)
    slow = [head(x) for head, x in zip(one.slow_heads, one._pooled(one.slow, signals), strict=True)]
    keys = [torch.nn.functional.normalize(key, dim=-1)[0] for key in slow]
    wanted = []
    for query, key, queue in ((said["query"][0], keys[1], one.keys[1]), (said["key"][0], keys[0], one.keys[0])):
        logits = torch.stack([query @ key, query @ queue[0], query @ queue[2]]) / 0.1  # index 20 is next to 21
        wanted.append(-logits.log_softmax(0)[0])
    torch.testing.assert_close(one(fast, signals, torch.tensor([21]))[0], torch.stack(wanted).mean())


def test_where_the_partner_stands() -> None:
    eye = torch.eye(4)
    assert partner_rank(eye, eye, 1.0)["partner_rank"] == 0
    assert partner_rank(eye, eye.roll(1, 0), 1.0)["partner_first"] == 0


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("blobs"), frames=32, without_picture=(1,))


JOINT = [f"auxiliary.picture={PICTURE}"]


def losses(folder: Path) -> list[float]:
    from maekit.training.run import Run

    return [row["loss"] for row in Run(folder).rows() if row["kind"] == "train"]


@pytest.mark.parametrize(
    "task",
    [
        "{name: joint}",
        "{name: joint, masked: 0, contrast: 1, queue: 64, momentum: 0.95}",
        "{name: joint, contrast: 0.5, queue: 64}",
    ],
)
def test_pretraining_learns_resumes_and_is_carried_to_detection(recipe: Path, tmp_path: Path, task: str) -> None:
    given = [*JOINT, f"task={task}", "name=joint"]
    whole = pretrain(
        recipe, overrides=[*given, f"schedule.epochs={40 if 'masked: 0' in task else 16}"], runs=tmp_path / "whole"
    )
    if "masked: 0" in task:  # the queue fills first, so losses rise
        assert evaluate(whole.folder, side="train")["partner_rank"] < 0.3
        assert whole.metrics["loss"] == whole.metrics["loss_contrast"]
    else:
        said = losses(whole.folder)
        assert sum(said[-4:]) < sum(said[:4])
    pretrain(recipe, overrides=[*given, "training.save_every_steps=1", "schedule.epochs=4"], runs=tmp_path / "parts")

    class StopError(Exception):
        pass

    def stop(progress: object) -> None:
        if progress.step == 3:  # type: ignore[attr-defined]
            raise StopError

    with pytest.raises(StopError):
        pretrain(
            recipe,
            overrides=[*given, "training.save_every_steps=1", "schedule.epochs=4"],
            runs=tmp_path / "again",
            watch=stop,
        )
    resumed = pretrain(
        recipe, overrides=[*given, "training.save_every_steps=1", "schedule.epochs=4"], runs=tmp_path / "again"
    )
    assert losses(resumed.folder) == losses(tmp_path / "parts/joint")

    alone = finetune(recipe, whole.folder, overrides=[DETECTION, "name=alone"], runs=tmp_path)
    both = finetune(recipe, whole.folder, overrides=[DETECTION, *JOINT, "name=both"], runs=tmp_path)
    for folder in (alone.folder, both.folder):
        assert "ap" in evaluate(folder)
    assert not any("auxiliary" in name for name in read_weights(alone.folder))
    assert any("auxiliary.picture" in name for name in read_weights(both.folder))


def test_contrast_alone_has_a_report_and_nothing_to_draw(recipe: Path, tmp_path: Path) -> None:
    more = [*JOINT, "task={name: joint, masked: 0, contrast: 1}", "schedule.epochs=1"]
    run = pretrain(recipe, overrides=more, runs=tmp_path).folder
    page = report(run).read_text()
    assert "nothing was masked and predicted in this run" in page
    assert "(chance: 50%)" in page
    with pytest.raises(UserError, match="nothing was masked and predicted"):
        reconstruct(run, tmp_path / "drawn")


def test_a_signal_that_pretraining_has_not_seen_starts_anew(recipe: Path, tmp_path: Path) -> None:
    plain = pretrain(recipe, overrides=["name=plain"], runs=tmp_path)
    both = finetune(recipe, plain.folder, overrides=[DETECTION, *JOINT, "name=both"], runs=tmp_path)
    front = read_weights(both.folder)
    assert front["fronts.picture.std"].item() != 1


def test_what_does_not_go_with_signals_beside_is_refused(recipe: Path, tmp_path: Path) -> None:
    for overrides, told in (
        ([f"auxiliary.pictur={PICTURE}"], "no such auxiliary signal"),
        ([*JOINT, "model.backbone=cnn"], "one signal alone"),
        ([*JOINT, "task={name: joint, contrast: 1, key: sound}"], "picture"),
        ([*JOINT, "task={name: joint, masked: 0}"], "one above"),
        (["task={name: joint}"], "auxiliary"),
        ([*JOINT, "task={name: joint, contrast: 1}", "training.parallel=fsdp2"], "whole weights"),
    ):
        with pytest.raises(UserError, match=told):
            pretrain(recipe, overrides=[*overrides, "name=wrong"], runs=tmp_path)


def test_an_inherited_signal_is_taken_away_by_null(recipe: Path, tmp_path: Path) -> None:
    from maekit.config.load import load_recipe

    parent = tmp_path / "parent.yaml"
    parent.write_text(recipe.read_text() + f"auxiliary: {{picture: {PICTURE}}}\n")
    child = tmp_path / "child.yaml"
    child.write_text("extends: parent.yaml\nname: child\nauxiliary: {picture: null}\n")
    assert set(load_recipe(parent).recipe.auxiliary) == {"picture"}
    assert load_recipe(child).recipe.auxiliary == {}
    written = tmp_path / "written.yaml"
    written.write_text(load_recipe(parent).yaml())
    assert load_recipe(written).recipe == load_recipe(parent).recipe
    swept = load_recipe(parent, ["auxiliary.picture.patch=4"])
    assert swept.recipe.auxiliary["picture"].options["patch"] == 4


def test_a_recording_without_the_signal_gives_nothing_valid(recipe: Path) -> None:
    from maekit.build.experiment import build_experiment
    from maekit.config.load import load_recipe
    from maekit.data.loading import collate
    from maekit.data.sampler import Key
    from maekit.tasks.signals import sampled, standardised

    experiment = build_experiment(load_recipe(recipe, JOINT))
    samples = experiment.some_samples("train")
    with_it, without = (
        next(i for i, index in enumerate(samples.indices) if experiment.source.groups[index] == drive)
        for drive in ("drive0", "drive1")
    )
    batch = collate([samples[Key(0, with_it)], samples[Key(0, without)]])
    assert batch["picture.valid"].flatten(1).all(1).tolist() == [True, False]
    fronts = torch.nn.ModuleDict({name: experiment.make_front(name) for name in experiment.auxiliary})
    signals = sampled(standardised(batch, experiment.make_front(), fronts), fronts)
    valid = signals["picture"].valid
    assert valid is not None
    assert valid.any(1).tolist() == [True, False]
    assert (signals["picture"].x[1] == 0).all()
    assert signals[PRIMARY].valid is None


def test_a_run_is_not_continued_with_another_signal_beside(recipe: Path, tmp_path: Path) -> None:
    given = ["task={name: joint}", "name=tied", "schedule.epochs=1", "schedule.warmup_epochs=0"]
    pretrain(recipe, overrides=[*JOINT, *given], runs=tmp_path)
    with pytest.raises(UserError, match="differ in auxiliary"):
        pretrain(recipe, overrides=[*JOINT, *given, "auxiliary.picture.crop_ratio=0.9"], runs=tmp_path)
