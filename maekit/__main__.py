"""`python -m maekit`, which is also what `torchrun -m maekit` starts."""

from maekit.cli.main import main

main()
