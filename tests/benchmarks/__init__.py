"""Speeds beside peers and limits, measured in the same run: `make benchmark`, or `PYTHONPATH=tests python -m benchmarks --help`."""
