"""The exception for bad input, which the command line prints without a traceback."""


class InputError(Exception):
    """Bad input: one line that names the file, key or value, and how to fix it. Exit status 1."""
