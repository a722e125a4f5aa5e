"""Forged, expired, misdirected and mixed-up tokens are refused, each by a real instance."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mediaserver.identity.principal import STATIC
from mediaserver.identity.signing_plan import LONGEST_TOKEN_S, PUBLISH_AHEAD_S, SIGNS_S
from mediaserver.identity.tokens import ACCESS, INVITATION, ROOM
from mediaserver.protocol.identity import RoomTokenRequest
from mediaserver.protocol.rooms import Grants
from tests.integration.identity_instance import Instance, Instances, ShiftedClock

Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts(token: str) -> tuple[Json, Json]:
    head, body, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(p + "==")) for p in (head, body))


def hand_made(header: Json, claims: Json, sign: Callable[[bytes], bytes]) -> str:
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64(sign(text.encode()))}"


async def refused(instance: Instance, token: str, code: str = "invalid_token") -> None:
    answer = await instance.get("me", token=token)
    assert answer.status == 401, token
    assert answer.body["code"] == code
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.fixture
async def instance(instances: Instances) -> Instance:
    return await instances.start()


@pytest.fixture
async def good(instance: Instance) -> str:
    token: str = (await instance.user())["access_token"]
    assert (await instance.get("me", token=token)).status == 200
    header, claims = parts(token)
    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert claims["exp"] - claims["iat"] == 900
    assert {"iss", "aud", "sub", "exp", "iat", "jti", "sid"} <= set(claims)
    return token


async def test_a_signature_of_another_key_is_refused(instance: Instance, good: str) -> None:
    header, claims = parts(good)
    stranger = Ed25519PrivateKey.generate()
    await refused(instance, hand_made(header, claims, stranger.sign))


async def test_a_changed_claim_is_refused(instance: Instance, good: str) -> None:
    head, _, signature = good.split(".")
    _, claims = parts(good)
    claims |= {"role": "admin", "scope": "users"}
    await refused(instance, f"{head}.{b64(json.dumps(claims).encode())}.{signature}")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
async def test_no_algorithm_is_refused(instance: Instance, good: str, algorithm: str) -> None:
    header, claims = parts(good)
    header["alg"] = algorithm
    await refused(instance, hand_made(header, claims, lambda text: b""))


async def test_hmac_with_the_public_key_is_refused(instance: Instance, good: str) -> None:
    header, claims = parts(good)
    public = instance.identity.signing.signing.public
    for key in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes_raw(),
        b64(public.public_bytes_raw()).encode(),
    ):
        header["alg"] = "HS256"
        token = hand_made(header, claims, lambda text, k=key: hmac.digest(k, text, hashlib.sha256))  # type: ignore[misc]
        await refused(instance, token)


@pytest.mark.parametrize("kid", ["k_unknown", "../../etc/passwd", "", None, 7, ["k"]])
async def test_a_key_that_is_not_ours_is_refused(
    instance: Instance, good: str, kid: object
) -> None:
    header, claims = parts(good)
    header["kid"] = kid
    await refused(
        instance, hand_made(header, claims, instance.identity.signing.signing.private.sign)
    )


async def test_a_key_in_the_header_is_not_looked_at(instance: Instance, good: str) -> None:
    header, claims = parts(good)
    stranger = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(stranger.public_key().public_bytes_raw())}
    header |= {"jwk": jwk, "jku": "https://evil.example/jwks.json"}
    await refused(instance, hand_made(header, claims, stranger.sign))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"aud": "room"}, "invalid_token"),
        ({"aud": ["api", "room"]}, "invalid_token"),
        ({"iss": "https://elsewhere.example"}, "invalid_token"),
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"iat": int(time.time()) + 3600}, "invalid_token"),
        ({"nbf": int(time.time()) + 3600}, "invalid_token"),
        ({"exp": "tomorrow"}, "invalid_token"),
        ({"sub": 7}, "invalid_token"),
        ({"role": "god"}, "invalid_token"),
        ({"scope": None}, "invalid_token"),
        *(
            ({claim: ...}, "invalid_token")
            for claim in ("iss", "aud", "sub", "exp", "iat", "jti", "sid", "scope", "role")
        ),
    ],
)
async def test_signed_by_us_but_wrong_is_refused(
    instance: Instance, good: str, change: Json, code: str
) -> None:
    header, claims = parts(good)
    claims = {k: v for k, v in (claims | change).items() if v is not ...}
    key = instance.identity.signing.signing
    token = jwt.api_jws.encode(
        json.dumps(claims).encode(), key.private, algorithm="EdDSA", headers=header
    )
    await refused(instance, token, code)


async def test_tokens_of_one_kind_do_not_pass_for_another(instance: Instance, good: str) -> None:
    identity = instance.identity
    asked = RoomTokenRequest(subject="bob", grants=Grants(room_join=True))
    room = identity.room_tokens.for_subject("r1", asked, STATIC).token
    invitation = (
        await identity.invitations.create("r1", "member", expires_in_s=60, max_uses=None)
    ).token
    assert invitation is not None
    _, claims = parts(good)
    key = identity.signing.signing
    for typ in (ROOM.typ, INVITATION.typ, "JWT", "", None):
        headers = {"typ": typ, "kid": key.kid}
        token = jwt.api_jws.encode(
            json.dumps(claims).encode(), key.private, algorithm="EdDSA", headers=headers
        )
        await refused(instance, token)
    await refused(instance, invitation)
    answer = await instance.get("me", token=room)
    assert (answer.status, answer.body["kind"], answer.body["room"]) == (200, "guest", "r1")
    assert (await instance.get("keys", token=room)).status == 403
    assert (await instance.post("tickets", {"room": "r2"}, token=room)).status == 403


@pytest.mark.parametrize("text", ["", "x", "eyJ.x.y", "eyJhbGciOiJub25lIn0..", "Bearer", "ü" * 50])
async def test_garbage_is_refused(instance: Instance, text: str) -> None:
    answer = await instance.get("me", headers={"X-API-Key": text})
    assert answer.status == 401


async def test_keys_rotate_with_overlap_on_two_instances(instances: Instances) -> None:
    """A month goes by on both instances' clocks; what was signed stays good as long as it lives."""
    clock = ShiftedClock(-SIGNS_S)
    one = await instances.start(clock=clock)
    two = await instances.start(clock=clock)
    identity, other = one.identity, two.identity
    assert identity.signing.jwks == other.signing.jwks
    first = identity.signing.signing.kid
    exp = time.time() + 3600
    old = identity.tokens.sign(INVITATION, "inv_1", exp, {"room": "r", "room_role": "member"})

    clock.offset_s = -PUBLISH_AHEAD_S + 60
    await identity.signing.reload()
    await other.signing.reload()
    published = [key["kid"] for key in (await two.get("/.well-known/jwks.json")).body["keys"]]
    assert (published[0], len(published)) == (first, 2)
    assert identity.signing.signing.kid == other.signing.signing.kid == first

    clock.offset_s = 60
    assert identity.signing.signing.kid == other.signing.signing.kid == published[1], "by itself"
    clock.offset_s = 0.0
    tokens = await one.user()
    assert parts(tokens["access_token"])[0]["kid"] == published[1]
    assert (await two.get("me", token=tokens["access_token"])).status == 200
    assert (await other.tokens.verify(INVITATION, old))["jti"] == "inv_1"

    clock.offset_s = LONGEST_TOKEN_S + 120
    await identity.signing.reload()
    await other.signing.reload()
    kids = [key["kid"] for key in (await one.get("/.well-known/jwks.json")).body["keys"]]
    assert first not in kids
    assert published[1] in kids
    with pytest.raises(Exception, match="not valid"):
        await other.tokens.verify(INVITATION, old)


async def test_the_jwks_verifies_our_tokens_for_others(instance: Instance, good: str) -> None:
    answer = await instance.get("/.well-known/jwks.json")
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    keys = jwt.PyJWKSet.from_dict(answer.body)
    kid = jwt.get_unverified_header(good)["kid"]
    claims = jwt.decode(good, keys[kid].key, algorithms=["EdDSA"], audience=ACCESS.audience)
    assert claims["name"] == "anna"
    assert "d" not in answer.body["keys"][0], "the private part stays here"
