"""Errors that a person can correct. Each message is one sentence that says what is wrong and what to do."""


class ExplainerError(Exception):
    """The base of all errors that are shown to a person as one sentence instead of a traceback."""


class ParameterError(ExplainerError, ValueError):
    """A parameter that a method or a metric does not take, or a value outside its range."""


class UnsupportedError(ExplainerError):
    """A method or a metric cannot work with this network or image; the message says what is missing."""
