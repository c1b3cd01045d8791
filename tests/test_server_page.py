"""The page at /docs: it is in the package, it asks nobody but its own server, and a browser shows the document."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the server's requirements are not installed")
from serving import Server, serve
from task_checkpoints import save_task

PARTS = {
    "/docs": ("index.html", "text/html"),
    "/docs/page.js": ("page.js", "text/javascript"),
    "/docs/page.css": ("page.css", "text/css"),
}
KEY = "a key"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_task(tmp_path_factory.mktemp("page") / "moods", "bert", "classification")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serve(folder) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[Server]:
    with serve(folder, api_key=KEY, protect_metrics=True) as server:
        yield server


def packaged(name: str) -> str:
    return (files("bothways.server") / "page" / name).read_text("utf-8")


def test_parts_are_packaged_and_small() -> None:
    names = [name for name, _ in PARTS.values()]
    assert sorted(path.name for path in (files("bothways.server") / "page").iterdir()) == sorted(names)
    assert sum(len(packaged(name).encode()) for name in names) < 20_000


@pytest.mark.parametrize("name", [name for name, _ in PARTS.values()])
def test_parts_name_no_other_place(name: str) -> None:
    assert not re.search(r"https?:|[\"'(]//|@import", packaged(name))


def test_nothing_is_inline_and_nothing_is_parsed_as_html() -> None:
    page = packaged("index.html")
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]
    assert not re.search(r"<style|\sstyle=|\son\w+=", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", packaged("page.js"))
    assert not re.search(r"localStorage|sessionStorage|document\.cookie|indexedDB", packaged("page.js"))


@pytest.mark.parametrize("path", list(PARTS))
def test_parts_are_served_with_a_policy(server: Server, guarded: Server, path: str) -> None:
    name, content_type = PARTS[path]
    for one in (server, guarded):
        reply = one.get(path)
        assert (reply.status, reply.body.decode()) == (200, packaged(name))
        assert reply.headers["content-type"] == f"{content_type}; charset=utf-8"
        policy = reply.headers["content-security-policy"].split("; ")
        assert policy[0] == "default-src 'self'"
        assert not any("unsafe" in rule or "*" in rule for rule in policy)
        assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/docs/app.py", "/docs/index.html", "/docs/..%2fapp.py", "/docs/.", "/docs/page.jsx"])
def test_nothing_else_is_served(server: Server, path: str) -> None:
    assert server.get(path).status == 404


def test_the_document_can_be_protected(guarded: Server) -> None:
    assert guarded.get("/openapi.json").status == 401
    assert guarded.get("/openapi.json", authorization=f"Bearer {KEY}").status == 200


def test_a_browser_shows_every_route(server: Server, tmp_path: Path) -> None:
    shown = in_browser(server.url + "/docs", tmp_path)
    document = server.get("/openapi.json").json()
    ids = {operation["operationId"] for ways in document["paths"].values() for operation in ways.values()}
    assert set(re.findall(r'<details class="route" id="([^"]+)"', shown)) == ids
    assert all(f"<h2>{tag['name']}</h2>" in shown for tag in document["tags"])


def test_a_browser_shows_the_route_that_is_named(server: Server, tmp_path: Path) -> None:
    shown = in_browser(server.url + "/docs#post_predict", tmp_path)
    text = re.search(r'<details class="route" id="post_predict" open="">.*?</section>', shown, re.DOTALL)
    assert text, shown
    for words in ("truncation_direction", "required", ">Send</button>", "Leave scores as the network gives them."):
        assert words in text[0]


def test_a_browser_is_told_that_a_key_is_asked_for(guarded: Server, tmp_path: Path) -> None:
    assert "asks for an API key" in in_browser(guarded.url + "/docs", tmp_path)


def in_browser(address: str, folder: Path) -> str:
    """The page as Chromium has it when all is loaded."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium here, so the page is not looked at in a browser")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += [f"--user-data-dir={folder / 'browser'}", "--virtual-time-budget=10000", "--enable-logging=stderr"]
    ran = subprocess.run([browser, *options, "--dump-dom", address], capture_output=True, text=True, timeout=90)
    assert ran.returncode == 0, ran.stderr
    assert "Content Security Policy" not in ran.stderr and "Uncaught" not in ran.stderr, ran.stderr
    return ran.stdout


def test_examples_in_the_document_are_answered(server: Server) -> None:
    schema = server.get("/openapi.json").json()["components"]["schemas"]["PredictRequest"]
    body = {name: schema["properties"][name]["examples"][0] for name in schema["required"]}
    assert server.ask("/predict", body), json.dumps(body)
