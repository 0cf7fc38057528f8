"""maekit: masked autoencoders on any signal that can be cut into patches."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maekit.api import Predictor as Predictor
    from maekit.api import embed as embed
    from maekit.api import evaluate as evaluate
    from maekit.api import finetune as finetune
    from maekit.api import predict as predict
    from maekit.api import predict_many as predict_many
    from maekit.api import pretrain as pretrain
    from maekit.api import reconstruct as reconstruct
    from maekit.api import study as study
    from maekit.api import sweep as sweep

__version__ = "0.1.0"
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

# In a checkout, adapters/, recipes/ and data_specs/ stand beside this package; installed, they lie inside it.
_checkout = Path(__file__).parent.parent
if (_checkout / "adapters" / "__init__.py").is_file():
    __path__.append(str(_checkout))


def __getattr__(name: str) -> Any:
    """Import a public function on first use, so that `import maekit` loads neither torch nor numpy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("maekit.api"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
