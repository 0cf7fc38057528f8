"""From a recipe and its data to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maekit import plugins
from maekit.build.memory import check_transformer
from maekit.build.tokenizers import make_tokenizer
from maekit.config.options import construct
from maekit.config.schema import Choice, Size
from maekit.core.autoencoder import Encoder, MaskedAutoencoder
from maekit.core.joint import PRIMARY, JointAutoencoder, JointEncoder
from maekit.core.targets.tokens import TokenTarget
from maekit.core.transformer import PRESETS, TransformerConfig
from maekit.errors import UserError

if TYPE_CHECKING:
    from maekit.build.experiment import Experiment
    from maekit.config.schema import Preset
    from maekit.core.encoders.base import Backbone
    from maekit.core.targets.base import Target


def make_autoencoder(experiment: Experiment) -> MaskedAutoencoder:
    """The masked autoencoder of a recipe, with new weights.

    Raises:
        UserError: masking, target or sizes that do not fit the data.
    """
    loaded, model, patchifier = experiment.loaded, experiment.recipe.model, experiment.adapter.patchifier
    masking = construct(
        plugins.find("maskings", model.masking.name, location=loaded.locate("model", "masking", "name")),
        model.masking,
        loaded,
        ("model", "masking"),
        patchifier,
    )
    decoder = size(model.decoder)
    check_transformer(decoder, loaded.locate("model", "decoder"))
    target, encoder = make_target(experiment), make_encoder(experiment, mask_token=model.encoder_mask_tokens)
    try:
        kind: type[MaskedAutoencoder] = JointAutoencoder if isinstance(encoder, JointEncoder) else MaskedAutoencoder
        return kind(
            patchifier,
            encoder=encoder,
            decoder=decoder,
            masking=masking,
            mask_ratio=model.mask_ratio,
            target=target,
            encoder_mask_tokens=model.encoder_mask_tokens,
            loss_on=model.loss_on,
            decoder_attention=model.decoder_attention,
            cross_mask_ratio=model.cross_mask_ratio,
        )
    except ValueError as error:  # the message begins with the option
        raise UserError(str(error), location=loaded.locate("model", str(error).split()[0].rstrip(":"))) from error


def make_encoder(experiment: Experiment, *, mask_token: bool = False) -> Backbone:
    """The encoder of a recipe, with new weights.

    Args:
        experiment: data and adapter of the recipe.
        mask_token: give the encoder a mask token of its own, for pretraining in which it sees masked patches.

    Raises:
        UserError: options that do not fit it, or patches that it cannot take.
    """
    loaded, model = experiment.loaded, experiment.recipe.model
    kind = plugins.find("encoders", model.backbone.name, location=loaded.locate("model", "backbone", "name"))
    arguments: dict[str, Any] = {}
    if experiment.auxiliary and kind is not Encoder:
        raise UserError(
            "an encoder of one signal alone",
            location=loaded.locate("model", "backbone"),
            value=model.backbone.name,
            expected="transformer, where there are signals `auxiliary`",
        )
    if experiment.auxiliary:
        kind = JointEncoder
        arguments["auxiliary"] = {name: adapter.patchifier for name, adapter in experiment.auxiliary.items()}
    if issubclass(kind, Encoder):
        arguments["config"] = size(model.encoder, model.drop_path)
        check_transformer(arguments["config"], loaded.locate("model", "encoder"))
    if issubclass(kind, Encoder) and not experiment.auxiliary:
        arguments["mask_token"] = mask_token
    encoder: Backbone = construct(
        kind, model.backbone, loaded, ("model", "backbone"), experiment.adapter.patchifier, **arguments
    )
    return encoder


def make_target(experiment: Experiment) -> Target:
    """The target of a recipe, with the tokenizer where it has one; it has learned nothing from data yet.

    Raises:
        UserError: options, or a tokenizer, that do not fit.
    """
    loaded, keys = experiment.loaded, ("model", "target")
    choice, patchifier = experiment.recipe.model.target, experiment.adapter.patchifier
    kind = plugins.find("targets", choice.name, location=loaded.locate(*keys, "name"))
    if not issubclass(kind, TokenTarget):
        return construct(kind, choice, loaded, keys, patchifier)
    options = {name: value for name, value in choice.options.items() if name != "tokenizer"}
    tokenizer = make_tokenizer(loaded, experiment.adapter, experiment.statistics.get(PRIMARY))
    return construct(kind, Choice(name=choice.name, **options), loaded, keys, patchifier, tokenizer=tokenizer)


def size(given: Preset | Size, drop_path: float = 0.0) -> TransformerConfig:
    """A transformer's size from a preset's name or from numbers."""
    if isinstance(given, Size):
        return TransformerConfig(given.width, given.depth, given.heads, given.mlp_ratio, given.drop_path or drop_path)
    preset = PRESETS[given]
    return TransformerConfig(preset.width, preset.depth, preset.heads, preset.mlp_ratio, drop_path)
