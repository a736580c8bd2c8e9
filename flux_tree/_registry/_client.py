"""Asks a registry for things, again and again if need be: logins are a matter of oras.

What oras does itself when it pulls is not used: it checks no digest, has no time limits, and takes
up nothing that was cut.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..errors import SourceError
from ._login import BUSY, Login
from ._reference import Reference

__all__ = ["Client", "Patience", "network_errors", "reason"]

PAUSE_S = 0.1
PAUSE_MAX_S = 3.0
CONNECT_S = 10.0
#: A connection that is silent for so long is taken for a dead one, whatever the time limit.
SILENCE_S = 600.0


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
        left = self.left()
        if seconds is not None and seconds > max(left, self._pause):
            raise self._failure(f"{why}, and is not to be asked again for {seconds:.6g} seconds")
        if left <= 0:
            raise self._failure(f"nothing has come for {self.timeout:.3g} seconds: {why}")
        time.sleep(min(max(self._pause, seconds or 0.0), left))
        self._pause = min(2 * self._pause, PAUSE_MAX_S)

    def left(self) -> float:
        """Return how many seconds nothing may come from now on."""
        return self._since + self.timeout - time.monotonic()

    def _failure(self, why: str) -> SourceError:
        return SourceError(f"source {self.reference.text}: {why}")


class Client:
    """A registry, as one who pulls sees it.

    Parameters
    ----------
    reference : Reference
        What is pulled.
    patience : Patience
        How long nothing may come.

    Raises
    ------
    SourceError
        If Docker's configuration is damaged.
    """

    def __init__(self, reference: Reference, patience: Patience) -> None:
        self.reference = reference
        self.patience = patience
        self._session = _session(reference)
        self._login = Login(reference, self._session)
        self._headers: dict[str, str] = {}
        self._reached = False

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
        response = self._ask(url, what, headers)
        if response is None:
            yield None
            return
        with response:
            if response.status_code in (200, 206):
                yield response
                return
            if response.status_code not in BUSY:
                raise self._refusal(response, what)
            wait = _retry_after(response)
        self.patience.pause(
            f"{what}: the registry answers {response.status_code} {response.reason}", wait
        )
        yield None

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
        return SourceError(f"source {self.reference.text}: {why}")

    def _ask(self, url: str, what: str, headers: dict[str, str]) -> Any:
        """Return an answer, or None after a failure that may pass."""
        import requests

        try:
            response = self._request(url, headers)
            if response.status_code == 401 and _host(response.url) == _host(url):
                response.close()
                found = self._login.headers(response, self._headers)
                if found is None:
                    raise self.failure(f"{what}: {self._login.refusal()}")
                self._headers = found
                response = self._request(url, headers)
            return response
        except network_errors() as exc:
            why = reason(exc)
            # a connection may be cut amid its greeting, too
            no_tls = not self._reached or "certificate verify failed" in why
            if isinstance(exc, requests.exceptions.SSLError) and no_tls:
                raise self.failure(
                    f"no TLS that can be trusted ({why}): name its CA in REQUESTS_CA_BUNDLE, or"
                    " use oci+http:// if it has none"
                ) from None
            # of the system, not of the network: a file with CAs that is not there
            is_file = not isinstance(exc, network_errors()[:1]) and not isinstance(
                exc, requests.exceptions.RequestException
            )
            if isinstance(exc, ValueError) or (
                not self._reached and (is_file or _is_no_connection(exc))
            ):
                raise self.failure(f"{self.reference.server}: cannot be reached ({why})") from None
            self.patience.pause(f"{what}: {why}")
            return None

    def _request(self, url: str, headers: dict[str, str]) -> Any:
        limit = max(0.1, min(self.patience.timeout / 3, self.patience.left(), SILENCE_S))
        response = self._session.get(
            url,
            # a body that was packed on the way would not be what the digest is of
            headers={"Accept-Encoding": "identity", **headers, **self._headers},
            stream=True,
            timeout=(min(CONNECT_S, limit), limit),
        )
        self._reached = True
        return response

    def _refusal(self, response: Any, what: str) -> SourceError:
        status = response.status_code
        if _host(response.url) != self.reference.server.lower():
            return self.failure(
                f"{what}: {_host(response.url)}, where the registry sends on to, answers {status}"
                f" {response.reason}"
            )
        if status == 401:
            return self.failure(f"{what}: {self._login.refusal()}")
        if status == 403:
            return self.failure(
                f"{what}: the registry does not allow it (403): see to the name, and to the login"
                f" that 'docker login {self.reference.host}' makes"
            )
        if status == 404:
            return self.failure(f"{what}: the registry has no such thing (404): see to the name")
        return self.failure(f"{what}: the registry answers {status} {response.reason}")


def _session(reference: Reference) -> Any:
    import requests

    class Session(requests.Session):
        """Follows a registry to elsewhere, but never with a login, nor out of TLS."""

        def rebuild_auth(self, prepared_request: Any, response: Any) -> None:
            # that of requests would look into .netrc
            old, new = response.request.url, prepared_request.url
            if self.should_strip_auth(old, new):
                prepared_request.headers.pop("Authorization", None)
            if urlsplit(new).scheme not in ("https", reference.protocol):
                raise SourceError(
                    f"source {reference.text}: the registry sends on to {_host(new)} without TLS,"
                    " which only oci+http:// allows"
                )

    session = Session()
    # .netrc would take the place of the header of a login
    session.auth = lambda request: request
    return session


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _is_no_connection(exc: BaseException) -> bool:
    """Return whether there has been none, in contrast to one that was cut."""
    import requests
    import urllib3

    if isinstance(exc, (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError)):
        return True
    inner = exc.args[0] if exc.args else None
    return isinstance(getattr(inner, "reason", None), urllib3.exceptions.NewConnectionError)


def network_errors() -> tuple[type[Exception], ...]:
    """Return what a request and the reading of a body may raise; those of requests are OSErrors."""
    import urllib3

    return (urllib3.exceptions.HTTPError, OSError)


def _retry_after(response: Any) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def reason(exc: BaseException) -> str:
    """Return what is behind an exception, in a few words."""
    while True:
        inner = exc.args[0] if exc.args and isinstance(exc.args[0], Exception) else None
        following = inner or getattr(exc, "reason", None) or exc.__cause__ or exc.__context__
        if not isinstance(following, BaseException):
            break
        exc = following
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return " ".join(str(text).split())[:200]
