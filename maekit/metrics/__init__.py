"""Numbers that say how good predictions are, and the geometry that they are taken in."""
