"""What an upload's ``Upload-Metadata`` says (tus 1.0.0, creation). Pure."""

import base64
import binascii

from pydantic import TypeAdapter, ValidationError

from mediaserver.kernel.errors import BadInput
from mediaserver.protocol.videos import VideoTitle

MAX_TITLE_CHARACTERS = 200
UNTITLED = "Untitled"
_title: TypeAdapter[str] = TypeAdapter(VideoTitle)


def parse_metadata(header: str) -> dict[str, str]:
    """Return names and values. Raises BadInput for what is not ``name base64, name base64, …``."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        name, _, encoded = pair.strip().partition(" ")
        if not name and not header.strip():
            continue
        if not name or not name.isascii() or not name.isprintable() or name in found:
            raise BadInput("Upload-Metadata: every name comes once, in ASCII", code="bad_metadata")
        try:
            found[name] = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            raise BadInput(
                "Upload-Metadata: a value is not the base64 of UTF-8 text", code="bad_metadata"
            ) from None
    return found


def title_of(header: str) -> str:
    """Return what the video shall be called: `title`, or `filename` without folder and ending.

    Raises BadInput.
    """
    metadata = parse_metadata(header)
    title = metadata.get("title", "").strip() or _from_file_name(metadata.get("filename", ""))
    try:
        return _title.validate_python(title or UNTITLED)
    except ValidationError:
        raise BadInput(
            f"title: 1 to {MAX_TITLE_CHARACTERS} characters, no control characters",
            code="bad_title",
        ) from None


def _from_file_name(name: str) -> str:
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem, dot, _ending = name.rpartition(".")
    readable = "".join(c if c.isprintable() else " " for c in (stem if dot and stem else name))
    return " ".join(readable.split())[:MAX_TITLE_CHARACTERS]
