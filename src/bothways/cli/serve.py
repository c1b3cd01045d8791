"""`bothways serve`: models over HTTP. Every option is also an environment variable, and a key of --config's file."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bothways.cli.options import verbose_option
from bothways.errors import BothwaysError, InputError
from bothways.server.settings import Settings
from bothways.spec import DTYPES

__all__ = ["command"]

_PREFIX = "BOTHWAYS"


class _Option(click.Option):
    """An option whose errors name the environment variable where the value came from there."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Name what was set."""
        source = ctx.get_parameter_source(self.name or "") if ctx is not None else None
        if source is ParameterSource.ENVIRONMENT:
            return f"the environment variable {self.envvar}"
        return super().get_error_hint(ctx)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Read the environment variable; Kubernetes sets some to addresses where a service is called bothways."""
        value = super().resolve_envvar_value(ctx)
        return None if value is not None and value.startswith("tcp://") else value


def _option(flag: str, help: str, *, name: str = "", **more: Any) -> click.Option:
    """An option whose environment variable is its own name in capitals, and whose default is that of `Settings`."""
    plain = flag.split("/")[0].removeprefix("--").replace("-", "_")
    default = _DEFAULTS.get(plain)
    if default and not more.get("multiple"):
        more = {"default": default, "show_default": True, **more}
    names = (flag, name) if name else (flag,)
    return _Option(names, help=help, envvar=f"{_PREFIX}_{plain.upper()}", **more)


def _size(flag: str, help: str, metavar: str = "N") -> click.Option:
    return _option(flag, help, type=click.IntRange(min=1), metavar=metavar)


def _seconds(flag: str, help: str) -> click.Option:
    return _option(flag, help, type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")


def _several(flag: str, help: str, metavar: str, *, name: str = "") -> click.Option:
    return _option(flag, help, multiple=True, metavar=metavar, name=name)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Settings)}
_LEVELS = ("debug", "info", "warning", "error")

_OPTIONS = (
    _several("--model", "A folder, hub name or pkg:package/folder; once for each model.", "NAME"),
    _several("--served-model-name", "What clients call it, else the folder's own or the hub name.", "NAME"),
    _several("--revision", "A hub name's commit; one for all, or one for each.", "COMMIT"),
    _several("--ranges", "A .npy file of the ranges for int8 and uint8 vectors.", "[NAME=]FILE"),
    _option("--dtype", "The arithmetic's number type.", type=click.Choice(DTYPES)),
    _size("--threads", "CPU threads of each process; see `bothways doctor`."),
    _size("--max-length", "The most tokens of a text."),
    _option("--truncation/--no-truncation", "Cut texts that are too long, unless a request says."),
    _option("--refuse-empty", "Make an empty text an error.", is_flag=True),
    _option("--host", "The address to listen on.", metavar="ADDRESS"),
    _option("--port", "The port; 0 takes a free one.", type=click.IntRange(0, 65535), metavar="N"),
    _option("--uds", "Listen on this unix socket instead.", metavar="PATH"),
    _size("--workers", "Processes, each with the models."),
    _several("--api-key", "Ask for this key; may be given several times.", "KEY", name="api_keys"),
    _option("--api-key-file", "Ask for one of these keys, one a line.", metavar="FILE"),
    _option("--protect-metrics", "Ask for a key at /metrics and /openapi.json too.", is_flag=True),
    _several("--cors-origin", "Let pages of this origin call.", "ORIGIN", name="cors_origins"),
    _option("--tls-cert", "The certificate (PEM); serve https.", metavar="FILE"),
    _option("--tls-key", "The certificate's key (PEM).", metavar="FILE"),
    _size("--max-body-bytes", "The most bytes of a request.", "BYTES"),
    _size("--max-items", "The most texts of a request."),
    _size("--max-text-chars", "The most characters of a text."),
    _size("--max-request-tokens", "The most tokens of a request."),
    _size("--max-answer-bytes", "The most bytes of an answer.", "BYTES"),
    _size("--max-queue-requests", "The most requests at once."),
    _size("--max-queue-tokens", "The most tokens at once."),
    _size("--max-queue-bytes", "The most bytes of requests and answers at once.", "BYTES"),
    _seconds("--request-timeout", "Give a request up after so long."),
    _seconds("--body-timeout", "Time to send a request."),
    _size("--keep-alive", "Keep idle connections so long.", "SECONDS"),
    _size("--shutdown-timeout", "Time to end when stopped.", "SECONDS"),
    _option("--log-format", "Lines or JSON.", type=click.Choice(("text", "json"))),
    _option("--log-level", "How much to write.", type=click.Choice(_LEVELS)),
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
            near = difflib.get_close_matches(name, [option for option in known if option], 1)
            hint = f"; is {near[0].replace('_', '-')} meant?" if near else "; see bothways serve --help"
            raise InputError(f"{path} sets {key}, which is no option{hint}")
        option = known[name]
        value = [value] if option.multiple and not isinstance(value, list) else value
        if isinstance(value, list) and not option.multiple:
            raise InputError(f"{path} sets {key} to a list; it takes one value")
        try:
            if isinstance(option.type, click.IntRange) and type(value) is not int:
                raise click.BadParameter("it must be a whole number")
            if isinstance(option.type, click.FloatRange) and type(value) not in (int, float):
                raise click.BadParameter("it must be a number")
            option.type_cast_value(ctx, value)
        except click.BadParameter as error:
            raise InputError(f"{path} sets {key} to {value!r}: {error.message.rstrip('.')}") from None
        found[name] = value
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
    _warn_unknown_variables()
    if not options["model"]:
        raise click.UsageError("no model given: pass --model NAME, or set BOTHWAYS_MODEL")
    try:
        from bothways.server.run import serve
    except ModuleNotFoundError as error:
        raise BothwaysError(f"the server needs {error.name}; pip install 'bothways[server]'") from None
    keys = (*_split_keys(options.pop("api_keys")), *_read_keys(api_key_file))
    serve(Settings(api_keys=keys, **options))


#: Variables of other commands, of the library, its tests and its benches.
_OTHER_VARIABLES = {"BOTHWAYS_LEVEL", "BOTHWAYS_DATA", "BOTHWAYS_FUZZ_ROUNDS", "BOTHWAYS_SANITIZE", "BOTHWAYS_CONFIG"}


#: What Kubernetes sets where a service is called bothways.
_KUBERNETES = (f"{_PREFIX}_SERVICE_", f"{_PREFIX}_PORT_")


def _warn_unknown_variables() -> None:
    """Name variables that look like settings and are none: a limit that is misspelled should not fail unseen."""
    known = {option.envvar for option in _OPTIONS} | _OTHER_VARIABLES
    strange = (name for name in os.environ if name.startswith(f"{_PREFIX}_") and name not in known)
    for name in sorted(name for name in strange if not name.startswith(_KUBERNETES)):
        hint = f"; set {name.replace('_NO_', '_', 1)}=0" if name.replace("_NO_", "_", 1) in known else ""
        click.echo(f"warning: the environment variable {name} is no setting and has no effect{hint}", err=True)


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
