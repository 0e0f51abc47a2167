"""The login for Kaggle: sent to Kaggle's API over https, and nowhere else."""

from __future__ import annotations

import base64
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mnv1cli.errors import SourceError, StatusError

if TYPE_CHECKING:
    from mnv1cli.errors import ModuleError

log = logging.getLogger(__name__)

HOST = "www.kaggle.com"
API_PATH = "/api/v1/models/"

_SETTINGS = f"https://{HOST}/settings"
_CREDENTIALS = "kaggle.json"
_TOKEN_FILES = ("access_token", "access_token.txt")


def authorize(url: str) -> str:
    """Return the Authorization header of a request: a login for Kaggle's API, else empty.

    The login is a token in KAGGLE_API_TOKEN or in a file that this names, or in
    `~/.kaggle/access_token`; else a name and a key in KAGGLE_USERNAME and KAGGLE_KEY, or in the
    `kaggle.json` of KAGGLE_CONFIG_DIR or `~/.kaggle`.

    Raises:
        SourceError: the login has characters that none can have.
    """
    if not _is_api(url):
        return ""
    token, name_and_key = _read_token(), _read_name_and_key()
    if not (token or name_and_key):
        return ""
    if not f"{token}{name_and_key}".isascii() or not f"{token}{name_and_key}".isprintable():
        raise SourceError("the login for Kaggle is not one line of plain characters")
    if token:
        return f"Bearer {token}"
    return f"Basic {base64.b64encode(name_and_key.encode()).decode()}"


def _is_api(url: str) -> bool:
    """Return whether a request goes to Kaggle's API itself, encrypted.

    Two parsers have to agree: another one may see another host in the same URL.
    """
    from urllib3.util import parse_url

    parts, parsed = urlsplit(url), parse_url(url)
    places = {
        (parts.scheme, parts.hostname, parts.port or 443),
        (parsed.scheme, parsed.host, parsed.port or 443),
    }
    return places == {("https", HOST, 443)} and parts.path.startswith(API_PATH)


def _read_token() -> str:
    setting = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    if setting:
        text = _read_text(Path(setting))
        return setting if text is None else text
    folder = Path.home() / ".kaggle"
    return next(filter(None, (_read_text(folder / name) for name in _TOKEN_FILES)), "")


def _read_text(path: Path) -> str | None:
    """Read a file of one value, None if there is no such file."""
    try:
        return path.read_text("utf-8").strip() if path.is_file() else None
    except (OSError, ValueError):
        return None


def _read_name_and_key() -> str:
    """Return `NAME:KEY`, empty without both."""
    name, key = (os.environ.get(f"KAGGLE_{part}", "").strip() for part in ("USERNAME", "KEY"))
    if name and key:
        return f"{name}:{key}"
    folder = os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle"
    path = Path(folder).expanduser() / _CREDENTIALS
    text = _read_text(path)
    if not text:
        return ""
    try:
        entries = json.loads(text)
        return f"{entries['username']}:{entries['key']}"
    except (ValueError, KeyError, TypeError):
        log.warning("%s is ignored: it does not hold a username and a key", path)
        return ""


def explain(error: ModuleError) -> str:
    """Return the reason of a failure, for a refusal by Kaggle with what to do about it."""
    if not isinstance(error, StatusError) or not _is_api(error.url):
        return str(error)
    has_login = bool(_read_token() or _read_name_and_key())
    status = f"HTTP {error.status}"
    if error.status in (401, 403) and not has_login:
        return (
            f"Kaggle asks for a login ({status}): set KAGGLE_API_TOKEN to a token from {_SETTINGS}"
        )
    if error.status == 401:
        return f"Kaggle does not accept the login ({status}): renew it in {_SETTINGS}"
    if error.status == 403:
        return (
            f"Kaggle does not give this login the model ({status}): "
            "accept the model's terms on its page, if it has some"
        )
    if error.status == 404:
        return f"Kaggle has no such model ({status}), or it is private"
    return str(error)
