"""Accounts over HTTP: who one is, users, and API keys."""

from collections.abc import Iterable

from mediaserver_client.account_types import ApiKey, Principal, Role, Scope, Ticket, User
from mediaserver_client.credentials import Tokens
from mediaserver_client.errors import ClientError
from mediaserver_client.requests import AUTH, Requests, as_list


class AccountsApi(Requests):
    """The part of `Api` that is about accounts."""

    # ---- who one is ------------------------------------------------------------------------

    async def login(self, user: str, password: str) -> Tokens:
        """Log in; what is asked from now on is asked as this user."""
        tokens = await self._login(user, password)
        self.credentials.take(tokens)
        return tokens

    async def refresh(self) -> Tokens:
        """Renew the tokens now; they are renewed by themselves before they expire."""
        await self.credentials.authorization(renew=True)
        if self.credentials.tokens is None:
            raise ClientError("there is nothing to refresh: log in first")
        return self.credentials.tokens

    async def logout(self, *, everywhere: bool = False) -> None:
        """End the login, or all of this user's."""
        await self._request("POST", f"{AUTH}/logout{'-all' if everywhere else ''}", {})
        self.credentials.take(None)

    async def change_password(self, current: str, new: str) -> Tokens:
        """Change one's own password; ends all other logins."""
        body = {"current": current, "new": new}
        tokens = await self._get(Tokens, "POST", f"{AUTH}/password", body)
        self.credentials.take(tokens)
        return tokens

    async def me(self) -> Principal:
        """As whom requests are made; works with any credentials."""
        return await self._get(Principal, "GET", f"{AUTH}/me")

    async def ticket(self, room: str | None = None) -> Ticket:
        """Ask for a WebSocket's ticket, to hand to somebody else; `join_room` needs none."""
        return await self._get(Ticket, "POST", f"{AUTH}/tickets", {"room": room})

    # ---- users (the scope `users`, which admins have) ---------------------------------------

    async def users(self) -> tuple[User, ...]:
        """All users, by name."""
        return as_list(User, await self._request("GET", f"{AUTH}/users"), "users")

    async def user(self, user_id: str) -> User:
        """One user."""
        return await self._get(User, "GET", f"{AUTH}/users/{user_id}")

    async def create_user(
        self,
        name: str,
        *,
        role: Role = "member",
        display_name: str = "",
        password: str | None = None,
    ) -> User:
        """Add a user. Without a `password` one is made: `one_time_password` of the answer."""
        body = {"name": name, "role": role, "display_name": display_name, "password": password}
        return await self._get(User, "POST", f"{AUTH}/users", body)

    async def change_user(
        self, user_id: str, *, role: Role | None = None, display_name: str | None = None
    ) -> User:
        """Change what is not None. A new role ends the user's logins."""
        return await self._patch_user(user_id, role=role, display_name=display_name)

    async def reset_password(self, user_id: str) -> User:
        """Make a new `one_time_password`, to be changed at the next login; ends all logins."""
        return await self._patch_user(user_id, reset_password=True)

    async def disable_user(self, user_id: str) -> User:
        """Keep a user out: no login, and its API keys rest; ends all logins."""
        return await self._patch_user(user_id, disabled=True)

    async def enable_user(self, user_id: str) -> User:
        """Let a disabled user in again."""
        return await self._patch_user(user_id, disabled=False)

    async def remove_user(self, user_id: str) -> None:
        """Remove a user with its API keys and logins."""
        await self._request("DELETE", f"{AUTH}/users/{user_id}")

    async def _patch_user(self, user_id: str, **changes: object) -> User:
        return await self._get(User, "PATCH", f"{AUTH}/users/{user_id}", changes)

    # ---- API keys (the scope `keys`) --------------------------------------------------------

    async def keys(self) -> tuple[ApiKey, ...]:
        """One's own keys, the newest first; with the scope `users` everybody's."""
        return as_list(ApiKey, await self._request("GET", f"{AUTH}/keys"), "keys")

    async def create_key(
        self, name: str, scopes: Iterable[Scope], *, expires_in_s: int | None = None
    ) -> ApiKey:
        """Make a key: only this answer has its `key`. Its scopes are at most one's own."""
        body = {"name": name, "scopes": list(scopes), "expires_in_s": expires_in_s}
        return await self._get(ApiKey, "POST", f"{AUTH}/keys", body)

    async def revoke_key(self, key_id: str) -> None:
        """Make a key worthless."""
        await self._request("DELETE", f"{AUTH}/keys/{key_id}")
