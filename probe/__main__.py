"""`python -m probe` is the `probe` command."""

from probe.core.own_modules import leave_working_folder

leave_working_folder()  # ahead of the imports that it could answer

from probe.command.cli import main  # noqa: E402

main()
