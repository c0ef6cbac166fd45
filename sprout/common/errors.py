"""Errors meant for people: what was wrong, what was expected, what to do next."""


class UserError(Exception):
    """Something the user gave can't work. The command line prints the message and exits with status 2."""


class Interrupted(Exception):
    """The user pressed Ctrl-C; everything is saved. The command line says how to go on and exits with status 130."""


class Lost(Exception):
    """Another of the processes that grow together is gone. The command line says how to go on and exits with status 75
    (EX_TEMPFAIL: the same command may well work)."""
