"""What is done with a finished run: report, reconstructions, comparison with a reference."""
