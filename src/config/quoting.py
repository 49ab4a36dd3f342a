"""Paths on the command line: taken as they are written, whatever they hold, and quoted for Hydra.

To Hydra's grammar quotes, commas, equals signs, brackets and most letters beyond ASCII mean something; in a quoted
string none of them does.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

# the keys whose values are paths of files and folders
PATHS = (
    *("run_dir", "ckpt_path", "resume", "reproduce", "init_from"),
    *("input", "exported", "out", "sheet", "folder", "runs"),
    *("data.folder", "data.data_dir", "paths.data_dir", "paths.log_dir", "hydra.run.dir", "hydra.sweep.dir"),
)
QUOTES = ("'", '"')


def quote(text: str) -> str:
    """A string as Hydra's grammar quotes it, taken literally by OmegaConf as well."""
    text = re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", text)
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """The same arguments with the paths among them quoted."""
    return [quote_path(argument) for argument in arguments]


def quote_path(argument: str) -> str:
    """An argument as Hydra reads it; only one that gives a path, or a list of them, is changed."""
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or key.lstrip("+") not in PATHS:
        return argument
    if value in ("", "null", "???") or ("${" in value and not Path(value).exists()):
        return argument
    if Path(value).exists():  # even where it looks like a list or like a string that is quoted already
        return f"{key}={quote(value)}"
    if value.startswith("[") and value.endswith("]"):
        return f"{key}=[{','.join(quote_item(name.strip()) for name in split_list(value[1:-1]))}]"
    return f"{key}={quote_item(value)}"


def quote_item(name: str) -> str:
    """A path as Hydra reads it, or what is quoted already."""
    return name if is_quoted(name) and not Path(name).exists() else quote(name)


def split_list(text: str) -> list[str]:
    """The items of a list of paths: separated by commas, but for those within quotes or within a path that exists."""
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
    """Whether a value is a string in quotes."""
    return len(text) > 1 and text[0] in QUOTES and text[-1] == text[0]


def path_of(value: str) -> str:
    """The path that a value of the command line means: as it is written or, where there is none, without its quotes."""
    if not is_quoted(value) or Path(value).exists():
        return value
    try:
        (override,) = OverridesParser.create().parse_overrides([f"path={value}"])
    except HydraException:
        return value
    return re.sub(r"(\\+)\$\{", lambda match: match[1][: len(match[1]) // 2] + "${", str(override.value()))


def name_of(override: str) -> str:
    """The key of an override: `trainer.max_epochs` of `+trainer.max_epochs=3`."""
    return override.lstrip("+~").partition("=")[0]


def literal(value: object) -> str:
    """A plain value as Hydra's grammar writes it."""
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
