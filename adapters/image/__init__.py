"""RGB and grey images."""
