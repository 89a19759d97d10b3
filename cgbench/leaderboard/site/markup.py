"""Puts pages together: escaped templates, scripts and styles under a strict security policy."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jinja2
from markupsafe import Markup

from cgbench.leaderboard.site import words
from cgbench.report import number
from cgbench.report.embedding import source_hash, web_text
from cgbench.version import __version__

_PACKAGE: Final = "cgbench.leaderboard.site"
_STYLE: Final = re.compile(r'\sstyle="([^"]*)"')
_STYLE_ELEMENT: Final = re.compile(r"<style\b.*?</style>", re.DOTALL)
#: The size and family of the shorthand that figures give their text.
_FONT: Final = re.compile(r"(?:(?:normal|bold|italic|oblique|\d00)\s+)*([\d.]+)px\s+(.+)")
_PROPERTY: Final = re.compile(r"[a-z-]+")

#: Key, address and text of the pages that every page links to.
_NAVIGATION: Final = (
    ("index", "index.html", "Leaderboard"),
    ("protein", "index.html#proteins", "Proteins"),
    ("compare", "compare.html", "Compare"),
    ("metrics", "metrics.html", "Metrics"),
)
#: Scripts of every page, the report page's and the site's.
_SHARED: Final = ("common.js",)
_SCRIPTS: Final[Mapping[str, tuple[str, ...]]] = {
    "index": ("site.js", "index.js"),
    "model": ("site.js", "load.js"),
    "protein": ("site.js", "load.js", "protein.js"),
    "compare": ("site.js", "compare.js"),
    "metrics": ("site.js",),
}
#: Scripts of the file that draws structures; pages load it when a structure comes into view.
_VIEWER: Final = ("ribbons.js", "structures.js")
_VIEWER_STYLE: Final = "structures.css"
#: Kinds of pages that have structures.
_VIEWING: Final = ("model", "protein")
#: Three beads on a chain: the mark of the site.
_LOGO: Final = Markup(
    '<svg viewBox="0 0 32 32" aria-hidden="true" class="chain">'
    '<path class="c1" d="M5 23C9 6 13 6 16 15"/>'
    '<path class="c8" d="M16 15C19 24 23 24 27 9"/></svg>'
)


def strict_svg(svg: str) -> Markup:
    """Return a figure drawn by matplotlib without inline styles, which the policy forbids.

    What a style says, the attribute of the same name says as well.
    """

    def attributes(found: re.Match[str]) -> str:
        said: dict[str, str] = {}
        for part in found[1].split(";"):
            name, colon, value = part.partition(":")
            name, value = name.strip(), value.strip()
            if not colon or not _PROPERTY.fullmatch(name):
                continue
            font = _FONT.fullmatch(value) if name == "font" else None
            if font:
                said["font-size"], said["font-family"] = font[1], font[2]
            elif name != "font":
                said[name] = value
        return "".join(f' {name}="{value}"' for name, value in said.items())

    text = _STYLE_ELEMENT.sub("", svg)
    text = _STYLE.sub(attributes, text)
    # What the style element said of the whole drawing.
    text = text.replace("<svg", '<svg stroke-linejoin="round" stroke-linecap="butt"', 1)
    # The drawing is made here; names in it were escaped by the library that wrote it.
    return Markup(text)  # noqa: S704


def viewer_file() -> tuple[str, str]:
    """Return address and content of the script that draws structures; its name changes with it."""
    text = "".join(web_text(name, _PACKAGE) for name in _VIEWER)
    return f"assets/viewer-{hashlib.sha256(text.encode()).hexdigest()[:12]}.js", text


class Templates:
    """The site's templates. Everything is escaped but drawings made here."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            loader=jinja2.FunctionLoader(lambda name: web_text(name, _PACKAGE)),
        )
        self._environment.filters |= {
            "number": number,
            "score": words.score,
            "between": words.between,
            "duration": words.duration,
            "amount": words.amount,
            "precise": words.precise,
            "remarks": words.remarks,
        }
        # Whoever wrote a record, only such an address becomes a link.
        self._environment.tests["https"] = lambda address: address.startswith("https://")
        self._environment.globals |= {
            "tracks": words.TRACK_TEXTS,
            "levels": words.LEVEL_TEXTS,
            "flags": words.FLAG_TEXTS,
            "arrows": words.ARROWS,
            "directions": words.DIRECTIONS,
            "navigation": _NAVIGATION,
            "logo": _LOGO,
            "version": __version__,
            "viewer_script": viewer_file()[0],
        }
        # Styles and scripts are the package's own files, inserted as they are.
        style = web_text("page.css") + web_text("site.css", _PACKAGE)
        self._styles = {
            name: Markup(style + (web_text(_VIEWER_STYLE, _PACKAGE) if name in _VIEWING else ""))  # noqa: S704
            for name in _SCRIPTS
        }
        shared = tuple(web_text(one) for one in _SHARED)
        self._scripts = {
            name: tuple(
                Markup(text)  # noqa: S704
                for text in (*shared, *(web_text(one, _PACKAGE) for one in own))
            )
            for name, own in _SCRIPTS.items()
        }

    def render(
        self, name: str, address: str, context: Mapping[str, Any], extra: Sequence[str] = ()
    ) -> str:
        """Return a page.

        Args:
            name: Its template.
            address: Where it will be, below the site's folder.
            context: What the template shows.
            extra: Further scripts, run before the site's own.
        """
        scripts = (*(Markup(text) for text in extra), *self._scripts[name])  # noqa: S704
        style = self._styles[name]
        policy = "; ".join(
            (
                "default-src 'none'",
                # What these scripts load, from the site's own folder and by fixed names, may run;
                # nothing that stands in a page may, whatever its address.
                f"script-src 'strict-dynamic' {' '.join(map(source_hash, scripts))}",
                f"style-src {source_hash(style)}",
                "img-src data: blob:",
                "base-uri 'none'",
                "form-action 'none'",
            )
        )
        return self._environment.get_template(f"{name}.html.jinja").render(
            name=name,
            root="../" * address.count("/"),
            policy=policy,
            style=style,
            scripts=scripts,
            **context,
        )
