"""What the model knows of the machines and of what is between them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._native import ffi
from ..errors import UsageError
from ..units import format_rate

__all__ = ["LAB", "LOOPBACK", "NETWORK_VAR", "Network", "network_path"]

#: Environment variable that names the file with the network's numbers.
NETWORK_VAR = "FLUX_TREE_NETWORK"

#: Version of that file.
VERSION = 1

#: What the origin of numbers begins with that were measured on the loopback interface, or in a lab.
LOOPBACK, LAB = "loopback", "lab"

#: The most processors that ranks can share.
MAX_PROCESSORS = 1 << 20

_NUMBERS = (
    "bandwidth",
    "burst",
    "latency",
    "start",
    "per_connection",
    "per_chunk",
    "encryption",
    "disk",
    "uplink",
    "per_blob",
    "broker",
    "per_load",
    "extract_start",
)

#: In C, 0 stands for a rate without bound.
_OPTIONAL = ("encryption", "disk", "uplink", "broker", "processors")


def network_path() -> Path:
    """Return the file that `flux-tree calibrate` writes and all others read.

    Returns
    -------
    Path
        ``$FLUX_TREE_NETWORK``, else ``flux-tree/network.json`` in ``$XDG_CONFIG_HOME`` or
        ``~/.config``.
    """
    given = os.environ.get(NETWORK_VAR)
    if given:
        return Path(given)
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "flux-tree" / "network.json"


@dataclass(frozen=True)
class Network:
    """Ranks with a NIC each, that sends and receives at the same time, and what work costs them.

    Costs that are not given are typical ones. None is a rate without bound.

    Attributes
    ----------
    bandwidth : float
        Of one NIC, in each direction, bytes per second of payload.
    burst : float
        Bytes that pass an idle NIC at once: 0 but for token buckets, as those of a lab.
    latency : float
        From one rank to another, one way, seconds.
    start : float
        From the begin of a broadcast until a rank has begun to connect, seconds.
    per_connection : float
        Processor time that a new connection takes at each end, seconds.
    per_chunk : float
        Processor time that a chunk takes at each end, seconds.
    encryption : float or None
        What one processor encrypts, or decrypts and checks, bytes per second.
    disk : float or None
        What one rank can write, bytes per second.
    processors : int or None
        Shared by all ranks; None: each rank has its own.
    uplink : float or None
        Of each group of ranks (a rack), in each direction, bytes per second.
    groups : tuple of int or None
        The group of each rank, shape (n,), numbers from 0 on.
    rates : mapping of int to float
        Of single ranks whose NIC is not as fast as `bandwidth`, bytes per second.
    per_blob : float
        Processor time that a blob takes in a broker of Flux, seconds.
    broker : float or None
        What a broker takes in or sends on, beside `per_blob`, bytes per second.
    per_load : float
        Time that a rank takes for a blob that it has got from its broker, seconds.
    extract_start : float
        From the begin of an extraction until a rank asks for the first blob, seconds.
    origin : str
        Where the numbers come from: "given", or "lab", "flux", "loopback" and when.
    """

    bandwidth: float
    burst: float = 0.0
    latency: float = 50e-6
    start: float = 0.0
    per_connection: float = 1e-3
    per_chunk: float = 20e-6
    encryption: float | None = 2e9
    disk: float | None = None
    processors: int | None = None
    uplink: float | None = None
    groups: tuple[int, ...] | None = None
    rates: Mapping[int, float] = field(default_factory=dict)
    per_blob: float = 2e-3
    broker: float | None = 4e8
    per_load: float = 1e-3
    extract_start: float = 0.05
    origin: str = "given"

    def __post_init__(self) -> None:
        for name in ("bandwidth", "encryption", "disk", "uplink", "broker", "processors"):
            value = getattr(self, name)
            if not (value is None and name in _OPTIONAL) and not _is_number(value, above=True):
                raise UsageError(f"network: {name} {value!r}, give a number above 0")
        for name in (
            "burst",
            "latency",
            "start",
            "per_connection",
            "per_chunk",
            "per_blob",
            "per_load",
            "extract_start",
        ):
            if not _is_number(getattr(self, name), above=False):
                raise UsageError(
                    f"network: {name} {getattr(self, name)!r}, give a number, not below 0"
                )
        for name in _NUMBERS:  # such as numpy has do not go into a file
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        count = self.processors
        if count is not None:
            if count != int(count) or count > MAX_PROCESSORS:
                raise UsageError(
                    f"network: processors {count!r}, give a whole number up to {MAX_PROCESSORS}"
                )
            object.__setattr__(self, "processors", int(count))
        if not isinstance(self.origin, str):
            raise UsageError(f"network: origin {self.origin!r}, give a text")
        for rank, rate in self.rates.items():
            if not isinstance(rank, (int, np.integer)) or not _is_number(rate, above=True):
                raise UsageError(
                    f"network: rate {rate!r} of rank {rank!r}, give ranks and numbers above 0"
                )
        rates = {int(rank): float(rate) for rank, rate in self.rates.items()}
        object.__setattr__(self, "rates", rates)
        if self.groups is not None:
            try:
                numbers = np.unique(np.asarray(self.groups), return_inverse=True)[1]
            except ValueError:
                raise UsageError("network: groups: give a number or a name for each rank") from None
            object.__setattr__(self, "groups", tuple(int(g) for g in numbers))

    def between_nodes(self) -> Network | None:
        """Return what of these numbers holds between nodes, each a machine of its own.

        Returns
        -------
        Network or None
            None if they were measured on the loopback interface: that tells nothing of a network.
            Of a lab's, what is due to the one machine is left out: processors that all share, and
            the token buckets of its NICs.
        """
        if self.origin.startswith(LOOPBACK):
            return None
        if self.origin.startswith(LAB):
            return replace(self, processors=None, burst=0.0)
        return self

    def with_groups(self, groups: Sequence[Any] | None) -> Network:
        """Return this network with ranks in groups.

        Parameters
        ----------
        groups : sequence or None
            The group of each rank, as numbers or names.

        Returns
        -------
        Network
        """
        return replace(self, groups=None if groups is None else tuple(groups))

    def rate_array(self, n: int) -> Any:
        """Return the rate of the NIC of each rank.

        Parameters
        ----------
        n : int
            Ranks.

        Returns
        -------
        ndarray of float64, shape (n,)
            Bytes per second.

        Raises
        ------
        UsageError
            If a rank that has a rate of its own is none of them.
        """
        rates = np.full(n, float(self.bandwidth))
        for rank, rate in self.rates.items():
            if not 0 <= rank < n:
                raise UsageError(f"network: a rate of rank {rank}, and the ranks are 0-{n - 1}")
            rates[rank] = rate
        return rates

    # ---- as a file

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data.

        Returns
        -------
        dict
        """
        data: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        data["rates"] = {str(rank): rate for rank, rate in self.rates.items()}
        data["groups"] = None if self.groups is None else list(self.groups)
        return {"version": VERSION, **data}

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the numbers to a file; one that is there is replaced as a whole.

        Parameters
        ----------
        path : path-like, optional
            `network_path`, if not given.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        UsageError
            If it cannot be written.
        """
        target = network_path() if path is None else Path(path)
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        part = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text)
            part.replace(target)
        except OSError as exc:
            part.unlink(missing_ok=True)
            raise UsageError(f"{target}: cannot be written ({exc.strerror})") from None
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Network | None:
        """Return what `save` wrote.

        Parameters
        ----------
        path : path-like, optional
            `network_path`, if not given.

        Returns
        -------
        Network or None
            None if no path was given and the file is not there.

        Raises
        ------
        UsageError
            If it cannot be read, or is no such file.
        """
        source = network_path() if path is None else Path(path)
        try:
            data = json.loads(source.read_text())
        except FileNotFoundError:
            if path is None and not os.environ.get(NETWORK_VAR):
                return None
            raise UsageError(
                f"{source}: there is no such file, make it with 'flux-tree calibrate'"
            ) from None
        except (OSError, ValueError) as exc:
            raise UsageError(f"{source}: cannot be read ({exc})") from None
        if not isinstance(data, dict) or data.pop("version", None) != VERSION:
            raise UsageError(f"{source}: no numbers of a network, make it with flux-tree calibrate")
        known = {f.name for f in fields(cls)}
        for name in data:
            if name not in known:
                raise UsageError(
                    f"{source}: {name}: is no number of a network, make it with 'flux-tree"
                    " calibrate'"
                )
        if "bandwidth" not in data:
            raise UsageError(f"{source}: bandwidth: is missing, make it with 'flux-tree calibrate'")
        try:
            data["rates"] = {int(rank): rate for rank, rate in data.get("rates", {}).items()}
            if data.get("groups") is not None:
                data["groups"] = tuple(data["groups"])
            return cls(**data)
        except UsageError as exc:
            raise UsageError(f"{source}: {exc}") from None
        except (AttributeError, TypeError, ValueError) as exc:
            raise UsageError(f"{source}: no numbers of a network ({exc})") from None

    def __str__(self) -> str:
        return f"{format_rate(self.bandwidth, bits=True)} ({self.origin})"


class Native:
    """A `Network` as the native core takes it, for as long as this object lives.

    Parameters
    ----------
    network : Network
        The numbers.
    n : int
        Ranks.
    encrypt : bool
        The data is encrypted.

    Attributes
    ----------
    struct : cffi ``struct network *``
        The numbers.

    Raises
    ------
    UsageError
        If the network is one of other ranks.
    """

    def __init__(self, network: Network, n: int, encrypt: bool = True) -> None:
        self.struct = ffi.new("struct network *")
        for name, _ in ffi.typeof("struct network").fields:
            if name not in ("rates", "groups"):
                value = getattr(network, name)
                setattr(self.struct, name, 0 if value is None else value)
        if not encrypt:
            self.struct.encryption = 0
        if network.rates:
            self._rates = network.rate_array(n)
            self.struct.rates = ffi.cast("double *", self._rates.ctypes.data)
        if network.groups is not None:
            if len(network.groups) != n:
                raise UsageError(
                    f"network: groups of {len(network.groups)} ranks, and there are {n}"
                )
            self._groups = np.array(network.groups, np.int32)
            self.struct.groups = ffi.cast("int32_t *", self._groups.ctypes.data)


def _is_number(value: Any, *, above: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return bool(np.isfinite(value) and (value > 0 if above else value >= 0))
