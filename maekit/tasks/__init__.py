"""Objectives: a module that turns a batch into a loss and metrics."""
