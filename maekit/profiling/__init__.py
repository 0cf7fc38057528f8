"""What a run costs: dry run, benchmark, and estimates of time and memory."""
