"""``/api/v1/auth/users`` and ``/api/v1/auth/keys``: users for admins, API keys for all who may."""

from aiohttp import web

from mediaserver.identity.api_keys import check_scopes
from mediaserver.kernel.logging import get_logger
from mediaserver.protocol.identity import (
    ApiKeyInfo,
    ApiKeyList,
    ApiKeyRequest,
    UserChange,
    UserCreate,
    UserInfo,
    UserList,
)
from mediaserver.web import keys
from mediaserver.web.auth import principal_of
from mediaserver.web.bodies import read_json
from mediaserver.web.login import JSON, answer
from mediaserver.web.routing import Content, Routes

log = get_logger(__name__)

_ID = "{id:[A-Za-z0-9_]{1,40}}"


async def _list_users(request: web.Request) -> web.StreamResponse:
    users = await request.app[keys.IDENTITY].users.all()
    return answer(UserList(users=[user.info() for user in users]))


async def _get_user(request: web.Request) -> web.StreamResponse:
    user = await request.app[keys.IDENTITY].users.get(request.match_info["id"])
    return answer(user.info())


async def _create_user(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, UserCreate)
    info = await request.app[keys.IDENTITY].accounts.create(asked)
    response = answer(info, status=201)
    response.headers["Location"] = f"/api/v1/auth/users/{info.id}"
    return response


async def _change_user(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, UserChange)
    return answer(await request.app[keys.IDENTITY].accounts.change(request.match_info["id"], asked))


async def _remove_user(request: web.Request) -> web.StreamResponse:
    await request.app[keys.IDENTITY].accounts.remove(request.match_info["id"])
    return web.Response(status=204)


async def _list_keys(request: web.Request) -> web.StreamResponse:
    principal = principal_of(request)
    owner = None if principal.may("users") else principal.user_id or principal.id
    return answer(ApiKeyList(keys=await request.app[keys.IDENTITY].api_keys.all(owner)))


async def _create_key(request: web.Request) -> web.StreamResponse:
    asked = await read_json(request, ApiKeyRequest)
    principal = principal_of(request)
    scopes: frozenset[str] = frozenset(asked.scopes)
    check_scopes(scopes, principal)
    info = await request.app[keys.IDENTITY].api_keys.create(
        asked.name, scopes, user_id=principal.user_id, expires_in_s=asked.expires_in_s
    )
    log.info("key.created", id=info.id, by=principal.id)
    return answer(info, status=201)


async def _revoke_key(request: web.Request) -> web.StreamResponse:
    principal = principal_of(request)
    owner = None if principal.may("users") else principal.user_id or principal.id
    await request.app[keys.IDENTITY].api_keys.revoke(request.match_info["id"], owner)
    log.info("key.revoked", id=request.match_info["id"], by=principal.id)
    return web.Response(status=204)


def routes() -> Routes:
    """Users and API keys."""
    table = Routes("identity")
    user = {200: Content("The user", JSON, UserInfo)}
    table.add(
        "GET",
        "/api/v1/auth/users",
        _list_users,
        summary="All users",
        scope="users",
        responses={200: Content("By name", JSON, UserList)},
    )
    table.add(
        "POST",
        "/api/v1/auth/users",
        _create_user,
        summary="Add a user",
        description="Without a password a one-time password is made; only this answer has it.",
        scope="users",
        request=(Content("Name, role, password", JSON, UserCreate),),
        responses={201: Content("The user", JSON, UserInfo, headers=(("Location", "The user"),))},
    )
    table.add(
        "GET",
        f"/api/v1/auth/users/{_ID}",
        _get_user,
        summary="A user",
        scope="users",
        responses=user,
    )
    table.add(
        "PATCH",
        f"/api/v1/auth/users/{_ID}",
        _change_user,
        summary="Change a user's role or name, reset its password, or disable it",
        description="A new role or password, or being disabled, ends the user's sessions.",
        scope="users",
        request=(Content("What is to be changed", JSON, UserChange),),
        responses=user,
    )
    table.add(
        "DELETE",
        f"/api/v1/auth/users/{_ID}",
        _remove_user,
        summary="Remove a user with its keys and sessions",
        scope="users",
        responses={204: Content("It is gone")},
    )
    return _add_keys(table)


def _add_keys(table: Routes) -> Routes:
    table.add(
        "GET",
        "/api/v1/auth/keys",
        _list_keys,
        summary="One's own API keys; with the scope users, all",
        scope="keys",
        responses={200: Content("The newest first", JSON, ApiKeyList)},
    )
    table.add(
        "POST",
        "/api/v1/auth/keys",
        _create_key,
        summary="Make an API key",
        description="Only this answer has the key. Its scopes are at most one's own.",
        scope="keys",
        request=(Content("Name, scopes, end", JSON, ApiKeyRequest),),
        responses={201: Content("The key", JSON, ApiKeyInfo)},
    )
    table.add(
        "DELETE",
        f"/api/v1/auth/keys/{_ID}",
        _revoke_key,
        summary="Revoke an API key",
        scope="keys",
        responses={204: Content("It is worthless")},
    )
    return table
