"""The example that serves a model: from a registry to all pods, and an answer from each of them."""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from entrypoint_support import Pods
from minicluster_support import documents
from registry_support import CONFIG, find_registry

from flux_tree.lab import Lab

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "minicluster" / "inference"
#: The registry's host in the lab, after those of the pods.
REGISTRY = 4
TEXTS = ["A cat.", "the CAT sat", "", "naïve, no?"]
WORDS = "[PAD] [UNK] [CLS] [SEP] the a cat sa ##t . , naive no ?"
VOCABULARY = WORDS.split(" ")
#: bcrypt of "sesame"
HTPASSWD = "user:$2b$05$abcdefghijklmnopqrstuuKcS.CYWVYVaLiiCKrrc0A5s3mGesJ9O\n"

PUSH = """
import sys
from registry_support import push
from pathlib import Path
folder = Path(sys.argv[1])
login = tuple(sys.argv[2].split(":")) if sys.argv[2:] else None
push("127.0.0.1:5000", "minilm:v1", sorted(folder.iterdir()), login)
"""
ASK = """
import json, sys, urllib.error, urllib.request
for host in sys.argv[2:]:
    url = f"http://{host}:8000"
    print(urllib.request.urlopen(f"{url}/health", timeout=5).read().decode())
    body = json.dumps({"texts": json.loads(sys.argv[1])}).encode()
    print(urllib.request.urlopen(f"{url}/embed", data=body, timeout=5).read().decode())
"""


@pytest.fixture(scope="module")
def server():
    spec = importlib.util.spec_from_file_location("example_server", EXAMPLE / "server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model():
    """A model as all-MiniLM-L6-v2 is, but small, and of random weights."""
    with tempfile.TemporaryDirectory(prefix="model-") as name:
        folder = Path(name)
        write_model(folder)
        yield folder


def write_model(folder, hidden=32, inner=64, layers=2):
    rng = np.random.default_rng(7)
    shapes = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), hidden),
        "embeddings.position_embeddings.weight": (64, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for i in range(layers):
        for name, out, into in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ]:
            shapes[f"encoder.layer.{i}.{name}.weight"] = (out, into)
            shapes[f"encoder.layer.{i}.{name}.bias"] = (out,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{i}.{name}.weight"] = (hidden,)
            shapes[f"encoder.layer.{i}.{name}.bias"] = (hidden,)
    header, data = {}, b""
    for name, shape in shapes.items():
        tensor = rng.normal(size=shape).astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(tensor)],
        }
        data += tensor
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    config = {"num_hidden_layers": layers, "num_attention_heads": 4, "layer_norm_eps": 1e-12}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")


def test_words_are_cut_as_bert_does(server, model):
    tokenize = server.Tokenizer(model / "vocab.txt")

    def words(text):
        return [VOCABULARY[i] for i in tokenize(text)]

    assert words("The cat sat.") == ["[CLS]", "the", "cat", "sa", "##t", ".", "[SEP]"]
    assert words("Naïve, dog?") == ["[CLS]", "naive", ",", "[UNK]", "?", "[SEP]"]
    assert words("") == ["[CLS]", "[SEP]"]
    assert len(words("a " * 1000)) == server.MAX_TOKENS


def test_gelu_is_that_of_the_error_function(server):
    import math

    x = np.linspace(-6, 6, 241)
    exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x]
    assert np.allclose(server.gelu(x), exact, atol=1e-6)


def test_attention_is_that_of_one_token_at_a_time(server, model):
    """One layer, written out anew with loops."""
    m = server.Model(model)
    w, name = m.weights, "encoder.layer.1"
    x = np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)

    def part(which, at):
        weight = w[f"{name}.attention.self.{which}.weight"]
        return weight @ x[at] + w[f"{name}.attention.self.{which}.bias"]

    def norm(v, which):
        v = (v - v.mean()) / np.sqrt(v.var() + 1e-12)
        return v * w[f"{name}.{which}.weight"] + w[f"{name}.{which}.bias"]

    def dense(v, which):
        return w[f"{name}.{which}.weight"] @ v + w[f"{name}.{which}.bias"]

    for at in range(5):
        heads = []
        for h in range(4):
            cut = slice(8 * h, 8 * h + 8)
            scores = np.array(
                [part("query", at)[cut] @ part("key", o)[cut] / np.sqrt(8) for o in range(5)]
            )
            share = np.exp(scores) / np.exp(scores).sum()
            heads.append(sum(share[o] * part("value", o)[cut] for o in range(5)))
        y = norm(x[at] + dense(np.concatenate(heads), "attention.output.dense"), AFTER)
        z = norm(y + dense(server.gelu(dense(y, "intermediate.dense")), "output.dense"), LAST)
        assert np.allclose(m.layer(x, name)[at], z, atol=1e-4)


AFTER, LAST = "attention.output.LayerNorm", "output.LayerNorm"


def test_a_request_that_is_none(server, model):
    import threading
    import urllib.error
    import urllib.request

    server.Handler.model = server.Model(model)
    http = server.ThreadingHTTPServer(("127.0.0.1", 0), server.Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}"
    try:
        for path, body, status in [
            ("/embed", b"{", 400),
            ("/embed", b"[]", 400),
            ("/embed", b'{"texts": "one"}', 400),
            ("/embed", b'{"texts": [1]}', 400),
            ("/embed", json.dumps({"texts": ["a"] * 65}).encode(), 413),
            ("/other", b"{}", 404),
            ("/other", None, 404),
        ]:
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(url + path, data=body, timeout=10)
            assert caught.value.code == status
            assert json.loads(caught.value.read())["error"]
    finally:
        http.shutdown()
        http.server_close()


@pytest.mark.flux
@pytest.mark.lab
@pytest.mark.skipif(find_registry() is None, reason="Debian's docker-registry is not here")
@pytest.mark.parametrize(
    "name", ["minicluster.yaml", pytest.param("private.yaml", marks=pytest.mark.slow)]
)
def test_each_pod_answers_from_its_own_copy(server, model, name):
    private = name == "private.yaml"
    (manifest,) = documents(EXAMPLE / name)
    flux = manifest["spec"]["flux"]
    if private:
        # the registry here is in plain HTTP, and somewhere else; the rest is as it stands
        address = "oci://registry.example.com/"
        assert address in flux["optionFlags"]
        flux["optionFlags"] = flux["optionFlags"].replace(address, "oci+http://models:5000/")
    login = {"auths": {"models:5000": {"auth": base64.b64encode(b"user:sesame").decode()}}}
    files = {
        "inference-server": {"server.py": (EXAMPLE / "server.py").read_bytes()},
        "registry-login": {".dockerconfigjson": json.dumps(login).encode()},
    }
    with tempfile.TemporaryDirectory(prefix="pods-") as folder, Lab(5, 125e6) as lab:
        start_registry(lab, model, private)
        services = {"models": lab.addresses[REGISTRY]}
        with Pods(lab, manifest, Path(folder), files, services) as pods:
            wait_for_servers(pods, set(lab.names[:4]))
            answers = ask(lab)
    expected = server.Model(model)
    for rank, (health, found) in enumerate(zip(answers[::2], answers[1::2])):
        assert health == {"host": lab.names[rank], "parameters": expected.parameters}
        assert found["host"] == lab.names[rank]
        assert np.allclose(found["embeddings"], [expected.embed(t) for t in TEXTS], atol=1e-6)


def start_registry(lab, model, private):
    """Run a registry on a host, and push the model as three files."""
    folder = lab.folder / "registry"
    folder.mkdir()
    auth = ""
    if private:
        (folder / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: here, path: {folder}/htpasswd}}}}"
    text = CONFIG.format(folder=folder, port=5000, auth=auth).replace("127.0.0.1:", "0.0.0.0:")
    (folder / "config.yml").write_text(text)
    with open(folder / "log", "wb") as log:
        lab.popen(
            REGISTRY,
            [find_registry(), "serve", str(folder / "config.yml")],
            stdout=log,
            stderr=log,
        )
    wait = "import socket; socket.create_connection(('127.0.0.1', 5000), 1)"
    deadline = time.monotonic() + 20
    while lab.popen(REGISTRY, [sys.executable, "-c", wait], stderr=-3).wait() != 0:
        assert time.monotonic() < deadline, (folder / "log").read_text()
    command = [sys.executable, "-c", PUSH, str(model), *(["user:sesame"] if private else [])]
    assert lab.popen(REGISTRY, command, cwd=Path(__file__).parent).wait(60) == 0


def wait_for_servers(pods, hosts):
    said = []
    for line in pods.lines(30):
        said.append(line)
        hosts -= {line.partition(": /dev/shm/model, ")[0]}
        if not hosts:
            return
    raise AssertionError("\n".join(said))


def ask(lab):
    command = [sys.executable, "-c", ASK, json.dumps(TEXTS), *lab.addresses[:4]]
    process = lab.popen(0, command, stdout=-1, text=True)
    out, _ = process.communicate(timeout=60)
    return [json.loads(line) for line in out.splitlines()]
