"""The .env file: what is read from it, and every error in it that stops the start."""

import os
import socket
from pathlib import Path

import pytest

from service.settings import Settings
from service.settings_reader import SettingsError, read_settings

HIDDEN = "s3cret"


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(".env")


def errors(dotenv: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ or {}, dotenv)
    assert HIDDEN not in str(caught.value)
    return caught.value.errors


def test_a_dotenv_file_is_read(dotenv: Path) -> None:
    dotenv.write_text("# comment\nPORT=9000\nexport ITEMSVC_WORKERS='2'\nHOME=/nowhere\n")
    assert read_settings({}, dotenv) == Settings(port=9000, workers=2)


def test_a_dotenv_file_that_is_not_there_is_fine(dotenv: Path) -> None:
    assert read_settings({}, dotenv) == Settings()


def test_real_variables_win_over_the_dotenv_file(dotenv: Path) -> None:
    dotenv.write_text("PORT=9000\nITEMSVC_WORKERS=2\n")
    assert read_settings({"PORT": "9001"}, dotenv) == Settings(port=9001, workers=2)


def test_a_real_variable_wins_over_a_file_that_the_dotenv_file_names(dotenv: Path) -> None:
    dotenv.write_text("PORT_FILE=/nowhere\n")
    assert read_settings({"PORT": "9001"}, dotenv).port == 9001


def test_a_dollar_in_the_dotenv_file_is_only_a_dollar(dotenv: Path) -> None:
    dotenv.write_text("ITEMSVC_HOST=${HOME}\n")
    assert read_settings({}, dotenv).host == "${HOME}"


def test_an_error_in_the_dotenv_file_is_an_error(dotenv: Path) -> None:
    dotenv.write_text("PORT\nITEMSVC_WORKER=2\n")
    assert errors(dotenv) == [
        "ITEMSVC_WORKER is not a setting; did you mean ITEMSVC_WORKERS?",
        "PORT is ''; expected 0 to 65535",
    ]


@pytest.mark.parametrize(
    "line",
    [
        f'DATABASE_URL="postgresql://items:{HIDDEN}@db.test/items',
        f"DATABASE_URL='postgresql://items:{HIDDEN}@db.test/items",
        f'DATABASE_URL="postgresql://items:{HIDDEN}@db.test/items";',
        f"DATABASE_URL: postgresql://items:{HIDDEN}@db.test/items",
        f"set DATABASE_URL=postgresql://items:{HIDDEN}@db.test/items",
        f"postgresql://items:{HIDDEN}@db.test/items",
        f"postgresql://items:{HIDDEN}@db.test/items?ssl=require",
        f'"DATABASE_URL"=postgresql://items:{HIDDEN}@db.test/items',
        f"$DATABASE_URL=postgresql://items:{HIDDEN}@db.test/items",
        f"\ufeffDATABASE_URL=postgresql://items:{HIDDEN}@db.test/items",
        f"={HIDDEN}",
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_that_hides_it(dotenv: Path, line: str) -> None:
    dotenv.write_text(f"PORT=9000\n\n{line}\n")
    assert errors(dotenv) == [".env, line 3, cannot be read"]


def test_errors_of_the_dotenv_file_are_listed_with_all_others(dotenv: Path) -> None:
    dotenv.write_text('A=\'\r\nB="\r\n\r\nPORT="1\r\nITEMSVC_WORKERS=none\r\n')
    assert errors(dotenv, {"ITEMSVC_POOL_SIZE": "0"}) == [
        ".env, line 1, cannot be read",
        ".env, line 2, cannot be read",
        "ITEMSVC_WORKERS is 'none'; expected 1 to 64, or auto",
        "ITEMSVC_POOL_SIZE is '0'; expected 1 to 100",
    ]


def test_a_line_that_cannot_be_read_is_an_error_although_a_real_variable_would_win(dotenv: Path) -> None:
    dotenv.write_text("PORT='9000\n")
    assert errors(dotenv, {"PORT": "9001"}) == [".env, line 1, cannot be read"]


def test_a_setting_that_is_lost_in_the_quotes_of_a_line_above_is_an_error(dotenv: Path) -> None:
    dotenv.write_text(f"GREETING='hello\nexport DATABASE_URL = postgres://items:{HIDDEN}@db.test/items\n# the users'\n")
    assert errors(dotenv) == [".env, line 1, has DATABASE_URL inside of its value; expected a line of its own"]


@pytest.mark.parametrize("end", ["; ", " ", "\x0b", "\x0c", "\x85", "\u2028"])
def test_a_setting_behind_another_one_in_the_same_line_is_an_error(dotenv: Path, end: str) -> None:
    dotenv.write_text(f"A=1{end}DATABASE_URL=postgres://items:{HIDDEN}@db.test/items\n")
    assert errors(dotenv) == [".env, line 1, has DATABASE_URL inside of its value; expected a line of its own"]


@pytest.mark.parametrize("name", ["DATABASE-URL", "DATABASE.URL", "DATABASE_URL.", "_DATABASE_URL"])
def test_a_name_with_other_separators_is_an_error(dotenv: Path, name: str) -> None:
    dotenv.write_text(f"{name}=postgres://items:{HIDDEN}@db.test/items\n")
    assert errors(dotenv) == [f"{name} is not a setting; did you mean DATABASE_URL?"]


def test_a_command_of_others_may_set_a_port(dotenv: Path) -> None:
    dotenv.write_text('RUN="docker run -e PORT=80 items"\n')
    assert read_settings({}, dotenv).port == 8000


def test_a_value_of_others_may_have_several_lines(dotenv: Path) -> None:
    dotenv.write_text('KEY="-----BEGIN\nAA==\nport of call=x\n-----END"\nPORT=9000\n')
    assert read_settings({}, dotenv).port == 9000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_does_not_hide_the_first_name(dotenv: Path, encoding: str) -> None:
    dotenv.write_text("PORT=9000\n", encoding=encoding)
    assert read_settings({}, dotenv).port == 9000


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_a_dotenv_file_that_is_not_text_is_an_error(dotenv: Path, encoding: str) -> None:
    dotenv.write_bytes("PORT=9000\n".encode(encoding))
    assert errors(dotenv) == [".env cannot be read: not text in UTF-8"]


def test_a_dotenv_file_in_an_encoding_of_old_is_an_error(dotenv: Path) -> None:
    dotenv.write_bytes(b"PORT=9000\nNAME=\xe9\n")
    assert errors(dotenv) == [".env cannot be read: not text in UTF-8"]


def test_a_setting_that_is_given_twice_is_an_error(dotenv: Path) -> None:
    dotenv.write_text(f"DATABASE_URL=sqlite:///a.db\n\nexport DATABASE_URL=postgres://items:{HIDDEN}@db.test/items\n")
    assert errors(dotenv) == [".env, line 3, sets DATABASE_URL to another value than before; expected one of them"]


def test_a_setting_that_is_given_twice_with_the_same_value_is_fine(dotenv: Path) -> None:
    dotenv.write_text("PORT=9000\nPORT='9000'\nDATABASE_URL\nDATABASE_URL=\n")
    assert read_settings({"DATABASE_URL": "sqlite://"}, dotenv).port == 9000


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("database_url", "DATABASE_URL"),
        ("Database_Url", "DATABASE_URL"),
        ("database_url_file", "DATABASE_URL"),
        ("port", "PORT"),
        ("itemsvc_port", "PORT"),
        ("ItemSvc_Workers", "ITEMSVC_WORKERS"),
    ],
)
def test_a_name_of_ours_in_another_case_is_an_error(dotenv: Path, name: str, meant: str) -> None:
    dotenv.write_text(f"{name}={HIDDEN}\n")
    assert errors(dotenv) == [f"{name} is not a setting; did you mean {meant}?"]


def test_names_of_others_are_none_of_our_business(dotenv: Path) -> None:
    dotenv.write_text(
        "POSTGRES_PASSWORD\nTEST_DATABASE_URL=a\nTEST_DATABASE_URL=b\nspring.port=1\nmy-port=2\nimport=3\n"
    )
    assert read_settings({}, dotenv) == Settings()


def test_a_folder_in_place_of_the_dotenv_file_is_an_error(dotenv: Path) -> None:
    dotenv.mkdir()
    assert errors(dotenv, {"PORT": "abc"}) == [
        ".env cannot be read: Is a directory",
        "PORT is 'abc'; expected 0 to 65535",
    ]


def test_a_socket_in_place_of_the_dotenv_file_is_an_error(dotenv: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dotenv))
        assert errors(dotenv) == [".env cannot be read: it is no regular file"]


@pytest.mark.parametrize("target", ["missing", ".env"])
def test_a_link_that_leads_nowhere_is_an_error(dotenv: Path, target: str) -> None:
    dotenv.symlink_to(target)
    [error] = errors(dotenv)
    assert error.startswith(".env cannot be read: ")


def test_a_link_to_a_dotenv_file_is_followed(dotenv: Path) -> None:
    Path("..data").mkdir()
    Path("..data", "env").write_text("PORT=9000\n")
    dotenv.symlink_to("..data/env")
    assert read_settings({}, dotenv).port == 9000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_dotenv_file_that_may_not_be_read_is_an_error(dotenv: Path) -> None:
    dotenv.touch(mode=0)
    assert errors(dotenv) == [".env cannot be read: Permission denied"]
