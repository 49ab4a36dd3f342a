"""The templates of all pages: files that load nothing from elsewhere, in the style of `page/style.css`."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

OWN = "src.report"


def environment(package: str = OWN, *styles: str) -> Environment:
    """Return the templates in `page/` of a package, and beside them those that all pages share.

    Args:
        package: where they are.
        styles: stylesheets of the package; `style` is the shared one with these.
    """
    loader = ChoiceLoader([PackageLoader(name, "page") for name in dict.fromkeys((package, OWN))])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.globals["style"] = Markup("".join(loader.get_source(found, name)[0] for name in ("style.css", *styles)))
    return found
