"""The files of examples/server say nothing that the server does not know."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
from serving import serve

from bothways.cli.serve import command

EXAMPLES = Path(__file__).parent.parent / "examples" / "server"


def test_every_metric_of_the_dashboard_is_there(minilm: Path) -> None:
    board = json.loads((EXAMPLES / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\b((?:te|bothways|process)_\w+)", query)}
    assert len(queries) > 15 and len(asked) > 12
    with serve(minilm) as server:
        server.post("/embed", {"inputs": "hello"})
        server.post("/embed", {"inputs": []})
        given = server.get("/metrics").body.decode()
    assert asked <= set(re.findall(r"^(\w+)(?:\{| )", given, re.MULTILINE))


def test_the_settings_file_is_understood() -> None:
    ctx = click.Context(command)
    [config] = [option for option in command.params if option.name == "config"]
    assert isinstance(config, click.Option) and config.callback is not None
    config.callback(ctx, config, str(EXAMPLES / "settings.toml"))
    assert ctx.default_map is not None
    for option in command.params:
        if option.name in ctx.default_map:
            option.type_cast_value(ctx, ctx.default_map[option.name])
    assert ctx.default_map["model"] == ["sentence-transformers/all-MiniLM-L6-v2"]


@pytest.mark.parametrize("name", ["bothways.service", "Dockerfile"])
def test_options_in_files_for_others_exist(name: str) -> None:
    text = (EXAMPLES / name).read_text()
    commands = [line for line in text.splitlines() if line.startswith(("ExecStart=", "# docker run"))]
    assert len(commands) == 1
    flags = set(re.findall(r"(?<!\S)(--[a-z-]+)", commands[0].split("bothways ", 1)[1]))
    assert flags and flags <= {flag for option in command.params for flag in option.opts}
    variables = {option.envvar for option in command.params if isinstance(option, click.Option)}
    assert set(re.findall(r"BOTHWAYS_\w+", text)) <= variables
