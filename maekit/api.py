"""The public functions. The command line calls these and prints what they return."""

from maekit.inference.predict import predict, predict_many
from maekit.inference.predictor import Predictor
from maekit.runs.embed import embed
from maekit.runs.evaluate import evaluate
from maekit.runs.reconstruct import reconstruct
from maekit.runs.train import finetune, pretrain
from maekit.studies.study import study, sweep

__all__ = [
    "Predictor",
    "embed",
    "evaluate",
    "finetune",
    "predict",
    "predict_many",
    "pretrain",
    "reconstruct",
    "study",
    "sweep",
]
