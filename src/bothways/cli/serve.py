"""`bothways serve`: models over HTTP. Every option is also an environment variable, and a key of --config's file."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import click

from bothways.cli.options import verbose_option
from bothways.errors import BothwaysError, InputError
from bothways.spec import DTYPES

__all__ = ["command"]

_PREFIX = "BOTHWAYS"


def _option(flag: str, help: str, *, name: str = "", **more: Any) -> click.Option:
    """An option whose environment variable is its own name in capitals."""
    variable = f"{_PREFIX}_{flag.split('/')[0].removeprefix('--').replace('-', '_').upper()}"
    names = (flag, name) if name else (flag,)
    return click.Option(names, help=help, envvar=variable, show_default="default" in more, **more)


def _default(name: str) -> Any:
    from bothways.server.settings import Settings

    return {field.name: field.default for field in dataclasses.fields(Settings)}[name]


_SIZE = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)

_OPTIONS = (
    _option("--model", "A folder, hub name or pkg:package/folder; once for each model.", multiple=True, metavar="NAME"),
    _option("--served-model-name", "What clients call it; once for each model.", multiple=True, metavar="NAME"),
    _option("--revision", "A hub name's commit; one for all, or one for each.", multiple=True, metavar="COMMIT"),
    _option("--dtype", "The arithmetic's number type.", type=click.Choice(DTYPES), default=_default("dtype")),
    _option("--threads", "CPU threads; see `bothways doctor`.", type=_SIZE, metavar="N"),
    _option("--max-length", "The most tokens of a text.", type=_SIZE, metavar="N"),
    _option("--truncation/--no-truncation", "Cut texts that are too long, unless a request says.", default=True),
    _option("--refuse-empty", "Make an empty text an error.", is_flag=True),
    _option("--host", "The address to listen on.", default=_default("host")),
    _option("--port", "The port; 0 takes a free one.", type=click.IntRange(0, 65535), default=_default("port")),
    _option("--uds", "Listen on this unix socket instead.", metavar="PATH"),
    _option("--workers", "Processes, each with the models.", type=_SIZE, default=_default("workers")),
    _option(
        "--api-key", "Ask for this key; may be given several times.", name="api_keys", multiple=True, metavar="KEY"
    ),
    _option(
        "--api-key-file", "Ask for one of these keys, one a line.", type=click.Path(dir_okay=False), metavar="FILE"
    ),
    _option("--protect-metrics", "Ask for a key at /metrics and /openapi.json too.", is_flag=True),
    _option("--cors-origin", "Let pages of this origin call.", name="cors_origins", multiple=True, metavar="ORIGIN"),
    _option("--tls-cert", "The certificate (PEM); serve https.", metavar="FILE"),
    _option("--tls-key", "The certificate's key (PEM).", metavar="FILE"),
    _option("--max-body-bytes", "The most bytes of a request.", type=_SIZE, default=_default("max_body_bytes")),
    _option("--max-items", "The most texts of a request.", type=_SIZE, default=_default("max_items")),
    _option("--max-text-chars", "The most characters of a text.", type=_SIZE, default=_default("max_text_chars")),
    _option(
        "--max-request-tokens", "The most tokens of a request.", type=_SIZE, default=_default("max_request_tokens")
    ),
    _option("--max-queue-requests", "The most requests at once.", type=_SIZE, default=_default("max_queue_requests")),
    _option("--max-queue-tokens", "The most tokens at once.", type=_SIZE, default=_default("max_queue_tokens")),
    _option(
        "--request-timeout", "Give a request up after so long.", type=_SECONDS, default=_default("request_timeout")
    ),
    _option("--body-timeout", "Time to send a request.", type=_SECONDS, default=_default("body_timeout")),
    _option("--keep-alive", "Keep idle connections so long.", type=_SECONDS, default=_default("keep_alive")),
    _option("--shutdown-timeout", "Time to end when stopped.", type=_SECONDS, default=_default("shutdown_timeout")),
    _option("--log-format", "Lines or JSON.", type=click.Choice(("text", "json")), default=_default("log_format")),
    _option(
        "--log-level",
        "How much to write.",
        type=click.Choice(("debug", "info", "warning", "error")),
        default=_default("log_level"),
    ),
    _option("--access-log", "Write a line for every request, not only for failures.", is_flag=True),
    _option("--log-texts", "Write request bodies to the log, for debugging.", is_flag=True),
    _option("--otlp-endpoint", "Send OpenTelemetry spans there (OTLP over HTTP).", metavar="URL"),
)


def _read_config(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    """Take what flags and environment leave open from a file."""
    if path is None:
        return
    try:
        values = _toml().loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"can't read the settings in {path}: {error}; it must be a TOML file") from None
    known = {option.name: option for option in ctx.command.params if isinstance(option, click.Option)}
    found = {}
    for key, value in values.items():
        name = {"api_key": "api_keys", "cors_origin": "cors_origins"}.get(key.replace("-", "_"), key.replace("-", "_"))
        if name not in known or name == "config":
            raise InputError(f"{path} sets {key}, which is no option; see bothways serve --help")
        found[name] = [value] if known[name].multiple and not isinstance(value, list) else value
    ctx.default_map = found


def _toml() -> Any:
    try:
        return importlib.import_module("tomllib")
    except ModuleNotFoundError:  # before Python 3.11
        return importlib.import_module("tomli")


@click.command("serve", short_help="Serve models over HTTP to the clients of other APIs.", params=list(_OPTIONS))
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    envvar=f"{_PREFIX}_CONFIG",
    help="A TOML file with any of these options; flags and environment variables win.",
)
@verbose_option
def command(*, api_key_file: str | None, **options: Any) -> None:
    """Serve models over HTTP.

    Clients of OpenAI, Text Embeddings Inference, Cohere, Jina, Infinity and Hugging Face's endpoints can call it, and
    bothways.Client. GET /docs shows every route. Each option may also be given as an environment variable, such as
    BOTHWAYS_MAX_ITEMS for --max-items (several values with spaces between), or in the file that --config names.
    """
    if not options["model"]:
        raise click.UsageError("no model given: pass --model NAME, or set BOTHWAYS_MODEL")
    try:
        from bothways.server.run import serve
        from bothways.server.settings import Settings
    except ModuleNotFoundError as error:
        raise BothwaysError(f"the server needs {error.name}; pip install 'bothways[server]'") from None
    keys = (*_split_keys(options.pop("api_keys")), *_read_keys(api_key_file))
    serve(Settings(api_keys=keys, **options))


def _split_keys(given: tuple[str, ...]) -> list[str]:
    """Keys, which may stand with commas between them; none may be empty, as that would let everybody in."""
    keys = [key.strip() for each in given for key in each.split(",")]
    if not all(keys):
        raise InputError("an API key is empty; give --api-key a key, or leave it out to let everybody in")
    return keys


def _read_keys(path: str | None) -> tuple[str, ...]:
    if path is None:
        return ()
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read the keys in {path}: {error}") from None
    keys = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise InputError(f"{path} has no keys; write one a line")
    return keys
