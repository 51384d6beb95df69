"""Finds fonts for class names in pictures, which may contain any characters."""

import logging
from collections.abc import Sequence

from keras_mixer.extras import require

_log = logging.getLogger(__name__)


def drawable(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Finds fonts for texts, and lets Matplotlib take them literally: it reads what is between two `$` as mathematics.

    Args:
        texts: Texts with any characters.

    Returns:
        The texts as Matplotlib takes them, and the font families that together draw them, for its `family`.
        Characters that no installed font draws are replaced by "?", and a warning names them.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    require("matplotlib", extra="pipelines", purpose="Drawing")
    from matplotlib import font_manager, ft2font

    missing = {ord(character) for text in texts for character in text} - {ord("\n")}
    families = ["DejaVu Sans"]  # Matplotlib's own
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name not in families, font.name)):
        if not missing:
            break
        if font.name.startswith("Last Resort"):  # a font that draws a box for every character
            continue
        try:
            opened = ft2font.FT2Font(font.fname)
        except (OSError, RuntimeError):  # a font that cannot be read
            continue
        drawn = missing & opened.get_charmap().keys() if opened.scalable else set()  # not bitmaps of emoji
        if drawn:
            families += [font.name] if font.name not in families else []
            missing -= drawn
    if missing:
        _log.warning("No font here draws %s, so the picture has ? for them.", " ".join(map(chr, sorted(missing)[:10])))
    return [text.translate({**dict.fromkeys(missing, "?"), ord("$"): r"\$"}) for text in texts], families
