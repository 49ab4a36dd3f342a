"""The templates of all pages, which are self-contained and share the style of `page/style.css`."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

OWN = "src.report"


def environment(package: str = OWN, *styles: str) -> Environment:
    """Return the templates in `page/` of a package, together with the shared ones.

    Args:
        package: the package.
        styles: stylesheets of the package, appended to the shared one in `style`.
    """
    loader = ChoiceLoader([PackageLoader(name, "page") for name in dict.fromkeys((package, OWN))])
    result = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    result.globals["style"] = Markup("".join(loader.get_source(result, name)[0] for name in ("style.css", *styles)))
    return result
