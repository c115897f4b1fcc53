"""The errors that a person can mend. Each message is one sentence that says what to do."""


class ExplainerError(Exception):
    """Something a person can mend; the message is one sentence that says how."""


class ParameterError(ExplainerError, ValueError):
    """A parameter that a method or a metric does not take, or a value outside its range."""


class UnsupportedError(ExplainerError):
    """A method or a metric cannot work with this network or image; the message says what is missing."""
