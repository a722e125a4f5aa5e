"""The languages that Whisper's multilingual models know."""

_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw "
    "he hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my "
    "ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt "
    "uk ur uz vi yi yo zh"
)
LANGUAGES = frozenset(_CODES.split())
"""Codes as Whisper writes them: ISO 639-1, but `haw` and `jw`."""

_OTHER_NAMES = {"nb": "no", "iw": "he", "in": "id", "jv": "jw", "fil": "tl", "yue": "zh"}


def language_of(tag: str) -> str | None:
    """Return the code for a BCP 47 tag (``en-US``: ``en``); None if it is not known."""
    primary = tag.replace("_", "-").split("-")[0].lower()
    code = _OTHER_NAMES.get(primary, primary)
    return code if code in LANGUAGES else None
