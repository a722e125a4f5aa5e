from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from mediaserver.web.static import HLS_JS, find_file, routes

from .conftest import KEY, Serve


@pytest.fixture
def project(tmp_path: Path) -> Path:
    static, client = tmp_path / "p" / "static", tmp_path / "p" / "clients" / "js"
    (static / "css").mkdir(parents=True)
    client.mkdir(parents=True)
    (static / "index.html").write_text("<!doctype html><title>page</title>")
    (static / "css" / "page.css").write_text("body{}")
    (static / "secret.py").write_text("no")
    (static / ".hidden.js").write_text("no")
    (client / "index.js").write_text("export {};")
    (client / "index.d.ts").write_text("export {};")
    (tmp_path / "outside.html").write_text("outside")
    (static / "link.html").symlink_to(tmp_path / "outside.html")
    return tmp_path / "p"


async def test_the_page_and_its_files_are_served_without_a_key(serve: Serve, project: Path) -> None:
    client = await serve(routes(project), api_key=KEY)
    page = await client.get("/")
    assert (page.status, page.content_type, page.charset) == (200, "text/html", "utf-8")
    assert (await client.get("/static/css/page.css")).content_type == "text/css"
    assert (await client.get("/clients/js/index.js")).content_type == "text/javascript"
    assert (await client.get("/clients/js/index.d.ts")).content_type == "text/plain"


async def test_of_what_npm_brought_only_what_the_page_uses_is_served(
    serve: Serve, project: Path
) -> None:
    client = await serve(routes(project), api_key=KEY)
    answer = await client.get("/vendor/hls.js")
    assert (answer.status, "npm" in await answer.text()) == (404, True)
    (project / HLS_JS / "dist").mkdir(parents=True)
    (project / HLS_JS / "dist" / "hls.min.mjs").write_text("export default class {}")
    (project / HLS_JS / "package.json").write_text("{}")
    assert (await client.get("/vendor/hls.js")).content_type == "text/javascript"
    for other in ("package.json", "hls.worker.js", "hls.min.mjs"):
        assert (await client.get(f"/vendor/{other}")).status == 404


async def test_a_browser_keeps_a_file_and_asks_whether_it_is_the_same(
    serve: Serve, project: Path
) -> None:
    client = await serve(routes(project))
    first = await client.get("/static/css/page.css")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await client.get(
        "/static/css/page.css", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert again.status == 304
    (project / "static" / "css" / "page.css").write_text("body{color:red}")
    changed = await client.get(
        "/static/css/page.css", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (changed.status, await changed.text()) == (200, "body{color:red}")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../outside.html",
        "/static/%2e%2e/%2e%2e/outside.html",
        "/static/css/..%2f..%2f..%2foutside.html",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/link.html",
        "/static/secret.py",
        "/static/.hidden.js",
        "/static/css",
        "/static/css%00.css",
        "/static/..%5coutside.html",
        "/clients/js/%2e%2e/%2e%2e/static/css/page.py",
    ],
)
async def test_nothing_outside_the_folders_is_served(
    serve: Serve, project: Path, path: str
) -> None:
    client = await serve(routes(project))
    response = await client.get(URL(path, encoded=True))
    assert response.status == 404
    assert response.content_type == "application/problem+json"


@given(st.text(alphabet="./\\abc\0%", max_size=30))
def test_no_path_leads_out(relative: str) -> None:
    folder = Path(__file__).parent
    found = find_file(folder, relative)
    assert found is None or found[0].is_relative_to(folder)
