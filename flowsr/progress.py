"""How far along long work is: jobs report fractions, and whoever started them decides how to show it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Told the fraction done (0 to 1) and a short message.
Report = Callable[[float, str], None]
#: Told which piece of work a report is about as well.
StageReport = Callable[[str, float, str], None]


def about(report: StageReport | None, title: str) -> Report | None:
    """A report for the piece of work called ``title``."""
    if report is None:
        return None
    return lambda fraction, message="": report(title, fraction, message)


@contextmanager
def shown(console: Console | None = None) -> Iterator[StageReport]:
    """Progress bars on a terminal; elsewhere one plain line per piece of work and tenth of the way."""
    console = console or Console(file=sys.stderr)
    if console.is_terminal:
        with _bars(console) as bars:
            yield _drawing(bars)
    else:
        yield plain_lines(lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False))


def plain_lines(write: Callable[[str], None], share: float = 0.1) -> StageReport:
    """Reports as lines of text, at most one per ``share`` of each piece of work."""
    reached: dict[str, int] = {}
    started: dict[str, float] = {}

    def report(title: str, fraction: float, message: str) -> None:
        start = started.setdefault(title, time.perf_counter())
        tenth = int(min(fraction, 1.0) / share + 1e-9)
        if tenth > reached.get(title, -1):
            reached[title] = tenth
            write(f"{title:<24} {100 * min(fraction, 1.0):3.0f} %  {time.perf_counter() - start:6.1f} s  {message}")

    return report


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description:<24}"), BarColumn(bar_width=30), TaskProgressColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("[dim]{task.fields[message]}"), console=console,
    )  # fmt: skip


def _drawing(bars: Progress) -> StageReport:
    tasks: dict[str, int] = {}

    def report(title: str, fraction: float, message: str) -> None:
        if title not in tasks:
            tasks[title] = bars.add_task(title, total=1.0, message=message)
        bars.update(tasks[title], completed=min(fraction, 1.0), message=message)

    return report
