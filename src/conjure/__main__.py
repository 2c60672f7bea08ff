"""Run the command line with `python -m conjure`."""

from conjure.cli import main

main()
