"""The exception tree. Every error that a user can cause is one of these, with an exit code."""

from typing import ClassVar


class CgbenchError(Exception):
    """Base of all errors that cgbench raises on purpose.

    Args:
        what: One sentence that names the file or object and what is wrong.
        expected: What was expected, if that helps.
        found: What was found instead.
        fix: What the user can do about it.
    """

    exit_code: ClassVar[int] = 4

    def __init__(
        self,
        what: str,
        *,
        expected: object | None = None,
        found: object | None = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.expected = expected
        self.found = found
        self.fix = fix
        #: The whole message, one fact a line. An attribute of the object, not of its class: torch
        #: raises errors of loader workers again by ``type(message=…)`` where the class has one.
        self.message = self._text()
        super().__init__(self.message)

    def _text(self) -> str:
        lines = [self.what]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.found is not None:
            lines.append(f"  found:    {self.found}")
        if self.fix is not None:
            lines.append(f"  to do:    {self.fix}")
        return "\n".join(lines)


class UsageError(CgbenchError):
    """A wrong command, option, name or configuration key (exit code 2)."""

    exit_code = 2


class IntegrityError(CgbenchError):
    """A file is damaged, incomplete, unsafe to load or not what its hash says (exit code 3)."""

    exit_code = 3


class ValidationError(CgbenchError):
    """Data, model or result has the wrong shape, type or physics (exit code 4)."""

    exit_code = 4


class SimulationError(CgbenchError):
    """A simulation or a training run failed as a whole (exit code 5)."""

    exit_code = 5
