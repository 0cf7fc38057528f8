"""Targets: what the decoder predicts for each removed patch."""
