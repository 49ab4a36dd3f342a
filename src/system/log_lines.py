"""Format log records so that they are safe to print on a terminal."""

import logging

from src.system.safe_files import printable_lines


class PrintableFormatter(logging.Formatter):
    """Format records without control characters, which names of files and classes may contain."""

    def __init__(self, format: str) -> None:
        super().__init__(format)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; a trace keeps its lines."""
        return printable_lines(super().format(record))
