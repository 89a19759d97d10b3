"""Types of the fields that all result models share."""

from typing import Annotated

import pydantic


def printable(text: str) -> str:
    """Refuse control characters: results come from anywhere and are shown in terminals."""
    if any(not (letter.isprintable() or letter == "\n") for letter in text):
        raise ValueError("control characters are not allowed")
    return text


def one_line(text: str) -> str:
    """Refuse line breaks and control characters."""
    if "\n" in text:
        raise ValueError("line breaks are not allowed")
    return printable(text)


#: A short name of anything: one printable line.
Name = Annotated[
    str,
    pydantic.StringConstraints(min_length=1, max_length=200),
    pydantic.AfterValidator(one_line),
]
#: A sentence or a few, for people.
Text = Annotated[
    str, pydantic.StringConstraints(max_length=2000), pydantic.AfterValidator(printable)
]
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
NotNegative = Annotated[float, pydantic.Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, pydantic.Field(gt=0.0, allow_inf_nan=False)]
Fraction = Annotated[float, pydantic.Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Count = Annotated[int, pydantic.Field(ge=0)]
