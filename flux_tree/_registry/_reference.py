"""How what a registry has is named: ``oci://HOST[:PORT]/NAME[:TAG][@sha256:HEX]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

__all__ = ["Reference", "is_reference"]

#: How a reference begins, and the protocol that it asks for.
SCHEMES = {"oci://": "https", "oci+http://": "http"}

# as in the distribution specification of OCI
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_WHOLE = re.compile(
    rf"(?P<host>{_HOST})/(?P<name>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)

#: Docker Hub is named by one host, and served by another.
_DOCKER = "docker.io"
_DOCKER_HOST = "registry-1.docker.io"
_DOCKER_LOGIN = "https://index.docker.io/v1/"


def is_reference(source: Any) -> bool:
    """Return whether a source is named as what a registry has.

    Parameters
    ----------
    source : object
        As for `flux_tree.broadcast`.

    Returns
    -------
    bool
    """
    return isinstance(source, str) and source.startswith(tuple(SCHEMES))


@dataclass(frozen=True)
class Reference:
    """A name in a registry.

    Attributes
    ----------
    text : str
        As it was given.
    protocol : {"https", "http"}
        What the registry speaks.
    host : str
        With its port, if it has one.
    name : str
        Of the repository.
    tag : str
        "latest" if there is neither a tag nor a digest; empty if there is only a digest.
    digest : str or None
        Of the manifest: ``sha256:`` and 64 hexadecimal digits.
    """

    text: str
    protocol: str
    host: str
    name: str
    tag: str
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Parameters
        ----------
        text : str
            ``oci://HOST[:PORT]/NAME[:TAG][@sha256:HEX]``; ``oci+http://`` for a registry that
            has no TLS.

        Raises
        ------
        UsageError
            If it is none.
        """
        scheme = next(filter(text.startswith, SCHEMES), None)
        match = None if scheme is None else _WHOLE.fullmatch(text[len(scheme) :])
        if scheme is None or match is None:
            raise UsageError(
                f"source {text}: no name in a registry, give oci://HOST[:PORT]/NAME[:TAG] or"
                " oci://HOST[:PORT]/NAME@sha256:HEX, names in small letters"
            )
        host, name, tag, digest = match.group("host", "name", "tag", "digest")
        if host == _DOCKER and "/" not in name:
            name = f"library/{name}"
        return cls(text, SCHEMES[scheme], host, name, tag or ("" if digest else "latest"), digest)

    @property
    def server(self) -> str:
        """The host that serves it, with its port."""
        return _DOCKER_HOST if self.host == _DOCKER else self.host

    @property
    def login(self) -> str:
        """What Docker's configuration calls the host."""
        return _DOCKER_LOGIN if self.host == _DOCKER else self.host

    @property
    def full_name(self) -> str:
        """The name as container engines write it: ``HOST/NAME:TAG`` or ``HOST/NAME@DIGEST``."""
        end = f":{self.tag}" if self.tag else f"@{self.digest}"
        return f"{self.host}/{self.name}{end}"
