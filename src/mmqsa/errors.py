"""The one exception for input that a user can mend."""


class InputError(Exception):
    """Bad input: the message is one line that names the file, key or value, and the mend.

    The command line prints the message without a traceback and exits with 1.
    """
