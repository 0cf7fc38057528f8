"""The cost of a run before it starts: dry run, benchmark, and estimates of time and memory."""
