"""Studies: methods x seeds x folds, from jobs to scores to a page."""
