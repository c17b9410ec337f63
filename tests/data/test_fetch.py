"""Files behind a URL: fetched whole, resumed where the connection broke, checked, refused; a server of our own."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import yaml

from flowsr.data import fetch, open_field
from flowsr.data.manifest import check_redirect, check_sha256, check_url, fetch_url
from flowsr.errors import FlowsrError

BODY = bytes(np.random.default_rng(0).integers(0, 256, 3 << 20, dtype="u1"))
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        breaks, asked = 0, []

        def do_GET(self):
            if self.path != "/a.bin":
                self.send_response(302)
                self.send_header("Location", "/a.bin")
                self.end_headers()
                return
            span = self.headers.get("Range")
            self.asked.append(span)
            start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
            self.send_response(206 if span else 200)
            self.send_header("Content-Length", str(len(BODY) - start))
            self.end_headers()
            if Handler.breaks:
                Handler.breaks -= 1
                self.wfile.write(BODY[start : start + (2 << 20)])
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(BODY[start:])

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    Handler.url = f"http://127.0.0.1:{running.server_port}/a.bin"
    yield Handler
    running.shutdown()
    running.server_close()


def test_a_file_is_fetched_and_checked(tmp_path, server):
    target = fetch_url(server.url, tmp_path / "sub" / "a.bin", SHA256)
    assert target.read_bytes() == BODY and [p.name for p in target.parent.iterdir()] == ["a.bin"]


def test_a_broken_connection_is_resumed(tmp_path, server):
    server.breaks = 1
    with pytest.raises(FlowsrError, match=r"cannot be fetched.*127.0.0.1.*what has arrived is kept"):
        fetch_url(server.url, tmp_path / "a.bin", SHA256)
    assert not (tmp_path / "a.bin").exists()
    kept = (tmp_path / ".a.bin.partial").stat().st_size
    assert kept >= 1 << 20
    fetch_url(server.url, tmp_path / "a.bin", SHA256)
    assert server.asked == [None, f"bytes={kept}-"] or server.asked[-1] == f"bytes={kept}-"
    assert (tmp_path / "a.bin").read_bytes() == BODY and len(list(tmp_path.iterdir())) == 1


def test_other_bytes_than_stated_are_refused_and_not_kept(tmp_path, server):
    with pytest.raises(FlowsrError, match=r"the checksum differs.*expected: 0000"):
        fetch_url(server.url, tmp_path / "a.bin", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_one_line_that_says_what_to_do(tmp_path):
    with pytest.raises(FlowsrError, match=r"cannot be fetched.*ask Ann") as caught:
        fetch_url("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", SHA256, obtain="ask Ann")
    assert "\n" not in str(caught.value) and not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize(
    "url", ["http://a.org/b", "file:///etc/passwd", "ftp://a.org/b", "s3://a/b", "https:///b", "b", "javascript:1"]
)
def test_schemes_that_are_not_fetched(url):
    with pytest.raises(FlowsrError, match=r"a URL that is not fetched.*https"):
        check_url(url, "a")
    check_url("https://a.org/b", "a")


def manifest(folder, root=".", **stated):
    content = {
        "root": root,
        "name": "a",
        "description": "",
        "source": "",
        "licence": "",
        "obtain": "ask Ann",
        "files": {"a": {"path": "a.npy"} | stated},
        "boundary": ["open"] * 3,
        "variables": {"velocity": {"irreps": "1o", "axes": ["component", "x", "y", "z"]}},
        "grid": {"cells": [2, 3, 4], "lengths": [1, 1, 1]},
    }
    (folder / "a.yaml").write_text(yaml.safe_dump(content))
    return folder / "a.yaml"


def test_opening_never_fetches_and_says_how(tmp_path):
    path = manifest(tmp_path, url="https://example.invalid/a.npy")
    with pytest.raises(FlowsrError, match=r"no such file; fetch it with flowsr.data.fetch.*ask Ann"):
        open_field(path)
    with pytest.raises(FlowsrError, match="a URL that is not fetched"):
        fetch(manifest(tmp_path, url="file:///etc/passwd", sha256=SHA256), tmp_path)
    with pytest.raises(FlowsrError, match="no URL for this file; ask Ann"):
        fetch(manifest(tmp_path), tmp_path)


def test_a_file_is_opened_only_with_the_stated_checksum(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(72, dtype="f4").reshape(3, 2, 3, 4))
    right = hashlib.sha256((tmp_path / "a.npy").read_bytes()).hexdigest()
    assert open_field(manifest(tmp_path, sha256=right.upper()))["velocity"].shape == (1, 3, 2, 3, 4)
    assert fetch(manifest(tmp_path, sha256=right), tmp_path) == [tmp_path / "a.npy"]
    with pytest.raises(FlowsrError, match=r"the checksum differs.*expected: 1111"):
        open_field(manifest(tmp_path, sha256="1" * 64))
    with pytest.raises(FlowsrError, match="bad value for"):
        open_field(manifest(tmp_path, sha256="short"))
    check_sha256(tmp_path / "a.npy", None)


@pytest.mark.parametrize(
    "stated",
    [{"root": ".."}, {"root": "/tmp"}, {"path": ".profile"}, {"path": ".config/a.npy"}, {"path": "../a.npy"}],
    ids=str,
)
def test_a_manifest_does_not_decide_where_files_go(tmp_path, stated, monkeypatch):
    monkeypatch.setattr("flowsr.data.manifest.fetch_url", lambda *_: pytest.fail("fetched"))
    (tmp_path / "sub").mkdir()
    path = manifest(tmp_path / "sub", url="https://a.org/a.npy", sha256=SHA256, **stated)
    with pytest.raises(FlowsrError) as caught:
        fetch(path, tmp_path / "sub")
    assert caught.value.variable == "files.a"


def test_a_url_without_a_checksum_is_not_fetched(tmp_path):
    with pytest.raises(FlowsrError) as caught:
        fetch(manifest(tmp_path, url="https://a.org/a.npy"), tmp_path)
    assert caught.value.variable == "sha256"


def test_a_redirect_to_this_machine_is_not_followed(tmp_path, server):
    server.asked.clear()
    with pytest.raises(FlowsrError) as caught:
        fetch_url(server.url.replace("a.bin", "moved"), tmp_path / "a.bin", SHA256)
    assert caught.value.expected == "a public address" and server.asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        *(f"https://{h}/a" for h in ("localhost", "10.0.0.1", "169.254.169.254", "[::1]")),
        "http://1.1.1.1/",
        "file:///a",
    ],
)
def test_redirects_that_are_not_followed(other):
    with pytest.raises(FlowsrError) as caught:
        check_redirect("https://a.org/a", other, "a")
    assert caught.value.found == other
    check_redirect("https://a.org/a", "https://1.1.1.1/a", "a")


def test_a_link_where_a_file_arrives_is_not_followed(tmp_path, server):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".a.bin.partial").symlink_to("victim")
    with pytest.raises(FlowsrError) as caught:
        fetch_url(server.url, tmp_path / "a.bin", SHA256)
    assert caught.value.found == "a link" and (tmp_path / "victim").read_text() == "mine"
