"""Kills every verb that writes, at random moments and at system calls: `make torture`, or `PYTHONPATH=tests python -m torture --help`."""
