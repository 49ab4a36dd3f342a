"""What a page shows of a run's test: confusions by class, and as many of the worst mistakes as there is room for."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from src.report.runs import Run

MOST_NUMBERED = 20  # classes of a confusion matrix that is written in numbers
MOST_MISTAKES, LEAST_MISTAKES = 24, 3  # of a head
ROOM = 3_000_000  # characters of a page for all pictures together


def mistakes_shown(runs: Sequence[Run]) -> int:
    """How many mistakes of each head are shown: fewer where many runs or large images would make a heavy page."""
    heads = [head for run in runs for head in run.heads.values()]
    wanted = sum(len(str(one["png"])) for head in heads for one in head["mistakes"][:MOST_MISTAKES])
    return MOST_MISTAKES if wanted <= ROOM else max(int(MOST_MISTAKES * ROOM / wanted), LEAST_MISTAKES)


def confusion(head: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a head's confusion matrix: numbers where there are few classes, else a picture.

    A row has a name, its cells (count, share of the row), and the share that is right; None of a class without images.
    """
    rows = [
        {
            "name": name,
            "cells": [(count, count / max(sum(row), 1)) for count in row],
            "right": row[place] / sum(row) if sum(row) else None,
        }
        for place, (name, row) in enumerate(zip(head["classes"], head["counts"], strict=True))
    ]
    hardest = sorted((row for row in rows if row["right"] is not None), key=lambda row: row["right"])[:5]
    return {"rows": rows, "hardest": hardest, "picture": None if len(rows) <= MOST_NUMBERED else picture(rows)}


def picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """A confusion matrix as PNG in base64, a pixel for each pair of classes, the darker the larger its share."""
    from PIL import Image

    image = Image.new("L", (len(rows), len(rows)))
    image.putdata([255 - round(255 * share**0.5) for row in rows for _, share in row["cells"]])
    content = io.BytesIO()
    image.save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()
