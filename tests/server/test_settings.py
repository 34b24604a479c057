"""Settings: every value that is read, and every error that stops the start."""

import re
import socket
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest
from asyncpg.connect_utils import SSLMode
from msgspec.structs import asdict
from sqlalchemy import make_url

from db.engines.url import hosts_of
from service.auth.principal import SCOPES_BY_ROLE
from service.cgroup import Limits
from service.quotas import ROLES
from service.settings import Settings
from service.settings_reader import SettingsError, read_settings
from tests.support.waiting import LIMIT_S

HIDDEN = "s3cret"
POSTGRESQL = f"postgresql+asyncpg://items:{HIDDEN}@db.test:5432/items"


def errors(environ: dict[str, str], dotenv_path: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ, dotenv_path)
    assert str(caught.value) == "\n".join(caught.value.errors)
    assert HIDDEN not in str(caught.value)
    return caught.value.errors


@pytest.fixture
def dotenv(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_an_empty_environment_gives_the_defaults() -> None:
    assert read_settings({}) == Settings()


def test_every_default_is_within_its_own_bounds() -> None:
    assert read_settings({row.variable: row.default for row in Settings().described() if row.default}) == Settings()


def test_database_url_and_port_are_read_as_platforms_set_them() -> None:
    settings = read_settings({"DATABASE_URL": POSTGRESQL, "PORT": "9000"})
    assert (settings.database_url, settings.port) == (POSTGRESQL, 9000)


def test_every_other_setting_has_the_prefix() -> None:
    settings = read_settings({"ITEMSVC_HOST": "::", "ITEMSVC_WORKERS": "2", "ITEMSVC_BODY_BYTES_MAX": "4096"})
    assert (settings.host, settings.workers, settings.body_bytes_max) == ("::", 2, 4096)


def test_variables_of_others_are_none_of_our_business() -> None:
    assert read_settings({"PATH": "/bin", "ITEMS_PORT": "tcp://10.0.0.1:80", "HOST": "x"}) == Settings()


@pytest.mark.parametrize("text", ["on", "ON", "true", "True", "yes", "1"])
def test_a_switch_can_be_turned_on_in_every_usual_way(text: str) -> None:
    assert read_settings({"ITEMSVC_ACCESS_LOG": text}).access_log is True


@pytest.mark.parametrize("text", ["off", "Off", "false", "FALSE", "no", "0"])
def test_a_switch_can_be_turned_off_in_every_usual_way(text: str) -> None:
    assert read_settings({"ITEMSVC_COALESCE": text}).coalesce is False


def test_a_switch_that_is_neither_on_nor_off_is_an_error() -> None:
    assert errors({"ITEMSVC_DEBUG": "maybe"}) == ["ITEMSVC_DEBUG is 'maybe'; expected on or off"]


@pytest.mark.parametrize("text", ["abc", "-1", "65536", "80.5", " 80", "8_0", "٨", "9" * 5000, "", "\udc80", "80\n"])
def test_a_number_that_is_none_or_out_of_bounds_is_an_error(text: str) -> None:
    assert errors({"PORT": text}) == [f"PORT is {text!r}; expected 0 to 65535"]


@pytest.mark.parametrize("row", Settings().described(), ids=lambda row: row.variable)
def test_an_empty_value_is_an_error_and_not_the_default(row: tuple[str, ...]) -> None:
    [error] = errors({row[0]: ""})
    assert error.startswith(f"{row[0]} is ")
    assert "; expected " in error


@pytest.mark.parametrize("row", [row for row in Settings().described() if row.default.isdigit()])
def test_every_number_is_bounded_on_both_sides(row: tuple[str, ...]) -> None:
    assert len(errors({row[0]: "-1"})) == 1
    assert len(errors({row[0]: str(2**40)})) == 1


def test_a_host_with_a_character_that_cannot_be_printed_is_an_error() -> None:
    assert errors({"ITEMSVC_HOST": "a\0"}) == [r"ITEMSVC_HOST is 'a\x00'; expected such as 127.0.0.1 or ::"]


def test_all_errors_are_listed_at_once(dotenv: Path) -> None:
    dotenv.write_text("ITEMSVC_POOL_SIZE=none\n")
    environ = {"PORT": "abc", "ITEMSVC_WORKERS": "0", "ITEMSVC_NONSENSE": "1", "DATABASE_URL": "mysql://h/d"}
    assert [error.split()[0] for error in errors(environ, dotenv)] == [
        "ITEMSVC_NONSENSE",
        "DATABASE_URL",
        "PORT",
        "ITEMSVC_WORKERS",
        "ITEMSVC_POOL_SIZE",
    ]


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("ITEMSVC_WORKER", "ITEMSVC_WORKERS"),
        ("ITEMSVC_PORT", "PORT"),
        ("ITEMSVC_DATABASE_URL", "DATABASE_URL"),
        ("ITEMSVC_STATEMENT_TIMEOUT", "ITEMSVC_STATEMENT_TIMEOUT_MS"),
        ("ITEMSVC_POOLSIZE_FILE", "ITEMSVC_POOL_SIZE"),
    ],
)
def test_an_unknown_name_is_an_error_that_suggests_the_nearest(unknown: str, meant: str) -> None:
    assert errors({unknown: HIDDEN}) == [f"{unknown} is not a setting; did you mean {meant}?"]


LINKS = {
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "5432",
    "SERVICE_PORT_POSTGRES_TLS": "5432",
    "PORT": "tcp://10.0.0.1:5432",
    "PORT_5432_TCP": "tcp://10.0.0.1:5432",
    "PORT_5432_TCP_PROTO": "tcp",
    "PORT_5432_TCP_PORT": "5432",
    "PORT_5432_TCP_ADDR": "10.0.0.1",
    "PORT_53_UDP": "udp://[fd00::1]:53",
    "PORT_53_UDP_PROTO": "udp",
    "PORT_53_UDP_ADDR": "fd00::1",
}


@pytest.mark.parametrize("service", ["ITEMSVC", "ITEMSVC_DB", "ITEMSVC_POOL_SIZE", "ITEMSVC_2_PORT"])
def test_the_variables_that_kubernetes_sets_for_services_are_left_alone(service: str) -> None:
    environ = {f"{service}_{name}": value for name, value in LINKS.items()}
    assert read_settings(environ | {"PORT": "9000"}) == Settings(port=9000)


@pytest.mark.parametrize("name", LINKS)
def test_a_variable_that_only_looks_like_one_of_kubernetes_is_an_error(name: str, dotenv: Path) -> None:
    variable = f"ITEMSVC_{name}"
    assert len(errors({variable: "on"})) == len(errors({variable.lower(): LINKS[name]})) == 1
    dotenv.write_text(f"{variable}={LINKS[name]}\n")  # Kubernetes writes none
    assert len(errors({}, dotenv)) == 1


def test_a_name_in_another_case_is_an_error() -> None:
    assert errors({"itemsvc_port": HIDDEN}) == ["itemsvc_port is not a setting; did you mean PORT?"]


def test_the_environment_may_have_names_of_others() -> None:
    assert read_settings({"port": "no number", "TEST_DATABASE_URL": "x"}) == Settings()


def test_an_unknown_name_unlike_any_is_an_error_without_a_suggestion() -> None:
    assert errors({"ITEMSVC_QQQ": "1"}) == ["ITEMSVC_QQQ is not a setting"]


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u:p@h:6543/d", "postgresql+asyncpg://u:p@h:6543/d"),
        ("postgres://u:p%40%2F@h/d", "postgresql+asyncpg://u:p%40%2F@h/d"),
        ("postgres://u:p@h/d?sslmode=require", "postgresql+asyncpg://u:p@h/d?ssl=require"),
        ("postgres://u:p@h/d?ssl=verify-full", "postgresql+asyncpg://u:p@h/d?ssl=verify-full"),
        ("postgresql+asyncpg:///d?host=/run", "postgresql+asyncpg:///d?host=%2Frun"),
        ("postgres://u:p@h1:1,h2:2/d", "postgresql+asyncpg://u:p@/d?host=h1%3A1&host=h2%3A2"),
        ("postgres://u:p,%40/?p@h1,h2/d", "postgresql+asyncpg://u:p%2C%40%2F%3Fp@/d?host=h1&host=h2"),
        ("postgres://h1,h2", "postgresql+asyncpg://?host=h1&host=h2"),
        (
            "postgres://[::1]:5,h2/d?sslmode=require",
            "postgresql+asyncpg:///d?host=%5B%3A%3A1%5D%3A5&host=h2&ssl=require",
        ),
        ("postgres:///d?host=h1:1&host=h2:2", "postgresql+asyncpg:///d?host=h1%3A1&host=h2%3A2"),
        ("sqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite:////srv/a.db", "sqlite+aiosqlite:////srv/a.db"),
        ("sqlite://", "sqlite+aiosqlite://"),
        ("sqlite:///file:a.db?uri=true&mode=rw", "sqlite+aiosqlite:///file%3Aa.db?mode=rw&uri=true"),
        ("sqlite:///file:///srv/a.db?uri=1", "sqlite+aiosqlite:///file%3A///srv/a.db?uri=1"),
    ],
)
def test_a_database_url_is_given_the_driver_that_the_service_uses(given: str, normal: str) -> None:
    assert read_settings({"DATABASE_URL": given}).database_url == normal


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("h1,h2:2/d", "h1 h2:2"),
        ("[::1]:1,[fe80::2]/d", "[::1]:1 [fe80::2]"),
        ("[::1]:1/d", "[::1]:1"),
        ("/d?host=h1:1&host=[::1]:2", "h1:1 [::1]:2"),
        ("/d?host=h1,h2&port=1,2", "h1:1 h2:2"),
        ("/d?host=h1,h2&port=5", "h1:5 h2:5"),
        (":5/d?host=h1&host=h2:2", "h1:5 h2:2"),
        ("h/d?port=5", "h:5"),
        ("h/d?host=/run/a:b:c", "/run/a:b:c"),
        ("%2Frun,h2/d", "/run h2"),
        ("/d", "the default host"),
    ],
)
def test_a_database_url_can_name_several_hosts(url: str, hosts: str) -> None:
    for password in ("", f"items:{HIDDEN}@", "items:,/@"):
        settings = read_settings({"DATABASE_URL": f"postgresql://{password}{url}"})
        assert " ".join(map(str, hosts_of(make_url(settings.database_url)))) == hosts


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (HIDDEN, "is wrong; expected such as postgresql+asyncpg://"),
        (f"items:{HIDDEN}@db.test/items", "is wrong; expected such as postgresql+asyncpg://"),
        (f"postgres://items:{HIDDEN}", "is wrong; expected such as postgresql+asyncpg://"),
        (f"postgres://items:{HIDDEN}@db.test:port/items", "is wrong; expected such as postgresql+asyncpg://"),
        (f"postgres://items:{HIDDEN}\n@db.test/items", "has 2 lines; expected such as postgresql+asyncpg://"),
        (f"postgres://items:{HIDDEN}@/{HIDDEN}@db.test/items", "has two @; expected the one in the password as %40"),
        (" ", "is empty; expected such as postgresql+asyncpg://"),
        (f"postgres://items:1@{HIDDEN}@db.test/items", "has two @; expected the one in the password as %40"),
        ("postgres://items@db.test:65536/items", "has a port that does not exist; expected 1 to 65535"),
        ("postgres://items@db.test:0/items", "has a port that does not exist; expected 1 to 65535"),
        (f"postgres://items:{HIDDEN}@h1,,h2/d", "has an empty host; expected one before and after each comma"),
        (f"postgres://items:{HIDDEN}@h1,/d", "has an empty host; expected one before and after each comma"),
        (f"postgres://items:{HIDDEN}@h1,h2:port/d", "has a port that does not exist; expected 1 to 65535"),
        (f"postgres://items:{HIDDEN}@h1:65536,h2/d", "has a port that does not exist; expected 1 to 65535"),
        (f"postgres://items:{HIDDEN}@h1:0,h2/d", "has a port that does not exist; expected 1 to 65535"),
        (f"postgres://items:{HIDDEN}@::1,h2/d", "has a host that cannot be read; expected name, name:port or [IPv6"),
        (f"postgres://items:{HIDDEN}@[::1:5,h2/d", "has a host that cannot be read; expected name, name:port or"),
        (f"postgres://items:{HIDDEN}@[::x]:5,h2/d", "has a host that cannot be read; expected name, name:port or"),
        (f"postgres://items:{HIDDEN}@/d?host=h1,", "has a host that cannot be read; expected name, name:port or"),
        (
            f"postgres://items:{HIDDEN}@h1,h2,h3/d?port=1,2",
            "has 3 hosts and 2 ports; expected one port, or one for each",
        ),
        (
            f"postgres://items:{HIDDEN}@h1:1,h2/d?port=1,2",
            "has ports twice; expected them behind the hosts, or as port=",
        ),
        (f"postgres://items:1@{HIDDEN}@h1,h2/d", "has two @; expected the one in the password as %40"),
        (
            "postgres://h/d?target_session_attrs=x",
            "has a value of target_session_attrs that does not exist; expected any, primary",
        ),
        (f"postgres://h/d?ssl={HIDDEN}", "has a value of ssl that does not exist; expected allow, disable, prefer,"),
        ("postgres://h/d?ssl=true", "has a value of ssl that does not exist; expected allow, disable, prefer,"),
        ("postgres://h/d?ssl=parse", "has a value of ssl that does not exist; expected allow, disable, prefer,"),
        ("postgres://h1,h2/d?sslmode=x", "has a value of sslmode that does not exist; expected allow, disable,"),
        ("postgres://h/d?ssl=require&ssl=disable", "has ssl more than once; expected one value"),
        ("postgres://h/d?sslmode=require&sslmode=require", "has sslmode more than once; expected one value"),
        ("postgres://h/d?target_session_attrs=any&target_session_attrs=primary", "has target_session_attrs more than"),
        ("postgres://h/d?sslmode=require&ssl=disable", "has ssl and sslmode; expected one of them"),
        ("postgres://h/d?ssl=", "has an option without a value; expected one after each ="),
        ("postgres://h/d?ssl", "has an option without a value; expected one after each ="),
        ("postgres://h1,h2/d?target_session_attrs=&ssl=require", "has an option without a value; expected one after"),
        (f"postgres://items:1@p?{HIDDEN}=1@h/d", "has two @; expected the one in the password as %40"),
        (f"postgres://items:1@p?{HIDDEN}@h/d", "has two @; expected the one in the password as %40"),
        (f"postgres://items:{HIDDEN}%00@h/d", "has a %00; expected no such character"),
        ("postgres://h/d%00", "has a %00; expected no such character"),
        (f"postgres://{'x' * 64}/d", "has a host that cannot exist; expected 1 to 63 characters between its dots"),
        ("postgres://h1,a..b/d", "has a host that cannot exist; expected 1 to 63 characters between its dots"),
        (f"postgres://db.test/items?password={HIDDEN}", "has the option password; expected only host, port, ssl"),
        (f"mysql://items:{HIDDEN}@h/d", "is for mysql; expected postgresql+asyncpg or sqlite+aiosqlite"),
        (f"postgresql+psycopg://items:{HIDDEN}@h/d", "is for postgresql+psycopg; expected postgresql+asyncpg or"),
        ("sqlite://items.db", "has two slashes; expected three and a relative path, or four and an absolute one"),
        (f"sqlite://items:{HIDDEN}@/items.db", "has two slashes; expected three and a relative path, or four and an"),
        ("sqlite://:1/items.db", "has two slashes; expected three and a relative path, or four and an absolute one"),
        ("sqlite:///items%00.db", "has a %00; expected no such character"),
        ("sqlite:///items.db?nonsense=1", "has the option nonsense; expected only cache, immutable, mode, uri"),
        ("sqlite:///items.db?timeout=abc", "has the option timeout; expected only cache, immutable, mode, uri"),
        ("sqlite:///items.db?uri=maybe", "has a value of uri that does not exist; expected on, true, yes, 1, off,"),
        ("sqlite:///file:items.db?uri=1&mode=x", "has a value of mode that does not exist; expected ro, rw, rwc"),
        ("sqlite:///file:items.db?uri=1&uri=0", "has uri more than once; expected one value"),
        ("sqlite:///file:items.db?uri=1&mode=", "has an option without a value; expected one after each ="),
        ("sqlite:///", "has no path, or blanks around it; expected sqlite:///PATH"),  # of an empty $DB
        ("sqlite:///items.db ", "has no path, or blanks around it; expected sqlite:///PATH"),
        ("sqlite:///file:items.db", "is half a URI of SQLite; expected sqlite:///file:PATH?uri=true, or only"),
        ("sqlite:///file:items.db?mode=ro", "is half a URI of SQLite; expected sqlite:///file:PATH?uri=true, or"),
        ("sqlite:///items.db?uri=true", "is half a URI of SQLite; expected sqlite:///file:PATH?uri=true, or only"),
        ("sqlite:///items.db?mode=ro", "is half a URI of SQLite; expected sqlite:///file:PATH?uri=true, or only"),
        ("sqlite:///file://host/items.db?uri=1", "has a host in its path; expected sqlite:///file:PATH"),
        ("sqlite:///file::memory:?uri=true", "is a URI of a database in memory; expected sqlite://"),
        ("sqlite:///file:?uri=true&cache=shared", "is a URI of a database in memory; expected sqlite://"),
    ],
)
def test_a_database_url_that_cannot_work_is_an_error_that_hides_the_password(url: str, error: str) -> None:
    assert [found[: len(error) + 13] for found in errors({"DATABASE_URL": url})] == [f"DATABASE_URL {error}"]


def test_a_database_url_in_the_wrong_variable_is_not_shown() -> None:
    assert errors({"PORT": POSTGRESQL}) == ["PORT is a URL; expected 0 to 65535"]


def test_the_values_of_ssl_are_those_of_the_driver() -> None:
    modes = sorted(mode.name.replace("_", "-") for mode in SSLMode)
    [error] = errors({"DATABASE_URL": "postgres://h/d?ssl=x"})
    assert error.endswith(f"; expected {', '.join(modes)}")
    for mode in modes:
        assert read_settings({"DATABASE_URL": f"postgres://h/d?sslmode={mode}"}).database_url.endswith(f"?ssl={mode}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_several_workers_on_a_database_in_memory_are_an_error(url: str) -> None:
    [error] = errors({"DATABASE_URL": url, "ITEMSVC_WORKERS": "2"})
    assert error == "ITEMSVC_WORKERS is 2; expected 1: workers cannot share SQLite's memory"


@pytest.mark.parametrize("url", ["sqlite:///memory.db", POSTGRESQL])
def test_several_workers_can_share_a_database_on_disk(url: str) -> None:
    assert read_settings({"DATABASE_URL": url, "ITEMSVC_WORKERS": "2"}).workers == 2


ONE_PROCESSOR = """
import os
from service.settings_reader import read_settings
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(read_settings({"DATABASE_URL": "postgresql://u@h/d", "ITEMSVC_WORKERS": "auto"}).workers)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process is kept on a processor in Linux's way")
def test_the_number_of_workers_may_be_left_to_the_machine() -> None:
    command = [sys.executable, "-c", ONE_PROCESSOR]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout == "1\n"  # of one processor


def test_auto_is_what_the_control_group_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.settings_reader.limits", lambda: Limits(3.0, inf))
    monkeypatch.setattr("service.settings_reader.processors", lambda: 8)
    assert read_settings({"DATABASE_URL": POSTGRESQL, "ITEMSVC_WORKERS": "auto"}).workers == 3
    assert read_settings({"DATABASE_URL": POSTGRESQL}, options={"ITEMSVC_WORKERS": "auto"}).workers == 3
    for url in ("sqlite://", "sqlite:///items.db"):
        assert read_settings({"DATABASE_URL": url, "ITEMSVC_WORKERS": "auto"}).workers == 1
    assert read_settings({"ITEMSVC_WORKERS": "auto"}).workers == 1


def test_options_win_over_variables() -> None:
    assert read_settings({"PORT": "9001", "ITEMSVC_WORKERS": "2"}, options={"PORT": "9002"}).port == 9002


def test_a_value_can_come_from_a_file_without_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(POSTGRESQL + "\n")
    assert read_settings({"DATABASE_URL_FILE": str(tmp_path / "url")}).database_url == POSTGRESQL


def test_every_setting_can_come_from_a_file(tmp_path: Path) -> None:
    environ = {}
    for row in Settings().described():
        if row.default:  # else it is not set
            (tmp_path / row.variable).write_text(row.default)
            environ[f"{row.variable}_FILE"] = str(tmp_path / row.variable)
    assert read_settings(environ).described() == Settings().described()


def test_a_variable_and_its_file_together_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("1")
    environ = {"PORT": "1", "PORT_FILE": str(tmp_path / "port")}
    assert errors(environ) == ["PORT and PORT_FILE are both set; expected one of them"]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    assert errors({"DATABASE_URL_FILE": path}) == [
        f"DATABASE_URL_FILE is {path!r}; expected a file that can be read: No such file or directory"
    ]


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    [error] = errors({"PORT_FILE": str(tmp_path)})
    assert error.endswith("Is a directory")


def test_a_socket_in_place_of_a_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("port")
        [error] = errors({"PORT_FILE": "port"})
    assert error.endswith("it is no regular file")


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "port").write_text("9000\n")
    (tmp_path / "port").symlink_to("..data/port")
    assert read_settings({"PORT_FILE": str(tmp_path / "port")}).port == 9000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_a_files_value(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "port").write_text("9000", encoding=encoding)
    assert read_settings({"PORT_FILE": str(tmp_path / "port")}).port == 9000


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "port").write_bytes(b"\xff")
    [error] = errors({"PORT_FILE": str(tmp_path / "port")})
    assert error.endswith("not text in UTF-8")


def test_a_secret_in_place_of_a_files_name_is_not_shown() -> None:
    [error] = errors({"DATABASE_URL_FILE": POSTGRESQL})
    assert error.startswith("DATABASE_URL_FILE is a URL; expected a file that can be read: ")


def test_a_bad_value_from_a_file_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "port").write_text(HIDDEN)
    environ = {"PORT_FILE": str(tmp_path / "port")}
    assert errors(environ) == ["PORT (in PORT_FILE) is wrong; expected 0 to 65535"]


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("\n")
    [error] = errors({"DATABASE_URL_FILE": str(tmp_path / "url")})
    assert error.startswith("DATABASE_URL (in DATABASE_URL_FILE) is empty; expected such as postgresql+asyncpg://")


def test_the_password_is_never_printed() -> None:
    settings = read_settings({"DATABASE_URL": POSTGRESQL})
    printed = f"{settings} {settings!r} {settings.described()}"
    assert HIDDEN not in printed
    assert "postgresql+asyncpg://items:***@db.test:5432/items" in printed


def test_the_password_of_several_hosts_is_never_printed() -> None:
    settings = read_settings({"DATABASE_URL": f"postgres://items:{HIDDEN}@h1,h2/items"})
    assert HIDDEN not in f"{settings} {settings.described()}"


def test_the_table_shows_defaults_beside_values() -> None:
    rows = {row.variable: row for row in Settings(workers=2, coalesce=False).described()}
    assert rows["ITEMSVC_WORKERS"][1:4] == ("1", "2", "1 to 64, or auto")
    assert rows["ITEMSVC_COALESCE"][1:4] == ("on", "off", "on or off")


def test_the_table_describes_every_setting_in_one_sentence() -> None:
    rows = Settings().described()
    assert len(rows) == len(asdict(Settings())) - 2  # where DATABASE_URL and the number of workers are from are none
    assert all(re.fullmatch(r"[A-Z].+\.", row.description) for row in rows)


def test_quotas_of_callers_are_for_all_or_by_role_and_user() -> None:
    text = "100,writer=200,admin=0,17=1000"
    settings = read_settings({"ITEMSVC_AUTH": "tokens", "ITEMSVC_CALLER_REQUESTS_PER_S": text})
    quotas = settings.caller_requests_per_s
    callers = [(17, "writer"), (17, "admin"), (18, "writer"), (18, "admin"), (18, "reader"), (18, "another")]
    assert [quotas.of(*caller) for caller in callers] == [1000, 1000, 200, 0, 100, 100]
    assert str(quotas) == text
    rows = {row.variable: row.value for row in settings.described()}
    assert (rows["ITEMSVC_CALLER_REQUESTS_PER_S"], rows["ITEMSVC_CALLER_REQUESTS_MAX"]) == (text, "0")


def test_quotas_know_the_roles_that_there_are() -> None:
    assert set(ROLES) == set(SCOPES_BY_ROLE)


@pytest.mark.parametrize("text", ["0", "0,writer=0", "admin=0"])
def test_quotas_of_nothing_are_none(text: str) -> None:
    assert not read_settings({"ITEMSVC_CALLER_REQUESTS_MAX": text}).caller_requests_max


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("many", "it is neither a number nor a name, = and a number, up to 1000000"),
        ("1000001", "it is neither a number nor a name, = and a number, up to 1000000"),
        ("100,", "part 2 is neither a number nor a name, = and a number, up to 1000000"),
        ("100,0=5", "part 2 is neither a number nor a name, = and a number, up to 1000000"),
        ("100,writr=5", "part 2 has a name that is no role (reader, writer, admin) and no user's id"),
        ("writer=5, writer=6", "part 2 is for those whom a part before is for"),
        ("100,17=5,200", "part 3 is for those whom a part before is for"),
        (",".join(f"{number}=1" for number in range(1, 1002)), "it has more than 1000 parts"),
    ],
)
def test_wrong_quotas_are_an_error_that_says_which_part_is_wrong(text: str, mistake: str) -> None:
    [error] = errors({"ITEMSVC_AUTH": "tokens", "ITEMSVC_CALLER_REQUESTS_PER_S": text})
    assert error.startswith(f"ITEMSVC_CALLER_REQUESTS_PER_S is {text!r}: {mistake}; expected 0 to 1000000, by role or ")


def test_wrong_quotas_in_a_file_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "quotas").write_text(HIDDEN)
    [error] = errors({"ITEMSVC_AUTH": "tokens", "ITEMSVC_CALLER_REQUESTS_MAX_FILE": str(tmp_path / "quotas")})
    assert error.startswith("ITEMSVC_CALLER_REQUESTS_MAX (in ITEMSVC_CALLER_REQUESTS_MAX_FILE) is wrong: ")


@pytest.mark.parametrize("name", ["ITEMSVC_CALLER_REQUESTS_PER_S", "ITEMSVC_CALLER_REQUESTS_MAX"])
def test_limits_of_callers_need_callers_who_are_told_apart(name: str) -> None:
    assert errors({name: "reader=5"}) == [
        f"{name} is reader=5; expected 0, as ITEMSVC_AUTH is off: nobody is asked who calls"
    ]


def test_an_access_log_needs_a_level_that_has_its_lines() -> None:
    for level in ("warning", "error"):
        assert errors({"ITEMSVC_ACCESS_LOG": "on", "ITEMSVC_LOG_LEVEL": level}) == [
            "ITEMSVC_ACCESS_LOG is on; expected ITEMSVC_LOG_LEVEL to be info, as its lines are"
        ]
    assert read_settings({"ITEMSVC_ACCESS_LOG": "on", "ITEMSVC_LOG_LEVEL": "info"}).access_log


def test_a_ratio_is_a_number_from_0_to_1_and_needs_traces() -> None:
    name = "ITEMSVC_TRACE_RATIO"
    for text in ("0", "1", "0.25", "1e-3"):
        assert read_settings({"ITEMSVC_TRACES": "on", name: text}).trace_ratio == float(text)
    for text in ("1.1", "-0.1", "nan", "inf", "1%", "half"):
        assert errors({"ITEMSVC_TRACES": "on", name: text}) == [f"{name} is {text!r}; expected 0 to 1"]
    assert errors({name: "0.5"}) == [f"{name} is set; expected ITEMSVC_TRACES to be on, too"]
    assert {row.variable: row.default for row in Settings().described()}[name] == "0.01"
