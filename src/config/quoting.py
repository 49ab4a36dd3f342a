"""Quote paths on the command line, so that Hydra takes them literally.

Quotes, commas, equals signs, brackets and most letters beyond ASCII are special in Hydra's grammar, except in a quoted
string.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

# keys whose values are paths
PATHS = (
    *("run_dir", "ckpt_path", "resume", "reproduce", "init_from", "teacher", "model.net.weights"),
    *("input", "exported", "out", "sheet", "folder", "runs"),
    *("data.folder", "data.data_dir", "paths.data_dir", "paths.log_dir", "hydra.run.dir", "hydra.sweep.dir"),
)
QUOTES = ("'", '"')


def quote(text: str) -> str:
    """Quote a string so that Hydra and OmegaConf take it literally."""
    text = re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", text)
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Quote the paths among the arguments of a command line."""
    return [quote_path(argument) for argument in arguments]


def quote_path(argument: str) -> str:
    """Quote an argument that is a path or a list of paths; others are returned unchanged."""
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or key.lstrip("+") not in PATHS:
        return argument
    if value in ("", "null", "???") or ("${" in value and not Path(value).exists()):
        return argument
    if Path(value).exists():  # even if it looks like a list or a quoted string
        return f"{key}={quote(value)}"
    if value.startswith("[") and value.endswith("]"):
        return f"{key}=[{','.join(quote_item(path.strip()) for path in split_list(value[1:-1]))}]"
    return f"{key}={quote_item(value)}"


def quote_item(path: str) -> str:
    """Quote a path, unless it is quoted already."""
    return path if is_quoted(path) and not Path(path).exists() else quote(path)


def split_list(text: str) -> list[str]:
    """Split a list of paths at commas, except for those in quotes or in the name of an existing path."""
    if not text.strip():
        return []
    items: list[str] = []
    for part in re.findall(r"""\s*'(?:\\.|[^'\\])*'\s*(?=,|$)|\s*"(?:\\.|[^"\\])*"\s*(?=,|$)|[^,]+""", text):
        joined = f"{items[-1]},{part}" if items else part
        if items and not Path(items[-1]).exists() and Path(joined.strip()).exists():
            items[-1] = joined
        else:
            items.append(part)
    return items


def is_quoted(text: str) -> bool:
    """Return whether a value is a quoted string."""
    return len(text) > 1 and text[0] in QUOTES and text[-1] == text[0]


def path_of(value: str) -> str:
    """Return the path given by a command-line value: the value itself if it exists, otherwise without its quotes."""
    if not is_quoted(value) or Path(value).exists():
        return value
    try:
        (override,) = OverridesParser.create().parse_overrides([f"path={value}"])
    except HydraException:
        return value
    return re.sub(r"(\\+)\$\{", lambda match: match[1][: len(match[1]) // 2] + "${", str(override.value()))


def name_of(override: str) -> str:
    """Return the key of an override: `trainer.max_epochs` for `+trainer.max_epochs=3`."""
    return override.lstrip("+~").partition("=")[0]


def literal(value: object) -> str:
    """Write a plain value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{literal(one)}' for key, one in value.items())}}}"
    return repr(value)
