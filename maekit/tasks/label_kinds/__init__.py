"""Kinds of labels: everything that depends on what labels are and not on the network that predicts them."""
