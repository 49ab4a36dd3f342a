"""The test report on the page: the confusion matrix, and as many of the worst mistakes as fit."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from src.report.runs import Run

MAX_NUMBERED = 20  # with at most this many classes, a confusion matrix is a table of numbers
MAX_MISTAKES, MIN_MISTAKES = 24, 3  # shown for each head
PICTURE_BUDGET = 3_000_000  # characters of all pictures on a page


def mistakes_shown(runs: Sequence[Run]) -> int:
    """Return how many mistakes to show for each head: fewer if many runs or large images would bloat the page."""
    heads = [head for run in runs for head in run.heads.values()]
    size = sum(len(mistake["png"]) for head in heads for mistake in head["mistakes"][:MAX_MISTAKES])
    return MAX_MISTAKES if size <= PICTURE_BUDGET else max(int(MAX_MISTAKES * PICTURE_BUDGET / size), MIN_MISTAKES)


def confusion(head: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a head's confusion matrix.

    Returns:
        `rows`, each with the `name` of a class, `cells` of (count, share of the row), and `accuracy`, None for a class
        without images; `hardest`: the rows of lowest accuracy; `picture`: a PNG in base64 if there are many classes.
    """
    rows = [
        {
            "name": name,
            "cells": [(count, count / max(sum(row), 1)) for count in row],
            "accuracy": row[index] / sum(row) if sum(row) else None,
        }
        for index, (name, row) in enumerate(zip(head["classes"], head["counts"], strict=True))
    ]
    hardest = sorted((row for row in rows if row["accuracy"] is not None), key=lambda row: row["accuracy"])[:5]
    return {"rows": rows, "hardest": hardest, "picture": picture(rows) if len(rows) > MAX_NUMBERED else None}


def picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw a confusion matrix as PNG in base64, with a pixel for each pair of classes; darker means a larger share."""
    from PIL import Image

    image = Image.new("L", (len(rows), len(rows)))
    image.putdata([255 - round(255 * share**0.5) for row in rows for _, share in row["cells"]])
    content = io.BytesIO()
    image.save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()
