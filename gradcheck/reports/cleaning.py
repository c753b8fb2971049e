"""Text from elsewhere, fit to be shown: error messages hold colours, and file names any byte."""

from __future__ import annotations

import re

# Control characters but tab and line ends, those of the second set (U+009B begins a colour) included.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# XML 1.0, section 2.2: these two are no characters.
_NOT_XML = re.compile("[\ufffe\uffff]")
_REPLACEMENT = "�"


def visible(text: str) -> str:
    """The text as it may be printed anywhere.

    Control characters, which a terminal or a log would obey, are replaced; the bytes of a file's name
    that are no text, which no encoding takes, stand as escapes.
    """
    return utf8(_CONTROLS.sub(_REPLACEMENT, text))


def one_line(text: str) -> str:
    """The same on one line, for a cell of a table."""
    return " ".join(part.strip() for part in visible(text).splitlines()).replace("\t", " ")


def xml_text(text: str) -> str:
    """The text without what XML cannot hold."""
    return _NOT_XML.sub(_REPLACEMENT, visible(text))


def utf8(text: str) -> str:
    """The text with lone surrogates as escapes, which are right inside JSON's strings too."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
