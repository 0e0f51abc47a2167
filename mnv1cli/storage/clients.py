"""Clients of obstore for the buckets of S3, Google Cloud Storage and Azure, with credentials.

Settings are obstore's environment variables, those of each cloud's own tools, and the
variables of fsspec for public buckets.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

from mnv1cli.storage.base import DeniedError, StoreError

# A request is tried again so often, after pauses that grow from a fifth of a second to several
# seconds, unless so many seconds have passed. A server that is not there costs some ten seconds.
RETRIES = 7
_PAUSES = {"init_backoff": timedelta(seconds=0.2), "base": 3, "max_backoff": timedelta(seconds=8)}
_RETRY_SECONDS = 60
# A server that says nothing for so long is not waited for.
SILENCE_SECONDS = 30.0
_CONNECT_SECONDS = 5
# The longest transfer of an object, or of a part of a large one.
_TRANSFER_SECONDS = 1800
# The machines of all three clouds learn there who they are.
_METADATA_SERVER = ("169.254.169.254", 80)
_YES = ("1", "true", "yes", "on")
# Variables of Azure's own tools that obstore does not read, and parts of a connection string.
_AZURE_NAMES = {"AZURE_STORAGE_ACCOUNT": "account_name", "AZURE_STORAGE_KEY": "account_key"}
_AZURE_PARTS = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "BlobEndpoint": "endpoint",
    "SharedAccessSignature": "sas_key",
}
# Variables of a cloud that are no credentials.
_NO_CREDENTIALS = ("_ACCOUNT", "_ACCOUNT_NAME", "_ENDPOINT", "_BASE_URL", "_PROJECT")


def make_client(scheme: str, bucket: str) -> Any:
    """Make obstore's client for a bucket.

    Raises:
        DeniedError: there are no credentials.
        StoreError: the settings in the environment are wrong.
        ImportError: a library is not installed.
    """
    from obstore import store
    from obstore.exceptions import BaseError

    makers: Any = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
    configure = {"s3": _configure_s3, "gs": _configure_google, "az": _configure_azure}
    config = configure[scheme](bucket)
    provider = config.pop("credential_provider", None)
    endpoint = str(config.get("endpoint") or config.get("base_url") or "")
    allow_http = endpoint.startswith("http://") or _is_set("AZURE_STORAGE_USE_EMULATOR")
    try:
        return makers[scheme](
            bucket,
            config=config,
            client_options=make_client_options(allow_http),
            retry_config=make_retries(),
            **({"credential_provider": provider} if provider else {}),
        )
    except (BaseError, ValueError) as error:
        line = str(error).partition("\n")[0]
        raise (
            DeniedError("no credentials") if "Account must be" in line else StoreError(line)
        ) from error


def make_client_options(allow_http: bool) -> Any:
    """Make the options of connections; plain http only where the user names such an endpoint."""
    options: dict[str, Any] = {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=SILENCE_SECONDS),
        "timeout": timedelta(seconds=_TRANSFER_SECONDS),
    }
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        if os.path.isfile(bundle := os.environ.get(name, "")):
            return {**options, "root_certificate": Path(bundle).read_bytes()}
    return options


def make_retries() -> Any:
    """Make the rule for requests that are tried again."""
    return {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
        "backoff": _PAUSES,
    }


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in _YES


def _configure_s3(bucket: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        config["endpoint"] = endpoint
    if _is_set("AWS_SKIP_SIGNATURE") or _is_set("FSSPEC_S3_ANON"):
        config["skip_signature"] = True
    elif "AWS_ACCESS_KEY_ID" not in os.environ:
        # Those of a profile, of SSO, or of the machine.
        config |= _ask_boto()
    if not {"AWS_REGION", "AWS_DEFAULT_REGION"} & set(os.environ):
        config["region"] = config.get("region") or (
            "us-east-1" if "endpoint" in config else _find_region(bucket)
        )
    return config


def _ask_boto() -> dict[str, Any]:
    import boto3
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = get_session()
        provider = Boto3CredentialProvider(boto3.Session(botocore_session=session))
        profile = session.get_scoped_config()
    except BotoCoreError as error:
        raise DeniedError(f"no credentials: {error}") from error
    except ValueError as error:
        raise DeniedError("no credentials") from error
    names = {"region": "region", "endpoint_url": "endpoint"}
    settings = {key: profile[name] for name, key in names.items() if name in profile}
    return {"credential_provider": provider, **settings}


def _find_region(bucket: str) -> str:
    """Ask S3 for the region of a bucket, which obstore does not do itself."""
    import requests

    try:
        answer = requests.head(f"https://s3.amazonaws.com/{bucket}", timeout=_CONNECT_SECONDS)
    except requests.RequestException:
        return "us-east-1"
    return answer.headers.get("x-amz-bucket-region", "us-east-1")


def _configure_google(_: str) -> dict[str, Any]:
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        url = emulator if "://" in emulator else f"http://{emulator}"
        # Emulators take any token, and obstore writes only with one.
        return {"base_url": url, "bearer_token": "emulator"}
    if _is_set("GOOGLE_SKIP_SIGNATURE") or os.environ.get("FSSPEC_GS_TOKEN") == "anon":
        return {"skip_signature": True}
    login = Path.home() / ".config" / "gcloud" / "application_default_credentials.json"
    if not login.is_file():
        _require_credentials("GOOGLE_")
    base = os.environ.get("GOOGLE_BASE_URL")
    return {"base_url": base} if base else {}


def _configure_azure(_: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for part in os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"):
        name, _, value = part.partition("=")
        if name in _AZURE_PARTS:
            config[_AZURE_PARTS[name]] = value
    config |= {key: os.environ[name] for name, key in _AZURE_NAMES.items() if name in os.environ}
    if endpoint := os.environ.get("AZURE_STORAGE_ENDPOINT") or os.environ.get("AZURE_ENDPOINT"):
        config["endpoint"] = endpoint
    _require_credentials("AZURE_")
    return config


def _require_credentials(start: str) -> None:
    """Fail at once, and not after a minute, where nothing in sight has credentials."""
    if any(name.startswith(start) and not name.endswith(_NO_CREDENTIALS) for name in os.environ):
        return
    try:
        socket.create_connection(_METADATA_SERVER, timeout=1).close()
    except OSError:
        raise DeniedError("no credentials") from None
