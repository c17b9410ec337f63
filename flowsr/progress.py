"""How far along long work is: jobs tell a :class:`Progress`, and whoever started them decides how to show it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flowsr.errors import printable

if TYPE_CHECKING:  # a GPU node computes without rich
    from rich.console import Console
    from rich.progress import Progress as Bars

#: How progress is shown: told which piece of work, the fraction done (0 to 1) and a short message.
Show = Callable[[str, float, str], None]


class PrintableLines(logging.Formatter):
    """Messages alone, and nothing in them that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """A record's line."""
        return printable(super().format(record))


class Progress:
    """One piece of work, told how far along it is: ``progress(0.3, "epoch 3 of 10")``.

    Args:
        show: where it is shown; None for nowhere.
        title: of the piece of work.

    >>> seen = []
    >>> tick = Progress(lambda title, fraction, message: seen.append((title, fraction, message))).part("tiles").steps(2)
    >>> tick("first"), tick(), seen
    (None, None, [('tiles', 0.5, 'first'), ('tiles', 1.0, '2 of 2')])
    """

    def __init__(self, show: Show | None = None, title: str = ""):
        self.show, self.title = show, title

    def __call__(self, fraction: float, message: str = "") -> None:
        if self.show is not None:
            self.show(self.title, min(max(fraction, 0.0), 1.0), message)

    def part(self, title: str) -> Progress:
        """Another piece of work, shown beside this one under its own title."""
        return Progress(self.show, title)

    def share(self, start: float, end: float) -> Progress:
        """A stretch of this piece of work: its 0 and 1 are this one's ``start`` and ``end``."""
        return Progress(lambda _, fraction, message: self(start + (end - start) * fraction, message), self.title)

    def steps(self, total: int, unit: str = "") -> Callable[..., None]:
        """A function to call after each of ``total`` equal steps, with a message or without."""
        done = 0

        def tick(message: str = "") -> None:
            nonlocal done
            done += 1
            self(done / max(total, 1), message or f"{done} of {total} {unit}".rstrip())

        return tick


#: Progress that nobody looks at.
SILENT = Progress()


@contextmanager
def shown(console: Console | None = None) -> Iterator[Progress]:
    """Progress bars on a terminal; elsewhere one plain line per piece of work and tenth of the way."""
    from rich.console import Console

    console = console or Console(file=sys.stderr)
    if console.is_terminal:
        with _bars(console) as bars:
            yield Progress(_drawing(bars))
    else:
        yield plain_lines(lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False))


def plain_lines(write: Callable[[str], None], share: float = 0.1) -> Progress:
    """Progress as lines of text, at most one per ``share`` of each piece of work."""
    reached: dict[str, int] = {}
    started: dict[str, float] = {}

    def show(title: str, fraction: float, message: str) -> None:
        start = started.setdefault(title, time.perf_counter())
        tenth = int(fraction / share + 1e-9)
        if tenth > reached.get(title, -1):
            reached[title] = tenth
            seconds = time.perf_counter() - start
            write(printable(f"{title:<24} {100 * fraction:3.0f} %  {seconds:6.1f} s  {message}"))

    return Progress(show)


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("[bold]{task.description:<24}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[message]}"),
        console=console,
    )


def _drawing(bars: Bars) -> Show:
    from rich.markup import escape

    tasks = {}

    def show(title: str, fraction: float, message: str) -> None:
        if title not in tasks:
            tasks[title] = bars.add_task(escape(printable(title)), total=1.0, message="")
        bars.update(tasks[title], completed=fraction, message=escape(printable(message)))

    return show
