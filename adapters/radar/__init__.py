"""Radar: from raw samples to maps, and objects on maps."""
