"""What a user sees while a command runs, and when it is interrupted."""

import io

import pytest
from rich.console import Console

from cgbench.cli import common
from cgbench.cli.main import main


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_keep_numbers_and_times_whole(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(common, "console", console)
    long = "prior alone: simulate chignolin-sample-v2 (2913.2 steps/s)"
    with common.progress_bars() as progress:
        progress("check", 1, 2)
        progress(long, 1000, 1000)
    lines = [line for line in file.getvalue().splitlines() if "prior alone" in line]
    assert lines
    assert "100 % 0:00:00 0:00:00" in lines[-1]
    assert (long in lines[-1]) == (width > 100)


def test_an_interrupt_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cgbench.pipeline import check

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "check_model", interrupted)
    monkeypatch.setattr("sys.argv", ["cgbench", "check", "torchmd-gn/chignolin-sample"])
    with pytest.raises(SystemExit) as told:
        main()
    assert told.value.code == 130
    assert "run the same command to continue" in capsys.readouterr().err
