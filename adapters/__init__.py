"""What each modality brings; imported as `maekit.adapters`."""

if __name__ != "maekit.adapters":
    raise ImportError(f"imported as {__name__!r}: this folder is the package maekit.adapters, import it by that name")
