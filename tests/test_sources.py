"""Model names lead to folders: local ones, packages, and a hub played by a server on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import COMMIT, NEWER, WANTED, Hub

from bothways import sources
from bothways.errors import InputError, ModelNotFound
from bothways.sources import resolve


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    yield server
    server.shutdown()
    server.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(sources, "_noted", set())
    monkeypatch.delenv("BOTHWAYS_REQUIRE_PINNED", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def held(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# Folders.


def test_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    source = resolve(tmp_path)
    assert (source.folder, source.name, source.revision) == (tmp_path, str(tmp_path), None)
    assert resolve(str(tmp_path)).folder == tmp_path


def test_local_folder_wins_over_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name").folder == Path("org/name")
    assert hub.requests == []


def test_local_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only a hub name has revisions"):
        resolve(tmp_path, revision="main")


@pytest.mark.parametrize(
    "name", ["", ".hidden", "./absent", "/absent", "a/b/c", "~/m", "a\\b", "a b", "nul\0", "x" * 5000 + "/y/z"]
)
def test_name_that_can_only_be_a_path_never_reaches_the_hub(hub: Hub, name: str) -> None:
    with pytest.raises(ModelNotFound, match="neither an existing folder nor a hub name"):
        resolve(name)
    assert hub.requests == []


def test_file_instead_of_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelNotFound, match="is a file; name its folder"):
        resolve(tmp_path / "model.safetensors")


# Packages.


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "carried_models"
    (root / "sub" / "small").mkdir(parents=True)
    (root / "sub" / "small" / "config.json").write_text("{}")
    (root / "__init__.py").write_text("raise RuntimeError('the code of a carrying package must not run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


def test_package_folder_is_found_without_running_the_package(package: Path) -> None:
    source = resolve("pkg:carried_models/sub/small")
    assert source.folder == package / "sub" / "small"
    assert source.revision is None
    assert "carried_models" not in sys.modules


def test_package_root_can_be_the_checkpoint(package: Path) -> None:
    (package / "config.json").write_text("{}")
    assert resolve("pkg:carried_models").folder == package


def test_package_that_is_not_installed_says_how_to_install_it() -> None:
    with pytest.raises(ModelNotFound, match="no Python package 'absent_models' .*pip install absent-models"):
        resolve("pkg:absent_models/model")


def test_package_folder_without_a_checkpoint_says_what_is_there(package: Path) -> None:
    with pytest.raises(ModelNotFound, match="the package's folders with a config.json are: sub/small"):
        resolve("pkg:carried_models/large")
    with pytest.raises(ModelNotFound, match="the folder holds small; name the folder that holds config.json"):
        resolve("pkg:carried_models/sub")
    with pytest.raises(ModelNotFound, match="folders with a config.json are: none"):
        resolve("pkg:json/model")


@pytest.mark.parametrize(
    "name", ["pkg:", "pkg:/x", "pkg:a-b/x", "pkg:a.b/x", "pkg:carried_models/../x", "pkg:json//etc"]
)
def test_malformed_package_name_is_explained(package: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match="not of the form pkg:package/folder"):
        resolve(name)


# The hub.


def test_download_brings_what_a_checkpoint_needs_and_no_pickle(hub: Hub) -> None:
    source = resolve("org/name", revision=COMMIT)
    assert held(source.folder) == WANTED
    assert (source.name, source.revision) == ("org/name", COMMIT)


def test_pinned_name_in_the_cache_asks_the_network_nothing(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    first = resolve("org/name", revision=COMMIT)
    hub.requests.clear()
    capsys.readouterr()
    assert resolve("org/name", revision=COMMIT) == first
    assert hub.requests == []
    assert capsys.readouterr().err == ""


def test_unpinned_name_in_the_cache_asks_the_network_nothing(hub: Hub) -> None:
    first = resolve("org/name")
    hub.requests.clear()
    hub.head = NEWER
    assert resolve("org/name") == first
    assert hub.requests == []


def test_unpinned_name_is_noted_once_with_its_commit(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve("org/name").revision == COMMIT
    resolve("org/name")
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes == [f'note: org/name is not pinned and led to commit {COMMIT}; pin it with revision="{COMMIT}"']


def test_tag_is_not_a_pin(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve("org/name", revision="v1").revision == COMMIT
    assert f"note: org/name at v1 is not pinned and led to commit {COMMIT}" in capsys.readouterr().err


def test_cache_filled_by_others_file_by_file_is_completed(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download("org/name", "config.json")
    hf_hub_download("org/name", "model.safetensors")
    assert held(resolve("org/name").folder) == WANTED


def test_interrupted_download_is_completed(hub: Hub) -> None:
    folder = resolve("org/name").folder
    (folder / "modules.json").unlink()
    assert held(resolve("org/name").folder) == WANTED


def test_cache_serves_when_the_network_is_down(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download("org/name", "config.json")
    use_hub(monkeypatch, f"http://127.0.0.1:{_closed_port()}", tmp_path / "cache")
    assert held(resolve("org/name").folder) == {"config.json"}


def test_offline_uses_the_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve("org/name")
    hub.requests.clear()
    go_offline(monkeypatch)
    assert resolve("org/name") == first
    assert resolve("org/name", revision=COMMIT).folder == first.folder
    assert hub.requests == []


@pytest.mark.parametrize("name", ["org/name", "legacy-name"])
@pytest.mark.parametrize("revision", [None, COMMIT])
def test_offline_and_not_in_the_cache_is_explained(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, revision: str | None
) -> None:
    go_offline(monkeypatch)
    with pytest.raises(ModelNotFound, match="not all in the hub cache .*HF_HUB_OFFLINE forbids"):
        resolve(name, revision)
    assert hub.requests == []


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_network_down_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_hub(monkeypatch, f"http://127.0.0.1:{_closed_port()}", tmp_path)
    with pytest.raises(ModelNotFound, match=r"downloading it from http://127.*failed \(Connect.*check the network"):
        resolve("org/name")


@pytest.mark.parametrize(
    ("status", "code", "match"),
    [
        (404, "RepoNotFound", "neither a folder here nor a model on the hub"),
        (401, "RepoNotFound", r"does not show such a model \(status 401\).*private.*hf auth login"),
        (401, "", r"does not show such a model \(status 401\)"),
        (401, "GatedRepo", r"is gated \(status 401\): accept its terms at http://.*/org/secret"),
        (403, "GatedRepo", r"is gated \(status 403\)"),
        (403, "", r"does not show such a model \(status 403\)"),
        (418, "", "the hub answered 418"),
    ],
)
def test_refusals_of_the_hub_are_told_apart(hub: Hub, status: int, code: str, match: str) -> None:
    hub.refusals["org/secret"] = (status, code)
    with pytest.raises(ModelNotFound, match=match):
        resolve("org/secret")


def test_gate_in_front_of_the_files_alone_is_explained(hub: Hub) -> None:
    hub.gated_files = True
    with pytest.raises(ModelNotFound, match="'org/secret' is gated"):
        resolve("org/secret")


def test_unknown_revision_is_named(hub: Hub) -> None:
    with pytest.raises(ModelNotFound, match="has no revision 'v9'; see http.*/org/name/commits/main"):
        resolve("org/name", revision="v9")


# Pinning required.


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT[:12], COMMIT.upper()])
def test_required_pin_refuses_anything_but_a_commit(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    monkeypatch.setenv("BOTHWAYS_REQUIRE_PINNED", "1")
    with pytest.raises(InputError, match="BOTHWAYS_REQUIRE_PINNED is set.*40 hexadecimal digits"):
        resolve("org/name", revision)
    assert hub.requests == []


def test_required_pin_accepts_commits_and_folders(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOTHWAYS_REQUIRE_PINNED", "1")
    assert resolve("org/name", COMMIT).revision == COMMIT
    assert resolve(tmp_path).folder == tmp_path


@pytest.mark.parametrize("value", ["", "0"])
def test_required_pin_can_be_switched_off(hub: Hub, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BOTHWAYS_REQUIRE_PINNED", value)
    assert resolve("org/name").revision == COMMIT


# A process of its own.


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_environment_variables_of_the_hub_are_respected(hub: Hub, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    code = "from bothways.sources import resolve; print(resolve('org/name').revision)"
    online = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path / "other"), "HF_HUB_OFFLINE": "0"}
    assert run(code, **online | {"HF_HUB_OFFLINE": "1"}).stderr.count("HF_HUB_OFFLINE forbids") == 1
    assert run(code, **online).stdout == COMMIT + "\n"
    hub.requests.clear()
    assert run(code, **online | {"HF_HUB_OFFLINE": "1"}).stdout == COMMIT + "\n"
    assert hub.requests == []


def test_local_folders_do_not_load_the_hub_client(package: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(package.parent)!r})
from bothways.sources import resolve
print(resolve({str(package)!r}).name == resolve("pkg:carried_models/sub/small").name, "huggingface_hub" in sys.modules)
"""
    assert run(code).stdout == "False False\n"


def test_a_file_whose_name_could_be_on_the_hub_is_never_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.safetensors").touch()
    with pytest.raises(ModelNotFound, match="'model.safetensors' is a file; name its folder"):
        resolve("model.safetensors")


@pytest.mark.parametrize("model", [None, b"org/name", 3])
def test_a_model_that_is_no_name_is_refused(model: Any) -> None:
    with pytest.raises(InputError, match="model is .*; pass a folder, pkg:package/folder, or a hub name"):
        resolve(model)


def test_a_revision_that_is_no_name_is_refused() -> None:
    with pytest.raises(InputError, match="revision is 7; pass a commit, tag or branch"):
        resolve("org/name", 7)  # type: ignore[arg-type]
