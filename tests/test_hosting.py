"""The container files: nobody builds them here, so their form is checked."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from manyhot import cli

REPO = Path(__file__).resolve().parent.parent
yaml = pytest.importorskip("yaml")


def instructions():
    """Return the instructions of the Dockerfile, continued lines joined."""
    text = (REPO / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def services():
    return yaml.safe_load((REPO / "compose.yaml").read_text(encoding="utf-8"))["services"]


def parsed(words):
    """Return the command and its parameters, or fail as the command line would."""
    root = typer.main.get_command(cli.app)
    command = root.commands[words[0]]
    with command.make_context(words[0], list(words[1:])) as context:
        return words[0], context.params


def test_the_image_runs_without_rights_and_watches_itself():
    found = dict(instructions())
    assert found["USER"] == "manyhot"
    assert found["EXPOSE"] == "8000"
    assert "/health" in found["HEALTHCHECK"]
    assert [kind for kind, _ in instructions()].index("USER") < [k for k, _ in instructions()].index("CMD")


def test_what_it_copies_is_there_and_let_in():
    ignored = (REPO / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for kind, rest in instructions():
        if kind == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (REPO / source).exists(), source
                assert f"!{source}" in ignored, source


def test_its_command_is_one():
    found = dict(instructions())
    command, given = parsed(json.loads(found["CMD"]))
    assert json.loads(found["ENTRYPOINT"]) == ["manyhot"]
    assert (command, given["host"], given["port"]) == ("annotate", "0.0.0.0", 8000)


def test_the_command_of_compose_is_one(monkeypatch):
    values = {"PASSWORD": "secret", "ADDRESS": "https://rate.example.org"}

    def filled(word):
        return re.sub(r"\$\{(\w+)[^}]*\}", lambda m: values[m[1]], word)

    app = services()["app"]
    for name, value in app["environment"].items():
        monkeypatch.setenv(name, filled(value))
    _, given = parsed([filled(word) for word in app["command"]])
    assert given["database"] == "postgresql://manyhot:secret@database/manyhot"
    assert given["address"] == "https://rate.example.org"
    for command in ("invite . ann", "status .", "export .", "backup . b.zip"):
        assert parsed(command.split())[1]["database"] == given["database"]
    database = services()["database"]["environment"]
    assert (database["POSTGRES_USER"], database["POSTGRES_DB"]) == ("manyhot", "manyhot")


def test_compose_opens_to_this_machine_alone_and_names_no_folder_of_ours():
    assert services()["app"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in services()["database"]
    mounts = [mount for service in services().values() for mount in service["volumes"]]
    assert all(mount.startswith(("${", "database:")) for mount in mounts)


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_no_registry_is_named(name):
    text = (REPO / name).read_text(encoding="utf-8")
    images = re.findall(r"^(?:FROM|\s+image:) (\S+)", text, re.MULTILINE)
    assert images
    assert all("/" not in image for image in images)
    assert "--index-url" not in text


def test_the_continuous_checks_name_no_version_of_postgresql():
    text = (REPO / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"\bpostgresql\b", text)
    assert not re.search(r"postgresql-?\d", text)


def test_backup_and_restore_are_commands(tmp_path):
    done = CliRunner().invoke(cli.app, shlex.split(f"backup {tmp_path} b.zip"))
    assert "The folder is not a campaign" in str(done.exception)
