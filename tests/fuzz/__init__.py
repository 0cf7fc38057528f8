"""Mutated inputs for every verb that reads files: `make fuzz`, or `PYTHONPATH=tests python -m fuzz --help`."""
