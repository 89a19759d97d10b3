"""Types of text and addresses in leaderboard files: bounded, printable, and never markup.

What is written here ends up in a terminal and on a web page. A page escapes everything all the
same; these checks keep text that only makes sense as an attack from getting that far.
"""

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import pydantic

from cgbench.results.fields import one_line, printable

#: The beginning of a tag, a comment or a processing instruction.
_MARKUP: Final = re.compile(r"<\s*[/!?a-z]", re.IGNORECASE)
#: Elements that load or run something, which no sentence about a model needs.
_ACTIVE: Final = re.compile(
    r"<\s*/?\s*(script|iframe|frame|object|embed|applet|svg|math|img|image|audio|video|source|link"
    r"|style|meta|base|form|input|button|textarea|template|html|body|details|marquee|a)\b"
    r"|javascript\s*:|vbscript\s*:|data\s*:\s*text/html",
    re.IGNORECASE,
)
#: Characters of a character reference, which a page could turn back into markup.
_REFERENCE: Final = re.compile(r"&(#\d+|#x[0-9a-f]+|lt|gt|quot|apos|colon|tab|newline);", re.I)

_PART: Final = r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,58}[a-z0-9]|[a-z0-9]"
#: A model's name on the leaderboard: ``<family>/<name>``, two plain names of folders.
MODEL_ID: Final = re.compile(rf"(?:{_PART})/(?:{_PART})")
#: Names that Windows keeps for devices; a checkout there could not hold them.
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_HOST: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._~:/?#@!$&()*+,;=%\[\]-]+")


def no_markup(text: str) -> str:
    """Refuse what begins like a tag, an active address or a character reference.

    Raises:
        ValueError: It does.
    """
    if _MARKUP.search(text) or _ACTIVE.search(text) or _REFERENCE.search(text):
        raise ValueError("markup is not allowed: write plain text")
    return text


def no_active_content(text: str) -> str:
    """Refuse elements and addresses that load or run something; a bare ``<`` is plain text.

    Raises:
        ValueError: There is one.
    """
    if _ACTIVE.search(text):
        raise ValueError("elements and addresses that run something are not allowed")
    return text


def model_id(text: str) -> str:
    """Refuse what is not ``<family>/<name>`` of plain lower-case names.

    Raises:
        ValueError: It could leave its folder, or is no name on some file system.
    """
    if not MODEL_ID.fullmatch(text) or any(_RESERVED.fullmatch(one) for one in text.split("/")):
        raise ValueError(
            "expected <family>/<name> in lower-case letters, digits, '.', '_' and '-', "
            "each at most 60 characters"
        )
    return text


def https_url(text: str) -> str:
    """Refuse every address but https to a named public host, without user name or odd characters.

    Raises:
        ValueError: It is another one.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("not an address") from error
    host = (parts.hostname or "").lower()
    if parts.scheme != "https" or not _URL_CHARACTERS.fullmatch(text):
        raise ValueError("expected an address that begins with https://, without odd characters")
    if parts.username is not None or parts.password is not None or port not in (None, 443):
        raise ValueError("an address with a user name, a password or a port is not allowed")
    if not _HOST.fullmatch(host) or host.endswith((".local", ".internal", ".localhost")):
        raise ValueError("expected the name of a public host")
    return text


def strings(value: Any, path: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Return every string of plain data, keys too, each with where it is.

    Raises:
        ValueError: It is nested more than 50 levels deep.
    """
    if depth > 50:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return [(path, value)]
    found: list[tuple[str, str]] = []
    if isinstance(value, dict):
        for key, item in value.items():
            found.append((f"{path}.(key)", str(key)))
            found += strings(item, f"{path}.{key}"[:300], depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            found += strings(item, f"{path}.{index}", depth + 1)
    return found


#: One line of plain text.
Line = Annotated[
    str,
    pydantic.StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    pydantic.AfterValidator(one_line),
    pydantic.AfterValidator(no_markup),
]
#: A few paragraphs of plain text.
Prose = Annotated[
    str,
    pydantic.StringConstraints(max_length=4000, strip_whitespace=True),
    pydantic.AfterValidator(printable),
    pydantic.AfterValidator(no_markup),
]
ModelId = Annotated[
    str, pydantic.StringConstraints(max_length=121), pydantic.AfterValidator(model_id)
]
HttpsUrl = Annotated[
    str, pydantic.StringConstraints(max_length=500), pydantic.AfterValidator(https_url)
]
