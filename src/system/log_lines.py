"""What is logged, as a terminal can show it."""

import logging

from src.system.safe_files import printable_lines


class PrintableFormatter(logging.Formatter):
    """Formats records without what a terminal would obey: names of files and classes may hold anything.

    Args:
        format: of a line, as `logging.Formatter` takes it.
    """

    def __init__(self, format: str) -> None:
        super().__init__(format)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a trace keeps its lines."""
        return printable_lines(super().format(record))
