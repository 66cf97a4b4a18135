"""The parts of the tunnel that need no agent: where it is, what it is told, what is said of its errors."""

import json
import os
import re
from pathlib import Path

import pytest

from layerferry.embedded_registry.credentials import Credentials
from layerferry.errors import RouteError
from layerferry.routes.ngrok import edge_check
from layerferry.routes.ngrok.agent import (
    agent_environment,
    configuration,
    find_agent,
    has_endpoints,
    parse_version,
    redact,
    tunnel_forms,
)
from layerferry.routes.ngrok.edge_check import check_edge
from layerferry.routes.ngrok.failures import ADVICE, explain, find_code
from layerferry.routes.ngrok.tunnel import read_reply

CONSOLE_SCRIPT = "#!/venv/bin/python3\n# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom pyngrok.ngrok import main\n"
KNOWN = Credentials("layerferry", "a-password-of-ours")


def program(path: Path, text: str = "\x7fELF", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


class TestFindAgent:
    @pytest.mark.parametrize("name", ["NGROK_PATH", "PYNGROK_NGROK_PATH"])
    def test_what_the_user_names_comes_first(self, tmp_path: Path, name: str) -> None:
        named = program(tmp_path / "mine")
        program(tmp_path / "bin" / "ngrok")
        assert find_agent({name: str(named), "PATH": str(tmp_path / "bin")}) == named

    @pytest.mark.parametrize(
        "text", [CONSOLE_SCRIPT, "#!/bin/sh\n'''exec' python3 \"$0\"\n'''\nimport pyngrok.ngrok\n"]
    )
    def test_pyngroks_own_console_script_is_passed_over(self, tmp_path: Path, text: str) -> None:
        program(tmp_path / "venv" / "ngrok", text)
        real = program(tmp_path / "usr" / "ngrok")
        assert find_agent({"PATH": f"{tmp_path}/venv:{tmp_path}/usr"}) == real
        assert find_agent({"PATH": f"{tmp_path}/venv"}) is None

    def test_a_script_that_only_speaks_of_pyngrok_is_an_agent(self, tmp_path: Path) -> None:
        wrapper = program(tmp_path / "ngrok", '#!/bin/sh\n# started by pyngrok\nexec /opt/ngrok "$@"\n')
        assert find_agent({"PATH": str(tmp_path)}) == wrapper

    def test_a_file_that_cannot_be_run_is_none(self, tmp_path: Path) -> None:
        path = program(tmp_path / "ngrok", mode=0o644)
        if os.access(path, os.X_OK):
            pytest.fail("the test's premise does not hold")
        assert find_agent({"PATH": str(tmp_path)}) is None
        with pytest.raises(RouteError, match="NGROK_PATH"):
            find_agent({"NGROK_PATH": str(path)})

    def test_one_that_pyngrok_installed_earlier_is_the_last_resort(self, tmp_path: Path) -> None:
        installed = program(tmp_path / ".config" / "ngrok" / "ngrok")
        assert find_agent({"PATH": str(tmp_path / "missing"), "HOME": str(tmp_path)}) == installed


class TestVersion:
    @pytest.mark.parametrize(
        ("text", "version", "endpoints"),
        [
            ("ngrok version 3.39.10", (3, 39), True),
            ("ngrok version 3.30.0", (3, 30), True),
            ("ngrok version 3.29.9", (3, 29), False),
            ("3.0.0-rc1", (3, 0), False),
            ("ngrok version 4.1.0", (4, 1), True),
        ],
    )
    def test_it_decides_on_the_form(self, text: str, version: tuple[int, int], endpoints: bool) -> None:
        assert parse_version(text) == version
        assert has_endpoints(version) is endpoints
        assert json.loads(configuration(version, "t"))["version"] == ("3" if endpoints else "2")
        assert tunnel_forms(version, KNOWN, "")[0][0] == ("3" if endpoints else "2")

    @pytest.mark.parametrize("text", ["ngrok version 2.3.41", "", "no number"])
    def test_an_agent_of_the_old_service_is_refused(self, text: str) -> None:
        with pytest.raises(RouteError, match="too old"):
            parse_version(text)


class TestForms:
    @pytest.mark.parametrize("version", [(3, 39), (3, 5)])
    def test_every_form_asks_for_the_credentials(self, version: tuple[int, int]) -> None:
        for _, options in tunnel_forms(version, KNOWN, "me.example"):
            assert "layerferry:a-password-of-ours" in json.dumps(options)
            assert "me.example" in json.dumps(options)
            assert "pooling" not in json.dumps(options)

    def test_the_configuration_keeps_no_requests(self) -> None:
        assert json.loads(configuration((3, 39), "t", "http://p:1"))["agent"] == {
            "authtoken": "t",
            "console_ui": False,
            "inspect_db_size": -1,
            "log_level": "info",
            "update_check": False,
            "proxy_url": "http://p:1",
        }
        assert json.loads(configuration((3, 5), "t"))["inspect_db_size"] == -1


class TestEnvironment:
    def test_the_agent_is_told_no_secret_of_ours(self, tmp_path: Path) -> None:
        env = {
            "PATH": "/bin",
            "https_proxy": "http://p:1",
            "LAYERFERRY_SSH_KEY": "key",
            "DOCKER_REGISTRY_NGROK": "token",
            "NGROK_AUTHTOKEN": "token",
            "NGROK_API_KEY": "api",
            "MINE": "my token here",
        }
        told = agent_environment(env, secrets=("token", ""), folder=tmp_path)
        assert set(told) == {"PATH", "https_proxy", "no_proxy", "NO_PROXY", "TMPDIR"}

    @pytest.mark.parametrize(
        ("env", "direct"),
        [
            ({}, "127.0.0.1,localhost,::1"),
            ({"no_proxy": "corp,localhost"}, "corp,localhost,127.0.0.1,::1"),
            ({"NO_PROXY": "corp"}, "corp,127.0.0.1,localhost,::1"),
        ],
    )
    def test_its_own_api_is_past_any_proxy(self, env: dict[str, str], direct: str, tmp_path: Path) -> None:
        told = agent_environment(env, secrets=(), folder=tmp_path)
        assert told["no_proxy"] == told["NO_PROXY"] == direct


class TestErrors:
    @pytest.mark.parametrize("code", ADVICE)
    def test_each_known_code_has_advice(self, code: str) -> None:
        error = explain(code, "never shown")
        assert error.message.endswith(f"(ERR_NGROK_{code})")
        assert "never shown" not in error.message
        assert error.hint
        assert error.exit_code == 7

    def test_an_unknown_code_leads_to_its_page(self) -> None:
        assert explain("9999").hint.endswith("/err_ngrok_9999")

    def test_without_a_code_there_is_what_the_agent_said(self) -> None:
        assert "no such host" in explain("", "no such host").message
        assert explain("").message

    def test_the_code_is_found_in_what_the_service_says(self) -> None:
        assert find_code("authentication failed: …\r\n\r\nERR_NGROK_107\r\n") == "107"
        assert find_code("connection refused") == ""


class TestRedact:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("the token 0123456789abcdef is bad", "the token *** is bad"),
            ("a piece of it: 456789abc…", ""),
            ("two\n  lines", "two lines"),
            ("x" * 1000, "x" * 500),
        ],
    )
    def test_no_piece_of_a_secret_is_left(self, text: str, expected: str) -> None:
        assert redact(text, ("0123456789abcdef",)) == expected

    def test_no_secret_is_no_reason_to_be_silent(self) -> None:
        assert redact("text", ()) == "text"


class TestCredentials:
    def test_they_are_within_ngroks_limits_and_never_the_same(self) -> None:
        made = [Credentials.generate() for _ in range(100)]
        assert len({one.password for one in made}) == 100
        for one in made:
            assert re.fullmatch(r"[A-Za-z0-9_-]{8,128}", one.password)
            assert re.fullmatch(r"[a-z]{1,128}", one.user)

    def test_they_are_not_in_their_repr(self) -> None:
        assert "password" not in repr(KNOWN).replace("Credentials", "")
        assert KNOWN.secrets == ("a-password-of-ours", "bGF5ZXJmZXJyeTphLXBhc3N3b3JkLW9mLW91cnM=")

    def test_an_address_without_tls_is_never_asked(self) -> None:
        with pytest.raises(RouteError, match="not encrypted"):
            check_edge("http://me.example", KNOWN)

    def test_nobody_waits_for_an_edge_without_end(self) -> None:
        with pytest.raises(RouteError, match=r"^the tunnel's public address does not answer in time$"):
            check_edge("https://me.example", KNOWN, timeout=0)

    def test_an_edge_must_take_the_right_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(edge_check, "_settled", lambda *_: edge_check._Reply(401, "ngrok", ""))
        with pytest.raises(RouteError, match=r"^the tunnel refuses the credentials that it was opened with$"):
            check_edge("https://me.example", KNOWN)


class TestReply:
    def test_it_is_the_address(self) -> None:
        assert read_reply(b'{"url": "https://me.ngrok.app"}\n') == "https://me.ngrok.app"
        assert read_reply(b'{"url": "https://127.0.0.1:4443"}\n') == "https://127.0.0.1:4443"

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"[]",
            b"5",
            b"null",
            b'{"url": 5}',
            b'{"url": ["https://a"]}',
            b'{"url": null, "code": 5}',
            b'{"code": "105", "detail": {}, "url": {}}',
            b'{"url": "https://me.ngrok.app/x"}',
            b'{"url": "https://me.ngrok.app@evil"}',
            b'{"url": "https://me.ngrok.app\\n::add-mask::x"}',
            b'{"url": "file:///etc/passwd"}',
            b'{"url": "https://\\u001b[31m"}',
            b'{"url": "https://' + b"a" * 300 + b'"}',
            b"[" * 10_000,
            b'{"code": ' + b"1" * 5000 + b"}",
            b"\xff\xfe",
            b"{" + b" " * (1 << 17) + b"}",
        ],
    )
    def test_whatever_else_it_is_it_is_refused_in_a_sentence(self, line: bytes) -> None:
        with pytest.raises(RouteError) as caught:
            read_reply(line)
        assert (caught.value.message + caught.value.hint).isprintable()
        assert len(caught.value.message) < 200

    def test_a_code_that_is_none_leads_nowhere(self) -> None:
        with pytest.raises(RouteError) as caught:
            read_reply(b'{"code": "../../evil", "detail": "it says"}')
        assert "evil" not in caught.value.message + caught.value.hint
        assert "it says" in caught.value.message
        assert find_code("ERR_NGROK_" + "1" * 400) == ""
