"""`python -m mnv1cli`."""

from mnv1cli.cli import main

main()
