"""The training loop and what it needs: steps, optimizer, checkpoints, processes and run folders."""
