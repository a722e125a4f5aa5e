r"""Signed addresses of media, and the cookie that carries on once they have expired. Pure.

HMAC-SHA256 over ``v1\n{aud}\n{kid}\n{exp}\n{sub|-}\n{path, or prefix ending in "/"}``. `aud` is
`media` for one path (a URL) and `session` for all paths below a prefix (a cookie), so that neither
passes for the other. Keys are derived from the server's secret, one a day; `kid` names the day
(UTC) of signing. A path is decoded once; what could be read in two ways is refused.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote, urlencode

from mediaserver.kernel.errors import BadInput, Forbidden, Gone

DAY_S = 86_400
MAX_SKEW_S = 60
"""How far the clock of the instance that signed may be ahead."""
MAX_FIELD_CHARACTERS = 200

_SUBJECT = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
_KID = re.compile(r"d([0-9]{1,7})")
_EXP = re.compile(r"[0-9]{1,12}")
_UNCLEAR = re.compile(r"%2f|%5c|%00|[\\\x00-\x20\x7f]", re.IGNORECASE)
_CONTROL = re.compile(r"[\\\x00-\x1f\x7f]")

Audience = Literal["media", "session"]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed URL."""

    url: str
    """Relative to the server: the path, encoded, and the query."""
    kid: str
    exp: int
    """Unix seconds; it is no longer good from then on."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a right signature says."""

    subject: str | None


def canonical_path(raw_path: str) -> str:
    """Decode the path of a URL, once. Raises Forbidden where it is not clear what it names."""
    if not raw_path.startswith("/") or _UNCLEAR.search(raw_path):
        raise _refused("the path cannot be read")
    try:
        path = unquote(raw_path, errors="strict")
    except UnicodeDecodeError:
        raise _refused("the path cannot be read") from None
    if not _is_clear(path):
        raise _refused("the path cannot be read")
    return path


def sign_url(
    path: str, *, secret: bytes, now_s: float, expires_in: int, subject: str | None = None
) -> Signed:
    """Sign one path (decoded). Raises BadInput for a subject or path that cannot be signed."""
    _check_path(path)
    _check_subject(subject)
    kid, exp = _kid(now_s), int(now_s) + expires_in
    fields = {"exp": str(exp), "kid": kid}
    if subject is not None:
        fields["sub"] = subject
    fields["sig"] = signature("media", kid, exp, subject, path, secret)
    return Signed(f"{quote(path, safe='/')}?{urlencode(fields)}", kid, exp)


def check_url(path: str, query: Mapping[str, str], *, secret: bytes, now_s: float) -> Checked:
    """Check a decoded path with its decoded query.

    Raises Forbidden (``bad_signature``), and Gone (``url_expired``) for a right signature whose
    time is over.
    """
    return _check(
        *("media", path, secret, now_s),
        *(query.get(name) for name in ("kid", "exp", "sub", "sig")),
    )


def sign_session(
    prefix: str, *, secret: bytes, now_s: float, expires_in: int, subject: str | None = None
) -> str:
    """Return a cookie's value that is good for every path below `prefix`, which ends in ``/``.

    Raises BadInput for a prefix or subject that cannot be signed.
    """
    _check_prefix(prefix)
    _check_subject(subject)
    kid, exp = _kid(now_s), int(now_s) + expires_in
    signed = signature("session", kid, exp, subject, prefix, secret)
    return f"{kid}.{exp}.{signed}.{_told(subject)}"


def check_session(value: str, path: str, prefix: str, *, secret: bytes, now_s: float) -> Checked:
    """Check a cookie's value for a decoded path below `prefix`. Raises as `check_url` does."""
    _check_prefix(prefix)
    kid, exp, signed, told, *more = (*value.split("."), "", "", "", "")
    if any(more) or not path.startswith(prefix) or not _is_clear(path):
        raise _refused("it is for other addresses")
    try:
        padded = told.encode("ascii") + b"=" * (-len(told) % 4)
        subject = urlsafe_b64decode(padded).decode("ascii") if told else None
    except ValueError:
        raise _refused("the subject cannot be read") from None
    if told != _told(subject):
        raise _refused("the subject cannot be read")
    return _check("session", prefix, secret, now_s, kid, exp, subject, signed)


def signature(
    audience: Audience, kid: str, exp: int, subject: str | None, path: str, secret: bytes
) -> str:
    """Return the signature, base64url without padding."""
    text = f"v1\n{audience}\n{kid}\n{exp}\n{subject or '-'}\n{path}"
    digest = hmac.new(derived_key(secret, kid), text.encode(), hashlib.sha256).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")


def derived_key(secret: bytes, kid: str) -> bytes:
    """Return the key of a day."""
    return hmac.new(secret, b"mediaserver media 1\n" + kid.encode(), hashlib.sha256).digest()


def _check(
    audience: Audience,
    path: str,
    secret: bytes,
    now_s: float,
    kid: str | None,
    exp: str | None,
    subject: str | None,
    signed: str | None,
) -> Checked:
    if not kid or not exp or not signed or len(signed) > MAX_FIELD_CHARACTERS:
        raise _refused("it is not signed")
    day = _KID.fullmatch(kid)
    if day is None or not _EXP.fullmatch(exp) or not _is_subject(subject) or not _is_clear(path):
        raise _refused("a field cannot be read")
    right = signature(audience, kid, int(exp), subject, path, secret)
    if str(int(exp)) != exp or not hmac.compare_digest(
        right.encode(), signed.encode("utf-8", "replace")
    ):
        raise _refused("it was changed, or signed by another server")
    if now_s >= int(exp):
        raise Gone("this address has expired; ask for a new one", code="url_expired")
    today = int(now_s) // DAY_S
    if not today - 1 <= int(day[1]) <= (int(now_s) + MAX_SKEW_S) // DAY_S:
        raise _refused("its key is not in use")
    return Checked(subject)


def _kid(now_s: float) -> str:
    return f"d{int(now_s) // DAY_S}"


def _told(subject: str | None) -> str:
    """A subject as a cookie has it."""
    return "" if subject is None else urlsafe_b64encode(subject.encode()).decode().rstrip("=")


def _is_clear(path: str) -> bool:
    """Whether a decoded path names one thing only. It may end in ``/``."""
    if not path.startswith("/") or _CONTROL.search(path):
        return False
    segments = path[1:].split("/")
    middle = segments[:-1] if segments[-1] == "" else segments
    return all(segment not in ("", ".", "..") for segment in middle)


def _is_subject(subject: str | None) -> bool:
    """``-`` stands for none in what is signed, so nobody is called that."""
    return subject is None or (subject != "-" and _SUBJECT.fullmatch(subject) is not None)


def _check_subject(subject: str | None) -> None:
    if not _is_subject(subject):
        raise BadInput("a subject has 1 to 64 letters, digits and ._:@- and is not just a dash")


def _check_path(path: str) -> None:
    if not _is_clear(path):
        raise BadInput(f"{path!r} cannot be signed")


def _check_prefix(prefix: str) -> None:
    if not prefix.endswith("/") or not _is_clear(prefix):
        raise BadInput(f"{prefix!r} cannot be signed: a prefix begins and ends with /")


def _refused(why: str) -> Forbidden:
    return Forbidden(f"this address is not right: {why}; ask for a new one", code="bad_signature")
