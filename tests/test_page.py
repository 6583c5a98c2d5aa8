"""The door: who may read, over what, and that slow or hostile clients cost little."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import select
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, make_wsgi_app

from cellvigil import access, config, page
from cellvigil.check import check
from cellvigil.errors import UsageError
from lab import Lab

TOKEN = "0123456789abcdef0123"


SHOWN = "<!doctype html><title>Here</title>" + "<p>a well</p>" * 1000


def late() -> tuple[str, bytes]:
    raise TimeoutError


PAGES: dict[str, page.Page] = {
    "/": lambda: ("text/html; charset=utf-8", SHOWN.encode()),
    "/frame.jpg": lambda: None,
    "/late": late,
}


def application(token: str = "") -> page.WSGIApplication:
    return page.application(make_wsgi_app(CollectorRegistry()), lambda: (True, {"backlog_frames": 3}), token, PAGES)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    with page.served(application(TOKEN), listen="127.0.0.1", port=0) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("pem")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    key.chmod(0o600)
    return cert, key


def get(url: str, *, context: ssl.SSLContext | None = None, **headers: str) -> tuple[int, str]:
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("path", ["/metrics", "/", "/frame.jpg", "/elsewhere"])
@pytest.mark.parametrize(
    "brought",
    [
        "",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer ",
        "Bearer",
        f"bearer {TOKEN}",
        "Basic ",
        "Basic !!!",
        "Basic \u00fc",
        f"Digest {TOKEN}",
        basic("", ""),
        basic(TOKEN, ""),
        basic(TOKEN, "wrong"),
        basic("me", f"{TOKEN}x"),
        basic("me", f":{TOKEN}"),
        basic("me", TOKEN[:-1]),
        f"Basic {base64.b64encode(TOKEN.encode()).decode()}",
    ],
)
def test_without_the_token_nothing_is_told(guarded: str, path: str, brought: str) -> None:
    code, text = get(guarded + path, Authorization=brought)
    assert code == 401
    assert TOKEN not in text


def test_with_the_token_everything_is(guarded: str) -> None:
    brought = {"Authorization": f"Bearer {TOKEN}"}
    assert get(f"{guarded}/metrics", **brought)[0] == 200
    assert get(f"{guarded}/", **brought)[0] == 200
    assert json.loads(get(f"{guarded}/healthz", **brought)[1]) == {"ok": True, "backlog_frames": 3}


@pytest.mark.parametrize("name", ["", "me", "\u00fcmlaut", "a b"])
def test_a_browser_asks_for_the_token_and_brings_it_as_a_password(guarded: str, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{guarded}/", timeout=5)
    with refused.value as answer:
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert answer.headers["Cache-Control"] == "no-store"
    assert get(f"{guarded}/", Authorization=basic(name, TOKEN)) == (200, SHOWN)


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/frame.jpg", "/late", "/elsewhere"])
@pytest.mark.parametrize("authorization", ["", f"Bearer {TOKEN}"])
def test_every_answer_is_guarded_and_kept_by_nobody(guarded: str, path: str, authorization: str) -> None:
    host = urllib.parse.urlsplit(guarded).netloc
    connection = http.client.HTTPConnection(host, timeout=5)
    connection.request("GET", path, headers={"Authorization": authorization})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    policy = dict(
        part.strip().partition(" ")[::2] for part in str(answer.headers["Content-Security-Policy"]).split(";")
    )
    assert policy["default-src"] == "'none'"
    assert "script-src" not in policy  # so the default holds: none at all
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_what_is_not_there_and_what_takes_too_long() -> None:
    with page.served(application(), listen="127.0.0.1", port=0) as port:
        assert get(f"http://127.0.0.1:{port}/frame.jpg")[0] == 404
        assert get(f"http://127.0.0.1:{port}/late")[0] == 503
        assert get(f"http://127.0.0.1:{port}/healthz")[0] == 200


def test_a_page_is_compressed_for_who_can_read_it() -> None:
    with page.served(application(), listen="127.0.0.1", port=0) as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Accept-Encoding": "gzip, br"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            body = answer.read()
            assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body).decode() == SHOWN
        assert len(body) < len(SHOWN) / 5
        assert get(f"http://127.0.0.1:{port}/")[1] == SHOWN


def test_health_is_told_to_anybody_and_no_more(guarded: str) -> None:
    assert get(f"{guarded}/healthz") == (200, '{"ok": true}')


def test_tls_is_spoken_where_it_is_configured(pem: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(pem[0]))
    with page.served(application(), listen="127.0.0.1", port=0, tls=access.open_tls(*pem)) as port:
        assert get(f"https://localhost:{port}/metrics", context=context)[0] == 200
        with pytest.raises((urllib.error.URLError, OSError)):
            get(f"http://127.0.0.1:{port}/metrics")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert get(f"https://localhost:{port}/healthz", context=context)[0] == 200


def test_a_client_that_never_shakes_hands_does_not_hold_up_another(pem: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(pem[0]))
    door = page.served(application(), listen="127.0.0.1", port=0, tls=access.open_tls(*pem))
    with door as port, socket.create_connection(("127.0.0.1", port)) as silent:
        silent.send(b"\x16")
        assert get(f"https://localhost:{port}/healthz", context=context)[0] == 200


def test_too_many_clients_are_turned_away_and_others_served_again_afterwards() -> None:
    with page.served(application(), listen="127.0.0.1", port=0) as port:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        gone: list[socket.socket] = []
        until = time.monotonic() + 30
        while len(gone) < 8 and time.monotonic() < until:  # the system may hand them over in another order
            gone, _, _ = select.select(idle, [], [], 0.05)
        assert [one.recv(1) for one in gone] == [b""] * 8
        for one in idle:
            one.close()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                if get(f"http://127.0.0.1:{port}/healthz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        pytest.fail("it never answered again")


def test_one_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_LONGEST_S", 0.5)
    door = page.served(application(), listen="127.0.0.1", port=0)
    with door as port, socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(20)
        slow.send(b"GET /metrics HT")
        assert slow.recv(1000) == b""


def test_a_request_without_end_is_refused() -> None:
    door = page.served(application(), listen="127.0.0.1", port=0)
    with door as port, socket.create_connection(("127.0.0.1", port)) as greedy:
        greedy.settimeout(5)
        greedy.sendall(b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # it may hang up before all of it was read
            assert b"414" in greedy.recv(1000)


@pytest.mark.parametrize(
    "text", ["", "short", "two words that are long enough", "ümläutümläutümläut", "0123456789abcdef\n0123"]
)
def test_a_weak_token_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="at least 16 plain characters"):
        access.read_token(tmp_path / "token")


def test_files_that_are_not_there_or_do_not_fit_are_refused(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    assert access.read_token(None) == ""
    assert access.open_tls(None, None) is None
    with pytest.raises(UsageError, match="cannot be read"):
        access.read_token(tmp_path / "none")
    with pytest.raises(UsageError, match="both"):
        access.open_tls(pem[0], None)
    with pytest.raises(UsageError, match="both"):
        access.open_tls(None, pem[1])
    for wrong in ((pem[0], pem[0]), (tmp_path / "none", pem[1])):
        with pytest.raises(UsageError, match="cannot be used"):
            access.open_tls(*wrong)


def test_an_open_door_is_warned_of(tmp_path: Path, pem: tuple[Path, Path]) -> None:
    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    secret.chmod(0o600)

    def warned(**values: object) -> str:
        return "; ".join(access.warnings_of(config.Metrics(**values)))

    assert warned() == ""
    assert warned(listen="::1") == ""
    assert warned(listen="localhost") == ""
    assert "anybody" in warned(listen="0.0.0.0")
    assert "in clear" in warned(listen="10.0.0.7", token_file=secret)
    assert warned(listen="0.0.0.0", token_file=secret, tls_cert_file=pem[0], tls_key_file=pem[1]) == ""
    secret.chmod(0o644)
    assert "chmod 600" in warned(token_file=secret)


def test_check_tells_of_the_door(lab: Lab) -> None:
    def found(**metrics: object) -> list[tuple[str, str]]:
        findings = check(lab.config(metrics={"port": 0, **metrics}), force=True)
        return [(one.level, one.text) for one in findings if one.subject == "metrics"]

    assert [level for level, _ in found()] == ["ok"]
    assert [level for level, _ in found(listen="0.0.0.0")] == ["warn", "ok"]
    assert [level for level, _ in found(token_file="none")] == ["fail"]


def test_the_service_asks_for_the_token(lab: Lab) -> None:
    lab.film(timepoints=1)
    token = lab.root / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    with lab.service(metrics={"port": 0, "token_file": "token"}) as service:
        assert get(f"{service.address}/metrics")[0] == 401
        assert get(f"{service.address}/healthz")[0] == 200
        assert get(f"{service.address}/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert service.terminate() == 0
