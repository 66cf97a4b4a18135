"""What is behind an error: requests wraps urllib3's, that wraps the socket's, and docker's SDK wraps them all."""


def cause_of(error: BaseException) -> BaseException:
    """The error at the bottom of a chain of errors: the one that no other has caused."""
    chained = error.__cause__ if error.__suppress_context__ else error.__context__
    inner = getattr(error, "reason", None) or chained
    inner = next((part for part in error.args if isinstance(part, BaseException)), inner)
    return cause_of(inner) if isinstance(inner, BaseException) and inner is not error else error


def reason(error: BaseException) -> str:
    """An error's cause in a few words, for people."""
    cause = cause_of(error)
    return str(getattr(cause, "strerror", None) or cause)[:200] or type(cause).__name__
