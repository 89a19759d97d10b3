"""``cgbench doctor``: whether this machine and this installation are fit, and what to mend."""

from collections.abc import Callable, Iterable
from pathlib import Path

from cgbench.errors import ValidationError
from cgbench.pipeline import (
    doctor_devices,
    doctor_files,
    doctor_machine,
    doctor_packages,
)
from cgbench.pipeline.doctor_finding import Diagnosis, Finding, Group, last_line
from cgbench.progress import Progress, silent
from cgbench.version import __version__

Check = Callable[[], Iterable[Finding]]


def diagnose(
    home: Path | None = None, *, quick: bool = False, progress: Progress = silent
) -> Diagnosis:
    """Look at everything that cgbench relies on; nothing is changed and nothing fetched.

    Args:
        home: Data home; the default as everywhere.
        quick: Whether to leave out what takes seconds: packages are not imported one by one, and
            the speed of the disk is not measured.
        progress: Told of each check.

    Returns:
        One finding for each thing that was looked at. A check that fails itself is a finding too.
    """
    checks: list[tuple[str, Group, Check]] = [
        ("python", "packages", doctor_packages.python),
        ("releases", "packages", doctor_packages.releases),
        ("packages", "packages", lambda: doctor_packages.packages(imported=not quick)),
        ("extras", "extras", doctor_packages.extras),
        ("processor", "processor", doctor_machine.processor),
        ("matrix libraries", "processor", doctor_machine.matrix_libraries),
        ("graphics processors", "graphics", doctor_devices.graphics),
        ("compilers", "compilers", doctor_devices.compilers),
        ("disk", "disk", lambda: doctor_files.disk(home, speed=not quick)),
        ("temporary files", "disk", doctor_files.temporary),
        ("caches", "disk", doctor_files.caches),
        ("data home", "data", lambda: doctor_files.home_contents(home)),
        ("embedded sample", "data", doctor_files.sample),
    ]
    findings: list[Finding] = []
    for number, (name, group, check) in enumerate(checks):
        progress(f"check ({name})", number, len(checks))
        findings += _run(name, group, check)
    progress("check (done)", len(checks), len(checks))
    return Diagnosis(
        suite_version=__version__,
        healthy=all(finding.status != "broken" for finding in findings),
        findings=tuple(findings),
    )


def require_healthy(diagnosis: Diagnosis) -> None:
    """Fail over what is broken.

    Raises:
        ValidationError: Something that the package needs does not work.
    """
    broken = diagnosis.broken
    if broken:
        raise ValidationError(
            f"{len(broken)} of {len(diagnosis.findings)} checks found something broken",
            found="; ".join(f"{finding.name}: {finding.found}" for finding in broken),
            fix="; ".join(finding.fix for finding in broken if finding.fix) or None,
        )


def _run(name: str, group: Group, check: Check) -> list[Finding]:
    """Return what a check found before it ended, and how it ended if it failed itself."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:  # noqa: BLE001 - on a broken machine anything may fail
        findings.append(
            Finding(
                group=group,
                name=name,
                status="broken",
                found=f"the check failed: {last_line(error)}",
                fix="install cgbench again in a new environment",
            )
        )
    return findings
