"""The web app and the JavaScript client, served from the checkout's folders.

File names carry no version, so every answer says ``no-cache``: a browser keeps the file and asks
with its ETag whether it is still the same (304 most of the time).
"""

import asyncio
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from mediaserver.kernel.errors import NotFound
from mediaserver.web.routing import Routes

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
CONTENT_TYPES = {
    ".css": "text/css",
    ".d.ts": "text/plain",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Only these are served. They do not depend on what the machine thinks of a file's name."""
HLS_JS = Path("vendor/node_modules/hls.js")
"""Where `make run` puts it, if npm is there."""
VENDORED = {
    "hls.js": (HLS_JS / "dist/hls.min.mjs", "text/javascript"),
    "hls.worker.js": (HLS_JS / "dist/hls.worker.js", "text/javascript"),
    "hls.LICENSE.txt": (HLS_JS / "LICENSE", "text/plain"),
}
"""Name under /vendor: the file in the checkout, its media type."""
_WITH_CHARSET = frozenset({"text/css", "text/html", "text/javascript", "text/plain"})


def content_type(name: str) -> str | None:
    """Return the media type of a file that may be served, else None."""
    if name.startswith("."):
        return None
    for suffix in ("".join(Path(name).suffixes[-2:]), Path(name).suffix):
        if (kind := CONTENT_TYPES.get(suffix.lower())) is not None:
            return kind
    return None


def find_file(folder: Path, relative: str) -> tuple[Path, str] | None:
    """Return the file and its media type, or None unless it lies in `folder` and may be served.

    Links that lead out of the folder, hidden files and folders, and NUL bytes are refused.
    """
    parts = relative.split("/")
    if "\0" in relative or "\\" in relative or any(part.startswith(".") for part in parts):
        return None
    root = folder.resolve()
    path = (root / relative).resolve()
    kind = content_type(path.name)
    if kind is None or not path.is_relative_to(root) or not path.is_file():
        return None
    return path, kind


def file_response(path: Path, kind: str, cache: str = "no-cache") -> web.FileResponse:
    """Answer with a file; ETag, Last-Modified, 304 and ranges come with it."""
    value = f"{kind}; charset=utf-8" if kind in _WITH_CHARSET else kind
    return web.FileResponse(path, headers={"Content-Type": value, "Cache-Control": cache})


def serve_folder(folder: Path, *, index: str | None = None, cache: str = "no-cache") -> Handler:
    """Return a handler for files of `folder`; `index` names the file where the path has none."""

    async def serve(request: web.Request) -> web.StreamResponse:
        relative = request.match_info.get("path", index or "")
        found = await asyncio.to_thread(find_file, folder, relative)
        if found is None:
            raise NotFound(f"there is no file {relative!r} here")
        return file_response(*found, cache=cache)

    return serve


def serve_vendored(project_dir: Path) -> Handler:
    """Return the handler of /vendor: what comes from npm, if it was fetched."""

    async def serve(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        path, kind = VENDORED.get(name, (None, ""))
        if path is None or not await asyncio.to_thread((project_dir / path).is_file):
            raise NotFound(
                f"there is no file {name!r} here; `make run` fetches hls.js where npm is installed"
            )
        return file_response(project_dir / path, kind)

    return serve


def routes(project_dir: Path = PROJECT_DIR) -> Routes:
    """What the page is made of, all of it without a key: the page asks for one."""
    static = project_dir / "static"
    files = {"public": True, "hidden": True}
    return (
        Routes("web app")
        .add("GET", "/", serve_folder(static, index="index.html"), summary="The web app", **files)
        .add(
            "GET",
            "/static/{path:.+}",
            serve_folder(static),
            summary="Files of the web app",
            **files,
        )
        .add(
            "GET",
            "/clients/js/{path:.+}",
            serve_folder(project_dir / "clients" / "js"),
            summary="The JavaScript client",
            **files,
        )
        .add(
            "GET",
            "/vendor/{name}",
            serve_vendored(project_dir),
            summary="Libraries of the web app",
            **files,
        )
    )
