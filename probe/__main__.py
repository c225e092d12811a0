"""`python -m probe` is the `probe` command."""

from probe.command.cli import main

main()
