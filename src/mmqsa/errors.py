"""The exceptions that the command line prints as one line, without a traceback."""


class InputError(Exception):
    """Bad input: one line that names the file, key or value, and how to fix it.

    >>> from mmqsa.features import FeatureCache
    >>> try:
    ...     FeatureCache("photographs.h5")
    ... except InputError as error:
    ...     print(error)
    photographs.h5: no such feature cache; run `mmqsa extract`
    """

    exit_code = 2  # as of a wrong option


class MachineError(InputError):
    """A fault of the machine, such as a full disk, with what to do about it."""

    exit_code = 74  # EX_IOERR of BSD's sysexits.h
