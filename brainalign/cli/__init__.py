"""The command line: a thin face of the public functions."""
