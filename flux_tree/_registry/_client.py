"""Talks to a registry: names and logins are a matter of oras, the requests are our own.

What oras does itself when it pulls is not used: it checks no digest, reads whole files into
memory, has no time limits, and takes up nothing that was cut.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ._reference import Reference

__all__ = ["Client", "Patience"]

#: Registries that have too much to do say so.
BUSY = (429, 500, 502, 503, 504)
PAUSE_S = 0.1
PAUSE_MAX_S = 3.0
CONNECT_S = 10.0

Failure = SourceError


class Patience:
    """How long nothing may come.

    Parameters
    ----------
    reference : Reference
        What is pulled.
    timeout : float
        Seconds.
    """

    def __init__(self, reference: Reference, timeout: float) -> None:
        self.reference = reference
        self.timeout = timeout
        self.progress()

    def progress(self) -> None:
        """Something has come."""
        self._since = time.monotonic()
        self._pause = PAUSE_S

    def pause(self, why: str, seconds: float | None = None) -> None:
        """Wait before the next try; longer and longer, as long as nothing comes.

        Parameters
        ----------
        why : str
            What went wrong.
        seconds : float, optional
            What the registry asks for.

        Raises
        ------
        SourceError
            If nothing has come for too long, or would have.
        """
        wait = self._pause if seconds is None else seconds
        if time.monotonic() + wait > self._since + self.timeout:
            raise Failure(
                f"source {self.reference.text}: nothing has come for {self.timeout:.3g} seconds:"
                f" {why}"
            )
        time.sleep(wait)
        self._pause = min(2 * self._pause, PAUSE_MAX_S)


class Client:
    """A registry, as one who pulls sees it.

    Parameters
    ----------
    reference : Reference
        What is pulled.
    patience : Patience
        How long nothing may come.
    """

    def __init__(self, reference: Reference, patience: Patience) -> None:
        import requests
        from oras import auth as oras_auth
        from oras.container import Container

        logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
        self.reference = reference
        self.patience = patience
        self.session = requests.Session()
        # netrc would take the place of the header of a login
        self.session.auth = lambda request: request
        self.headers: dict[str, str] = {}
        self._reached = False
        config = _docker_config()
        self._backends = {}
        for name in ("basic", "token"):
            backend: Any = oras_auth.get_auth_backend(name, session=_Quick(self.session))
            backend.hostname = reference.host
            if config is not None:
                backend._auth_config = config
            container = Container(f"{reference.host}/{reference.name}")
            container.registry = reference.login
            backend.load_configs(container)
            self._backends[name] = backend
        self._has_login = bool(getattr(self._backends["basic"], "_basic_auth", None))

    def url(self, kind: str, digest: str) -> str:
        """Return where a manifest or a blob is.

        Parameters
        ----------
        kind : {"manifests", "blobs"}
            What.
        digest : str
            Or a tag.

        Returns
        -------
        str
        """
        r = self.reference
        return f"{r.protocol}://{r.server}/v2/{r.name}/{kind}/{digest}"

    @contextmanager
    def get(self, url: str, what: str, headers: dict[str, str]) -> Iterator[Any]:
        """Ask for something, and log in where that is asked for.

        Parameters
        ----------
        url : str
            Where it is.
        what : str
            For messages.
        headers : dict of str to str
            More of them.

        Yields
        ------
        requests.Response or None
            Of which the body is still to be read; None after a failure that may pass, when a
            while was waited for.

        Raises
        ------
        SourceError
            If it cannot be had.
        """
        import requests

        response = None
        try:
            try:
                response = self._ask(url, headers)
                self._reached = True
                if response.status_code == 401:
                    response.close()
                    self._log_in(response, what)
                    response = self._ask(url, headers)
            except requests.exceptions.SSLError as exc:
                raise self.failure(
                    f"no TLS that can be trusted ({_reason(exc)}): name its CA in"
                    " REQUESTS_CA_BUNDLE, or use oci+http:// if it has none"
                ) from None
            except (requests.exceptions.RequestException, OSError) as exc:
                if not self._reached:
                    raise self.failure(
                        f"{self.reference.server}: cannot be reached ({_reason(exc)})"
                    ) from None
                self.patience.pause(f"{what}: {_reason(exc)}")
                response = None
            if response is not None and response.status_code in BUSY:
                self.patience.pause(
                    f"{what}: the registry answers {response.status_code} {response.reason}",
                    _retry_after(response),
                )
                response.close()
                response = None
            if response is not None and response.status_code not in (200, 206):
                raise self._refusal(response, what)
            yield response
        finally:
            if response is not None:
                response.close()

    def failure(self, why: str) -> SourceError:
        """Return an error about the source.

        Parameters
        ----------
        why : str
            What is wrong, with the mend.

        Returns
        -------
        SourceError
        """
        return Failure(f"source {self.reference.text}: {why}")

    def _ask(self, url: str, headers: dict[str, str]) -> Any:
        limit = max(1.0, self.patience.timeout / 3)
        return self.session.get(
            url,
            # a body that was packed on the way would not be what the digest is of
            headers={"Accept-Encoding": "identity", **headers, **self.headers},
            stream=True,
            timeout=(min(CONNECT_S, limit), limit),
        )

    def _log_in(self, response: Any, what: str) -> None:
        challenge = response.headers.get("WWW-Authenticate", "")
        name = "basic" if challenge.lower().startswith("basic") else "token"
        headers: dict[str, str] = {}
        changed = False
        if name == "token":
            headers, changed = self._backends[name].authenticate_request(
                response, headers, refresh=True
            )
        elif self._has_login and not self.headers:
            headers, changed = self._backends[name].authenticate_request(response, headers)
        if not changed:
            raise self._no_login(what)
        self.headers = headers

    def _no_login(self, what: str) -> SourceError:
        host = self.reference.host
        if self._has_login:
            return self.failure(
                f"{what}: the registry refuses the login of {_config_path()} for {host}: renew it"
                f" with 'docker login {host}'"
            )
        return self.failure(
            f"{what}: the registry wants a login, and {_config_path()} has none for {host}: make"
            f" one with 'docker login {host}'"
        )

    def _refusal(self, response: Any, what: str) -> SourceError:
        status = response.status_code
        if status == 401:
            return self._no_login(what)
        if status == 403:
            return self.failure(f"{what}: the registry allows it not to this login (403)")
        if status == 404:
            return self.failure(f"{what}: the registry has no such thing (404): see to the name")
        return self.failure(f"{what}: the registry answers {status} {response.reason}")


class _Quick:
    """A session for oras, which knows no time limits."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, *args: Any, **kwargs: Any) -> Any:
        return self._session.request(*args, **{"timeout": CONNECT_S, **kwargs})

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self.request("GET", *args, **kwargs)


def _config_path() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def _docker_config() -> dict[str, Any]:
    """Return Docker's configuration; oras looks for it in the home directory alone."""
    path = _config_path()
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        config = {}
    except OSError as exc:
        raise Failure(f"{path}: cannot be read ({exc.strerror})") from None
    except ValueError:
        raise Failure(f"{path}: is no JSON, so there is no login: mend or remove it") from None
    if not isinstance(config, dict):
        raise Failure(f"{path}: is no object of JSON, so there is no login: mend or remove it")
    return {
        "auths": config.get("auths") or {},
        "credsStore": config.get("credsStore"),
        "credHelpers": config.get("credHelpers") or {},
    }


def _retry_after(response: Any) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _reason(exc: BaseException) -> str:
    """Return what is behind an exception, in a few words."""
    while exc.__cause__ or exc.__context__ or (exc.args and isinstance(exc.args[0], Exception)):
        inner = exc.args[0] if exc.args and isinstance(exc.args[0], Exception) else None
        following = inner or exc.__cause__ or exc.__context__
        assert following is not None
        exc = following
    reason = getattr(exc, "reason", None)
    if isinstance(reason, Exception):
        return _reason(reason)
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return " ".join(str(text).split())[:200]
