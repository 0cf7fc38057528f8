"""maekit: masked autoencoders on any signal that can be cut into patches."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout, adapters/, recipes/ and data_specs/ stand beside this package; installed, they lie inside it.
_checkout = Path(__file__).parent.parent
if (_checkout / "adapters" / "__init__.py").is_file():
    __path__.append(str(_checkout))
