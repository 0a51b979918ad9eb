"""The command line: `python -m studio`."""
