"""Gets in where a registry asks for a login: oras reads those of Docker, and gets tokens."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import SourceError
from ._reference import Reference

__all__ = ["BUSY", "Login"]

#: What registries, and who gives tokens out for them, answer if they have too much to do.
BUSY = (429, 500, 502, 503, 504)
#: Seconds for an answer to a login.
LOGIN_S = 10.0

#: What stands for a user's name where the password is an identity token.
_IDENTITY = "<token>"


class Login:
    """The login that Docker's configuration has for a registry, if it has one.

    Parameters
    ----------
    reference : Reference
        What is pulled.
    session : requests.Session
        That asks for tokens.

    Raises
    ------
    SourceError
        If the configuration is damaged.
    """

    def __init__(self, reference: Reference, session: Any) -> None:
        import oras.auth
        import oras.container
        import oras.logger

        self._reference = reference
        self._session = _Quick(reference, session)
        self._notes: list[str] = []
        # it would print; and with debugging, what registries answer, tokens included
        oras.logger.logger.log_handler = [self._note]
        self._backends: dict[str, Any] = {}
        for name in ("basic", "token"):
            backend: Any = oras.auth.get_auth_backend(name, session=self._session)
            # oras has one for every registry from ORAS_USER and ORAS_PASS, and this may be another
            vars(backend).pop("_basic_auth", None)
            backend.hostname = reference.host
            self._backends[name] = backend
        basic = self._backends["basic"]
        container = oras.container.Container(reference.name, registry=reference.login)
        container.registry = reference.login
        config = _docker_config()
        basic._auth_config = config
        try:
            basic.load_configs(container)
            password = getattr(basic, "_basic_auth", None)
            self._identity = config["auths"].get(reference.login, {}).get("identitytoken")
            if password is not None:
                # base64 breaks its lines, and no header may have any
                password = basic._basic_auth = "".join(password.split())
                user, _, secret = base64.b64decode(password, validate=True).decode().partition(":")
                if user == _IDENTITY:
                    self._identity = secret
                self._backends["token"]._basic_auth = password
        except Exception as exc:  # of what a program for logins writes, and oras's reading of it
            raise SourceError(
                f"source {reference.text}: the login that {config_path()} has for"
                f" {reference.host} cannot be read ({type(exc).__name__}): make it anew with"
                f" 'docker login {reference.host}'"
            ) from None
        self.known = bool(password or self._identity)

    def headers(self, response: Any, before: dict[str, str]) -> dict[str, str] | None:
        """Answer a registry that asks for a login.

        Parameters
        ----------
        response : requests.Response
            Of status 401.
        before : dict of str to str
            What the request had.

        Returns
        -------
        dict of str to str or None
            What the next request is to have; None if there is nothing that could be of use.

        Raises
        ------
        SourceError
            If the login would have to go out of TLS, or who gives tokens out gives something else.
        requests.RequestException
            If who gives tokens out cannot be asked.
        """
        challenge = response.headers.get("WWW-Authenticate", "")
        tokens = _bearer(challenge)
        if tokens is None:
            is_basic = re.search(r"\bbasic\b", challenge, re.IGNORECASE)
            if before or not is_basic or not hasattr(self._backends["basic"], "_basic_auth"):
                return None
            return dict(self._backends["basic"].get_auth_header())
        response.headers["WWW-Authenticate"] = tokens
        try:
            if self._identity:
                found, changed = self._exchange(tokens)
            else:
                found, changed = self._backends["token"].authenticate_request(
                    response, {}, refresh=True
                )
            if changed and not re.fullmatch("Bearer [!-~]+", found["Authorization"]):
                raise ValueError  # no header could have it, and a message would show it
        except (AttributeError, TypeError, ValueError):
            # no address, no JSON, or JSON that is not as it should be
            raise SourceError(
                f"source {self._reference.text}: who gives tokens out for it answers what is none"
            ) from None
        return dict(found) if changed else None

    def refusal(self) -> str:
        """Return why there is no way in, with the mend."""
        host = self._reference.host
        if self.known:
            return (
                f"the registry refuses the login of {config_path()} for {host}: renew it with"
                f" 'docker login {host}'"
            )
        notes = "".join(f" ({note})" for note in self._notes[:1])
        return (
            f"the registry wants a login, and {config_path()} has none for {host}{notes}: make one"
            f" with 'docker login {host}'"
        )

    def _exchange(self, challenge: str) -> tuple[dict[str, str], bool]:
        """Get a token for an identity token, by OAuth2: oras does not know these.

        As oras: what a request is to have, and whether that is of use.
        """
        from oras.auth.utils import parse_auth_header

        asked = parse_auth_header(challenge)
        fields = {
            "grant_type": "refresh_token",
            "refresh_token": self._identity,
            "client_id": "flux-tree",
            "service": asked.service or "",
            "scope": asked.scope or "",
        }
        # who sends a secret on to elsewhere is not followed
        answer = self._session.request("POST", asked.realm, data=fields, allow_redirects=False)
        found = answer.json() if answer.status_code == 200 else {}
        token = found.get("access_token") or found.get("token")
        return {"Authorization": f"Bearer {token}"}, bool(token)

    def _note(self, message: dict[str, Any]) -> None:
        if message["level"] == "warning":
            self._notes.append(" ".join(str(message["msg"]).split())[:200])


class _Quick:
    """A session for oras, which knows no time limits, and asks whomever it is told to."""

    def __init__(self, reference: Reference, session: Any) -> None:
        self._reference = reference
        self._session = session

    def request(self, method: str, url: str, **kwargs: Any) -> Any:
        import requests

        if self._reference.protocol == "https" and urlsplit(url).scheme != "https":
            raise SourceError(
                f"source {self._reference.text}: the registry wants its login sent without TLS, to"
                f" {url[:200]}, which only oci+http:// allows"
            )
        answer = self._session.request(method, url, **{"timeout": LOGIN_S, **kwargs})
        if answer.status_code in BUSY:
            # oras would take that for a login that is refused
            raise requests.exceptions.RequestException(
                f"who gives tokens out answers {answer.status_code} {answer.reason}"
            )
        return answer

    def get(self, url: str, **kwargs: Any) -> Any:
        return self.request("GET", url, **kwargs)


def _bearer(challenge: str) -> str | None:
    """Return what a registry says of tokens, in the form that oras reads; None if nothing.

    There may be several challenges in a line, and values without quotes, or without anything.
    """
    value = r'(?:"[^"]*"|[^\s",]*)'
    found = re.search(rf"\bbearer\s+((?:[a-z_]+\s*=\s*{value}\s*,?\s*)+)", challenge, re.IGNORECASE)
    pairs = re.findall(rf"([A-Za-z_]+)\s*=\s*({value})", found.group(1)) if found else []
    values = {name.lower(): text.strip('"') for name, text in pairs}
    if not values.get("realm"):
        return None
    return "Bearer " + ",".join(f'{name}="{text}"' for name, text in values.items() if text)


def config_path() -> Path:
    """Return where Docker's configuration is; oras looks for it in the home directory alone."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return Path(folder) / "config.json"


def _docker_config() -> dict[str, Any]:
    path = config_path()
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        config = {}
    except OSError as exc:
        raise SourceError(f"{path}: cannot be read ({exc.strerror})") from None
    except ValueError:
        raise SourceError(f"{path}: is no JSON, so there is no login: mend or remove it") from None
    if not isinstance(config, dict):
        raise SourceError(f"{path}: is no object of JSON, so there is no login: mend or remove it")
    auths = _objects(config.get("auths"))
    return {
        # some tools write https://HOST/v2/ or the like for a host
        "auths": {**{_host(name): auth for name, auth in auths.items()}, **auths},
        "credsStore": config.get("credsStore"),
        "credHelpers": config.get("credHelpers") or {},
    }


def _objects(found: Any) -> dict[str, Any]:
    return (
        {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}
    )


def _host(name: str) -> str:
    return name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0]
