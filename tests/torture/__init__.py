"""Kills every verb that writes, at random moments and at system calls, and fills its disk: `make torture`, or `PYTHONPATH=tests python -m torture --help`."""
