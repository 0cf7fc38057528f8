"""From a recipe to an experiment: data, adapter, task, weights."""
