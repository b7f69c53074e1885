"""A small server that speaks the Hub's protocol as `huggingface_hub` uses it, for models that are in memory.

    with HubServer() as hub:
        hub.add("owner/name", {"config.json": b"{}"})
        ...  # HF_ENDPOINT is hub.endpoint

It listens on 127.0.0.1 alone, on a port that is free, and keeps a log of what it was asked for. What goes wrong on real
networks can be planned: `hub.cut`, `hub.spoil`, `hub.status`, `gated` and `private` of a model.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".msgpack", ".h5")  # in Git LFS: known by their SHA-256, and sent by another host
PAGE = 3  # entries of a tree in one answer
TOKEN = "hf_reader"


@dataclass
class Model:
    """A model on the server: the files of each commit, and which commit each branch or tag is."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


class HubServer(ThreadingHTTPServer):
    """The Hub, with the models that were added."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, Model] = {}
        self.renamed: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []
        """Method and path of each request for a model or a file, in order."""
        self.ranges: list[str] = []
        """The Range of each request that had one."""
        self.cut: dict[str, int] = {}
        """Files whose transfer breaks off after so many bytes, once."""
        self.spoil: dict[str, bytes] = {}
        """What is sent in the place of a file; its hash stays as it was."""
        self.status: int | None = None
        """Answer every request with this error."""
        self.extra_names: list[str] = []
        """Names that the lists of files hold besides."""
        self.connections: set[socket.socket] = set()

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):  # else clients would go on with those that are open
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def files_asked_for(self) -> set[str]:
        """The names of all files whose content was sent."""
        names = {sha256(content): file for model in self.models.values() for file, content in _all_files(model)}
        paths = [path for method, path in self.log if method == "GET" and not path.startswith("/api/")]
        return {names.get(path.rsplit("/")[-1], path.rsplit("/")[-1]) for path in paths}

    def add(self, name: str, files: dict[str, bytes], revision: str = "main", **properties: Any) -> str:
        """Add a commit to a model, for a branch or tag; returns the commit."""
        model = self.models.setdefault(name, Model(**properties))
        text = json.dumps({file: sha256(content) for file, content in files.items()}, sort_keys=True)
        commit = hashlib.sha1(text.encode()).hexdigest()
        model.commits[commit] = files
        model.refs[revision] = commit
        return commit


def _all_files(model: Model) -> list[tuple[str, bytes]]:
    return [item for files in model.commits.values() for item in files.items()]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 10
    server: HubServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path == "/api/agent-harnesses":  # huggingface_hub asks for this, too
            return self.fail(404)
        self.server.log.append((self.command, path))
        if "Range" in self.headers:
            self.server.ranges.append(self.headers["Range"])
        if self.server.status is not None:
            return self.fail(self.server.status)
        if path.startswith("/cdn/"):
            return self.send_blob(path.removeprefix("/cdn/"))
        for pattern, method in (
            (r"/api/models/(?P<name>[^/]+(?:/[^/]+)?)/revision/(?P<revision>.+)", self.send_info),
            (r"/api/models/(?P<name>[^/]+(?:/[^/]+)?)/tree/(?P<revision>[^/]+)/?", self.send_tree),
            (r"/api/models/(?P<name>[^/]+(?:/[^/]+)?)", self.send_info),
            (r"/(?P<name>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self.send_file),
        ):
            if match := re.fullmatch(pattern, path):
                parts = match.groupdict()
                name = parts.pop("name")
                if name in self.server.renamed:
                    where = path.replace(name, self.server.renamed[name]) + (f"?{url.query}" if url.query else "")
                    return self.send(307, b"", {"Location": where})
                model = self.server.models.get(name)
                if model is None or (model.private and not self.logged_in):
                    return self.fail(401 if not self.logged_in else 404, "RepoNotFound", "Repository not found")
                commit = model.refs.get(parts.get("revision", "main"), parts.get("revision", ""))
                if commit not in model.commits:
                    return self.fail(404, "RevisionNotFound", "Invalid rev id")
                return method(name, model, commit, parts.get("file") or url.query)
        return self.fail(404)

    @property
    def logged_in(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def send_info(self, name: str, model: Model, commit: str, query: str) -> None:
        siblings = []
        for file, content in model.commits[commit].items():
            entry: dict[str, Any] = {"rfilename": file}
            if "blobs" in parse_qs(query):
                entry |= {"size": len(content), "blobId": git_hash(content)}
                if file.endswith(LARGE):
                    entry["lfs"] = {"size": len(content), "sha256": sha256(content), "pointerSize": 134}
            siblings.append(entry)
        siblings += [{"rfilename": file} for file in self.server.extra_names]
        self.send_json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": []})

    def send_tree(self, name: str, model: Model, commit: str, query: str) -> None:
        entries = []
        for file, content in model.commits[commit].items():
            entry = {"type": "file", "path": file, "size": len(content), "oid": git_hash(content)}
            if file.endswith(LARGE):
                entry["lfs"] = {"size": len(content), "oid": sha256(content), "pointerSize": 134}
            entries.append(entry)
        start = int(parse_qs(query).get("cursor", ["0"])[0])
        headers = {}
        if start + PAGE < len(entries):
            where = f"{self.server.endpoint}/api/models/{name}/tree/{commit}?recursive=True&cursor={start + PAGE}"
            headers["Link"] = f'<{where}>; rel="next"'
        self.send_json(entries[start : start + PAGE], headers)

    def send_file(self, name: str, model: Model, commit: str, file: str) -> None:
        headers = {"X-Repo-Commit": commit}
        content = model.commits[commit].get(file)
        if content is None:
            return self.fail(404, "EntryNotFound", "Entry not found", headers)
        if model.gated:
            return self.fail(403 if self.logged_in else 401, "GatedRepo", "Access is restricted", headers)
        if not file.endswith(LARGE):
            return self.send_content(file, content, headers | {"ETag": f'"{git_hash(content)}"'})
        # another host name, as the Hub leads to another host; to us it is the same server
        headers |= {
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{sha256(content)}"',
            "Location": f"http://localhost:{self.server.server_port}/cdn/{sha256(content)}",
        }
        return self.send(302, b"", headers)

    def send_blob(self, digest: str) -> None:
        for model in self.server.models.values():
            for file, content in _all_files(model):
                if sha256(content) == digest:
                    return self.send_content(file, content, {"ETag": f'"{digest}"'})
        return self.fail(404)

    def send_content(self, file: str, content: bytes, headers: dict[str, str]) -> None:
        """A file, or the end of it from where a Range begins; cut or spoiled where that was planned."""
        content = self.server.spoil.get(file, content)
        status, start = 200, 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            status, start = 206, int(match[1])
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        if self.command == "GET" and file in self.server.cut:
            stop = self.server.cut.pop(file)
            self.send(status, content[start:], headers, send_only=stop)
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send(status, content[start:], headers)

    def send_json(self, content: Any, headers: dict[str, str] | None = None) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def fail(self, status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None) -> None:
        found = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self.send(status, b"{}", found | (headers or {}))

    def send(self, status: int, body: bytes, headers: dict[str, str], send_only: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:send_only])
