"""What the first pod of a MiniCluster runs, and what is read from its log; no cluster is needed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flux_tree.errors import BroadcastError
from flux_tree.experiment import Design
from flux_tree.experiment._backend_kubernetes import KubernetesBackend
from flux_tree.experiment._pod import REQUEST_VAR, answer_lines, read_answer

from flux_support import SET_UP  # isort: skip


def test_an_answer_in_a_log() -> None:
    rng = random.Random(1)
    answer = {"status": "ok", "records": [rng.random() for _ in range(5000)]}
    lines = [line.decode().rstrip("\n") for line in answer_lines(answer)]
    assert len(lines) > 50 and max(map(len, lines)) < 512
    noise = [
        "broker.err[0]: something",
        "",
        "flux-tree-answer is no such line",
        "\x1b[1m\U0001f300",
    ]
    # what others write without an end of line stands before one of ours
    log = noise + [rng.choice(["", "2026-01-01T00:00:00Z ", "..."]) + line for line in lines]
    rng.shuffle(log)
    # the operator gives containers a terminal
    assert read_answer("\r\n".join(log)) == answer


def test_no_answer_in_a_log() -> None:
    lines = [line.decode() for line in answer_lines({"x": os.urandom(3000).hex()})]
    part = f"only a part of the answer, {len(lines) - 1} of"
    with pytest.raises(BroadcastError, match=part):
        read_answer("".join(lines[1:]))
    with pytest.raises(BroadcastError, match=part):
        read_answer("".join([*lines[:3], lines[3].replace(" ", " torn by others "), *lines[4:]]))
    with pytest.raises(BroadcastError, match="has no answer: it has written nothing"):
        read_answer("\n")
    with pytest.raises(BroadcastError, match="has no answer: out of memory"):
        read_answer("begin\r\nout of memory\r\n")


def start(made: Any, *options: str) -> dict[str, Any]:
    """Run the command of a MiniCluster as the operator does, and return its answer."""
    container = made.to_dict()["spec"]["containers"][0]
    # as bash splits ${command}
    command = [sys.executable if x == "python3" else x for x in container["command"].split()]
    done = subprocess.run(
        ["flux", "start", f"--test-size={made.size}", "-Stbon.fanout=256", *options, *command],
        env={**SET_UP, **container["environment"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return read_answer(done.stdout)


@pytest.mark.flux
def test_a_pod_does_what_other_backends_do() -> None:
    design = Design(
        ["kubernetes"], [3], ["kary:1"], ["middle-leaves"], ["content"], ["64KiB"], iterations=1
    )
    (made,) = KubernetesBackend(design).manifests(design.blocks())
    answer = start(made, f"-Stbon.topo={made.flux.topology}")
    assert answer["status"] == "ok", answer
    # as with other backends: tests/test_experiment_run.py
    assert [event["event"] for event in answer["events"]] == [
        "create-middle-nodes",
        "distribute-middle-nodes-0",
        "distribute-middle-nodes-1",
        "clean-middle-nodes",
        "delete-archive-middle-nodes",
    ]
    assert not Path(json.loads(made.container.environment[REQUEST_VAR])["folder"]).exists()


@pytest.mark.flux
def test_an_instance_without_the_topology_is_refused() -> None:
    design = Design(["kubernetes"], [3], ["kary:1"], ["all"], ["direct"], ["64KiB"], iterations=1)
    (made,) = KubernetesBackend(design).manifests(design.blocks())
    answer = start(made)
    assert answer["status"] == "failed" and "has not the topology kary:1" in answer["error"]
