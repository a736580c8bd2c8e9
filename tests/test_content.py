"""Archives through the content cache, with real brokers: the program tests/native/flux/fetch_main.

It is built under AddressSanitizer and UBSan, and is one rank's part in the content transport.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from flux_support import CLEAN, in_instance
from support import difference, leftovers, make_payload
from test_native import OPTIONS, _build, _check, _run

pytestmark = pytest.mark.flux
EVERYBODY = 'flux exec -r all -x 0 sh -c \'"$@" "$0/$(flux getattr rank)"\' '


@pytest.fixture(scope="module")
def programs() -> Path:
    found = shutil.which("pkg-config") and _run(["pkg-config", "flux-core", "jansson"])
    if not found or found.returncode != 0:
        pytest.skip("pkg-config does not find flux-core and jansson")
    return _build("flux")


@pytest.fixture()
def payload(tmp_path: Path) -> Path:
    """A tree of what an archive can keep: names in UTF-8, and whole seconds."""
    top = make_payload(tmp_path / "src")
    odd = next(p for p in top.iterdir() if p.name.startswith("n"))
    odd.rename(top / "n\u00fc\nr \u2603")
    (top / "text-with-0").write_bytes(b"a\0b")
    (top / "large").write_bytes(os.urandom((3 << 20) + 5))
    (top / "twice").write_bytes(b"x" * (2 << 20))
    for path in [*sorted(top.rglob("*"), reverse=True), top]:
        when = path.lstat().st_mtime_ns // 10**9 * 10**9
        os.utime(path, ns=(when, when), follow_symlinks=False)
    return top


def run(script: str, *args: object, size: int = 2):
    """Run a script and return the records that fetch_main printed, and all that was said."""
    done = in_instance(script, *args, size=size, env={**CLEAN, **OPTIONS})
    said = done.stdout + done.stderr
    assert "Sanitizer" not in said and "runtime error" not in said, said
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return records, said


def test_archives(programs: Path) -> None:
    _check([str(programs / "test_archive")])


@pytest.mark.parametrize("how", ["--mmap", "--preserve"])
def test_tree(programs: Path, payload: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "to").mkdir()
    records, said = run(
        f"flux archive create {how} -C $1 src && {EVERYBODY} $1/to $2/fetch_main main",
        tmp_path,
        programs,
        size=3,
    )
    assert [r["state"] for r in records] == [3, 3], said
    data = sum(p.stat().st_blocks and p.stat().st_size for p in payload.rglob("*") if p.is_file())
    for record in records:
        assert 0 < record["bytes_in"] <= data
        assert record["bad_chunks"] == record["retries"] == 0
        times = [record[t] for t in ("started", "connected", "first_byte", "last_byte")]
        times += [record["verified"], record["renamed"]]
        assert times == sorted(times)
        assert times[0] >= 0
        copy = tmp_path / "to" / str(record["rank"])
        assert difference(payload, copy / "src") == ""
        assert os.listdir(copy) == ["src"]
    assert (tmp_path / "to/1/src/holes").stat().st_blocks * 512 < 5 << 20
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("how", ["--mmap", ""])
def test_flat(programs: Path, tmp_path: Path, how: str) -> None:
    """All ranks under rank 0 ask each other, or do not if rank 0 has it at hand."""
    (tmp_path / "large").write_bytes(os.urandom(9 << 20))
    (tmp_path / "to").mkdir()
    records, said = run(
        f"flux archive create {how} -C $1 large && {EVERYBODY} $1/to $2/fetch_main -b 3,1,2 main"
        " && flux exec -r 2 $2/fetch_main -b 2,99 main $1/to/lost"
        " && $2/fetch_main -b 0,1,2,3 -w 2 main $1/to/0",
        tmp_path,
        programs,
        size=4,
    )
    assert [r["state"] for r in records] == [3] * 5, said
    for name in ("0", "1", "2", "3", "lost"):
        copy = tmp_path / "to" / name / "large"
        assert copy.read_bytes() == (tmp_path / "large").read_bytes()
    lost = next(r for r in records[3:] if r["rank"] == 2)
    assert lost["retries"] > 0  # there is no rank 99, so its own broker was asked


def entry(**more: object) -> dict[str, object]:
    return {"path": "f", "mode": 33188, "mtime": 1, "encoding": "blobvec", "size": 9, **more}


def test_refused(programs: Path, tmp_path: Path) -> None:
    """What is not there, or not what the archive says, and nothing stays behind."""
    blob = "sha1-6b0d31c0d563223024da45691584643ac78c96e8"  # in no cache
    sha256 = "sha256-" + "ab" * 32
    archives = {
        "missing": [entry(data=[[0, 4, blob]])],
        "sha256": [entry(data=[[0, 4, sha256]])],
        "size": [entry(path="d/f", data=[[5, 4, "STORED"]])],
        "twice": [entry(data=[[0, 3, "STORED"]]), entry(data=[[0, 3, "STORED"]])],
        "leaves": [entry(path="../f", data=[[0, 3, "STORED"]])],
        "good": [entry(data=[[0, 3, "STORED"], [6, 3, "STORED"]])],
    }
    for name, value in archives.items():
        (tmp_path / name).write_text(json.dumps(value))
    (tmp_path / "to").mkdir()
    (tmp_path / "to/there").touch()
    (tmp_path / "changed").write_bytes(b"a" * 5000)
    records, said = run(
        "cd $1; blob=$(printf abc | flux content store); flux archive create --mmap -n changed"
        " changed; dd if=/dev/zero of=changed bs=1 count=9 conv=notrunc 2>/dev/null;"
        " for name in missing sha256 size twice leaves good; do"
        '   flux kvs put archive.$name="$(sed s/STORED/$blob/g $name)"; done;'
        " for name in missing sha256 size twice leaves changed none good; do"
        "   flux exec -r 1 $2/fetch_main $name $1/to; done",
        tmp_path,
        programs,
    )
    texts = [r["text"] for r in records]
    assert len(texts) == 8, said
    assert texts[0] == (
        "archive missing: f at offset 0: is not in the content cache: create the archive again"
    )
    assert "is named by another kind of digest than this instance uses" in texts[1]
    assert texts[2] == (
        "archive size: d/f at offset 5: what came is not what the archive says: create it again"
    )
    assert records[2]["bad_chunks"] == 3
    assert "archive entry f: comes twice" in texts[3]
    assert "archive entry ../f: has .. in it" in texts[4]
    assert texts[5] == "archive changed: changed at offset 0: mapped file content has changed"
    assert "archive.none: No such file" in texts[6]
    assert [r["state"] for r in records] == [4] * 7 + [3], said
    assert [r["kind"] for r in records[:6]] == [1] * 6
    assert sorted(os.listdir(tmp_path / "to")) == ["f", "there"]
    assert (tmp_path / "to/f").read_bytes() == b"abc\0\0\0abc"


def test_destination(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(100_000))
    (tmp_path / "to").mkdir()
    records, said = run(
        "cd $1; flux archive create a; $2/fetch_main main to; $2/fetch_main main to;"
        " echo other > to/a; $2/fetch_main -o main to; $2/fetch_main -k main to;"
        " $2/fetch_main -o main a; $2/fetch_main main new/er",
        tmp_path,
        programs,
        size=1,
    )
    assert [r["state"] for r in records] == [3, 4, 3, 3, 4, 4], said
    assert records[1]["text"] == "destination to/a: exists: remove it, or allow overwrite"
    assert records[4]["text"].startswith("destination a: is not a directory")
    assert records[5]["text"].startswith("destination new/er: its directory does not exist")
    assert {r["kind"] for r in records if r["state"] == 4} == {2}
    kept = next(line for line in said.splitlines() if line.startswith("to/.flux-tree-"))
    assert kept.split()[1:] == ["100000", "1", "2", "1048576"]
    assert (tmp_path / "to/a").read_bytes() == (tmp_path / "a").read_bytes()
    assert leftovers(tmp_path) == []


def test_silence(programs: Path, tmp_path: Path) -> None:
    """A broker above that says nothing any more: the time limit ends it."""
    (tmp_path / "a").write_bytes(os.urandom(3 << 20))
    records, said = run(
        "cd $1; flux archive create a; pid=$(flux getattr broker.pid);"
        " uri=$(flux exec -r 1 flux getattr local-uri);"
        " flux exec -r 1 flux kvs get archive.main >/dev/null; kill -STOP $pid;"
        " FLUX_URI=$uri $2/fetch_main -t 0.5 main to; kill -CONT $pid",
        tmp_path,
        programs,
    )
    assert [r["state"] for r in records] == [4], said
    assert records[0]["text"] == "archive main: nothing came from the content cache for 0.5 s"
    assert os.listdir(tmp_path) == ["a"]
