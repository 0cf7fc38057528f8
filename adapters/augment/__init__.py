"""Augmentations, one physical idea a file; recipes list them under `augment`."""
