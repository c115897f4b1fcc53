"""What a picture file that cannot be used is refused with."""

from __future__ import annotations

import pytest

from explainers.pictures import PictureError, read_picture


def refusal(data: bytes) -> str:
    """The message of the error that reading this file raises, which must be one sentence."""
    with pytest.raises(PictureError) as caught:
        read_picture(data)
    message = str(caught.value)
    assert message.endswith(".") and message.count(". ") == 0 and "Error" not in message
    return message
