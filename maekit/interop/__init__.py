"""Weights of other people's code, both ways: names and shapes translated, nothing computed."""
