"""The results as a table: drawn by rich on a terminal, plain lines that nothing wraps elsewhere."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tfjax.tools.result import Result

HEADERS = ("framework", "test accuracy", "examples/s", "waiting", "seconds", "parameters")


def show(results: Sequence[Result], console: Console) -> None:
    """Print one row a framework."""
    rows = [_row(result) for result in results]
    if console.is_terminal:
        table = Table(header_style="bold")
        for k, header in enumerate(HEADERS):
            table.add_column(header, justify="right" if k else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    for line in plain_lines(rows):
        console.out(line, highlight=False)


def plain_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """The header and the rows, aligned by spaces: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(HEADERS, *rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in (HEADERS, *rows))
    ]


def _row(result: Result) -> tuple[str, ...]:
    trained = result.examples_per_s > 0  # else the run was resumed at its end
    return (
        result.framework,
        f"{result.test_accuracy:.1%}",
        f"{result.examples_per_s:,.0f}" if trained else "-",
        f"{result.waiting:.0%}" if trained else "-",
        f"{result.seconds:.1f}",
        result.parameters_sha256[:12],
    )
