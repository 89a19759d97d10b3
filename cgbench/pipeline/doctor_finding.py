"""What one check of the doctor found."""

from typing import Literal

from pydantic import Field, JsonValue

from cgbench.config import Frozen

#: ``ok``; ``note``: something optional is not there; ``warning``: it works, but not as it could;
#: ``broken``: something that the package needs does not work.
Status = Literal["ok", "note", "warning", "broken"]

Group = Literal["packages", "extras", "processor", "graphics", "compilers", "disk", "data"]


class Finding(Frozen):
    """What one check found.

    Attributes:
        group: What the check is about.
        name: What was checked.
        status: How it is.
        found: What was found, in a few words.
        fix: What to do about it, if something is to be done.
        facts: Numbers and names for machines.
    """

    group: Group
    name: str
    status: Status
    found: str
    fix: str | None = None
    facts: dict[str, JsonValue] = Field(default_factory=dict)


class Diagnosis(Frozen):
    """What all checks found.

    Attributes:
        suite_version: Version of this package.
        healthy: Whether nothing that the package needs is broken.
        findings: One for each thing that was checked.
    """

    suite_version: str
    healthy: bool
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What has to be mended."""
        return tuple(finding for finding in self.findings if finding.status == "broken")


def last_line(error: BaseException | str, length: int = 200) -> str:
    """Return the last line of a message, cut off after ``length`` characters."""
    text = str(error).strip().splitlines()
    kind = "" if isinstance(error, str) else f"{type(error).__name__}: "
    return kind + (text[-1].strip()[:length] if text else "no message")


def in_words(n_bytes: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
