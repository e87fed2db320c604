"""The one error that a user can cause, the one that none should, and the exit statuses."""

STATUS_FAILED, STATUS_INPUT, STATUS_INTERRUPTED = 1, 2, 130


class InputError(ValueError):
    """Bad input from outside (configuration, file, data): one line that says what, where, and what would be right.

    The command line prints the line and exits with status 2.
    """


class FaultError(RuntimeError):
    """A fault of this program that no input explains, in one line; the command line exits with status 1."""
