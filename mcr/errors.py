"""The one error that a user can cause."""


class InputError(ValueError):
    """Bad input from outside (configuration, file, data): one line that says what, where, and what would be right.

    The command line prints the line and exits with status 2.
    """
