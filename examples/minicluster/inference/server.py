"""Serves a sentence embedding model of the BERT family over HTTP, with nothing but numpy.

    python3 server.py MODEL [--port 8000]

MODEL is a folder with `model.safetensors`, `config.json` and `vocab.txt`, as all-MiniLM-L6-v2 has.

    GET  /health  {"host": "inference-2", "parameters": 22713216}
    POST /embed   {"texts": ["..."]} gives {"host": "...", "embeddings": [[...], ...]}
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

MAX_TEXTS, MAX_TOKENS, MAX_BODY = 64, 256, 1 << 20
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}


def load(path):
    """Return the tensors of a safetensors file by name: a header of JSON, then their bytes."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    size = int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8 : 8 + size].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        tensor = raw[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = tensor.astype(np.float32) if entry["dtype"][0] == "F" else tensor
    return tensors


class Tokenizer:
    """WordPiece: words in small letters, cut into the longest pieces that the vocabulary has."""

    def __init__(self, path):
        words = Path(path).read_text(encoding="utf-8").splitlines()
        self.ids = {word: i for i, word in enumerate(words)}

    def __call__(self, text):
        """Return the numbers of a text's pieces, between those of its two ends."""
        text = unicodedata.normalize("NFD", text.lower())
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
        ids = [i for word in re.findall(r"\w+|[^\w\s]", text) for i in self.pieces(word)]
        return [self.ids["[CLS]"], *ids[: MAX_TOKENS - 2], self.ids["[SEP]"]]

    def pieces(self, word):
        """Return the numbers of a word's pieces; that of [UNK] if it cannot be cut."""
        found, at = [], 0
        while at < len(word):
            prefix = "##" if at else ""
            for end in range(len(word), at, -1):
                if prefix + word[at:end] in self.ids:
                    found.append(self.ids[prefix + word[at:end]])
                    at = end
                    break
            else:
                return [self.ids["[UNK]"]]
        return found


class Model:
    """BERT, and the mean over a text's tokens as its embedding, of length 1."""

    def __init__(self, folder):
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load(folder / "model.safetensors")
        self.tokenize = Tokenizer(folder / "vocab.txt")
        self.parameters = sum(w.size for w in self.weights.values() if w.dtype.kind == "f")

    def embed(self, text):
        """Return a text as a vector."""
        ids = self.tokenize(text)
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            x = self.layer(x, f"encoder.layer.{i}")
        mean = x.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def layer(self, x, name):
        """Attention between the tokens, then each by itself."""
        heads = self.config["num_attention_heads"]
        query, key, value = (
            self.linear(x, f"{name}.attention.self.{part}")
            .reshape(len(x), heads, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        seen = (scores @ value).transpose(1, 0, 2).reshape(x.shape)
        seen = self.linear(seen, f"{name}.attention.output.dense")
        x = self.norm(x + seen, f"{name}.attention.output.LayerNorm")
        inner = gelu(self.linear(x, f"{name}.intermediate.dense"))
        return self.norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def linear(self, x, name):
        """Multiply by a matrix of weights, and add the bias."""
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        """Scale each token to mean 0 and variance 1, and then as was learned."""
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def gelu(x):
    """Return x times the normal distribution at x; erf by Abramowitz and Stegun 7.1.26."""
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = 0.254829592 + t * (
        -0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))
    )
    erf = np.sign(x) * (1 - t * series * np.exp(-z * z))
    return x * (1 + erf) / 2


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    model = None

    def do_GET(self):
        """Say that it is there."""
        if self.path != "/health":
            return self.answer(404, {"error": "there is GET /health and POST /embed"})
        self.answer(200, {"parameters": self.model.parameters})

    def do_POST(self):
        """Embed texts."""
        if self.path != "/embed":
            return self.answer(404, {"error": "there is GET /health and POST /embed"})
        try:
            size = int(self.headers.get("Content-Length", 0))
            if not 0 <= size <= MAX_BODY:
                return self.answer(413, {"error": f"at most {MAX_BODY} bytes"})
            texts = json.loads(self.rfile.read(size))["texts"]
            if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
                raise ValueError("texts must be a list of strings")
        except (ValueError, KeyError, TypeError) as exc:
            return self.answer(400, {"error": f'give {{"texts": ["...", ...]}}: {exc}'})
        if len(texts) > MAX_TEXTS:
            return self.answer(413, {"error": f"at most {MAX_TEXTS} texts"})
        self.answer(200, {"embeddings": [self.model.embed(text).tolist() for text in texts]})

    def answer(self, status, body):
        """Send JSON, with the name of the pod."""
        data = json.dumps({"host": socket.gethostname(), **body}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Leave the log to those who start it."""


def main():
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    try:
        Handler.model = Model(args.model)
    except (OSError, ValueError, KeyError) as exc:
        sys.exit(f"server: {args.model}: cannot be loaded: {exc}")
    server = ThreadingHTTPServer(("", args.port), Handler)
    print(
        f"{socket.gethostname()}: {args.model}, {Handler.model.parameters / 1e6:.1f} million"
        f" parameters, port {args.port}",
        flush=True,
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
