"""The commands around the annotation app, as people see them."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from manyhot import cli, tables
from manyhot.reassess import annotate as annotate_module
from manyhot.reassess.app.store import Store
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """Return the name of a campaign in the working folder."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    (tmp_path / "classes.csv").write_text("key,name\nn0,tench\nn1,goldfish\n")
    (tmp_path / "images.csv").write_text(f"image_id,uri,label\na.png,{tmp_path}/a.png,0\n")
    init_campaign("camp", images="images.csv", classes="classes.csv")
    predictions = tables.Predictions(pa.array(["a.png"]), "model", np.array([[0, 1]]), n_classes=2)
    tables.write_predictions(predictions, "camp/predictions/model.parquet")
    propose("camp", rule="top-k(k=2)").write("camp")
    return "camp"


def run(*words):
    result = CliRunner().invoke(cli.app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def served(monkeypatch):
    """Return what was served, which ends at once, and the addresses that the browser opened."""
    opened, given = [], []

    def serve(app, host, port, ready):
        given.append((app, host, port))
        ready(f"http://{host}:{port or 4321}")

    class Now:
        def __init__(self, seconds, call, arguments):
            self.start = lambda: call(*arguments)

    monkeypatch.setattr(annotate_module, "serve", serve)
    monkeypatch.setattr(annotate_module.threading, "Timer", Now)
    monkeypatch.setattr(annotate_module.webbrowser, "open", opened.append)
    return given, opened


def test_open_is_one_command(campaign, served):
    given, opened = served
    said = run("annotate", campaign, "--open", "--port", "0")
    ((app, host, port),) = given
    assert (host, port) == ("127.0.0.1", 0)
    (link,) = opened
    assert re.fullmatch(r"http://127\.0\.0\.1:4321/join/[\w-]{43}", link)
    assert said.splitlines() == [
        "Annotating camp at http://127.0.0.1:4321. Press Ctrl-C to stop; answers are stored.",
        "Note: 2 of 2 classes asked about have fewer than two example images: raters see at most one and "
        "depend on names and definitions. To show more, move annotation.sqlite away and start again with "
        "manyhot annotate --examples TABLE, a table of other images with labels.",
        f"  {link}",
        "Stopped; all answers are stored. To continue, run the same command again. To use the answers:",
        "  manyhot export camp",
        "  manyhot status camp    # what comes next",
    ]
    assert app.state.context.callbacks.alone
    with_one = Store("sqlite:///camp/annotation.sqlite")
    assert with_one.settings().raters == 1
    with_one.close()


def test_with_raters_the_owner_sets_a_password_first(campaign, served):
    said = run("annotate", campaign).splitlines()
    link = re.fullmatch(
        r"  owner's page \(asks for a password first\): (http://127\.0\.0\.1:8000/join/([\w-]{43}))", said[2]
    )
    assert said[3] == "  invite raters there, or: manyhot invite camp NAME --address http://127.0.0.1:8000"
    store = Store("sqlite:///camp/annotation.sqlite")
    assert store.settings().raters == 5
    assert store.set_password(link[2], "correct horse").name == "owner"
    store.close()
    said = run(
        "annotate", campaign, "--raters", "3", "--per-page", "2", "--address", "https://rate.example.org/"
    )
    assert (
        "Note: the number of classes per page is still 8, because it was set when annotation began. To "
        "change it, export the votes, move annotation.sqlite away and start again."
    ) in said.splitlines()
    assert "  owner's page: https://rate.example.org/owner" in said.splitlines()
    store = Store("sqlite:///camp/annotation.sqlite")
    assert (store.settings().raters, store.settings().per_page, store.count_free()) == (3, 8, 3)
    store.close()


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("rate.example.org", True),
    ],
)
def test_it_says_when_others_can_reach_it(campaign, served, host, warned):
    said = run("annotate", campaign, "--host", host)
    note = (
        f"Note: the server listens on {host}, so everyone who can reach this machine can connect. Without "
        "HTTPS, other people on the network can read links and passwords."
    )
    assert (note in said.splitlines()) == warned
    assert "//0.0.0.0" not in said


def test_raters_are_invited_once_annotation_has_begun(campaign):
    result = CliRunner().invoke(cli.app, ["invite", campaign, "ann"])
    assert str(result.exception) == (
        "Annotation of this campaign has not begun yet.\n"
        "  where:   camp\n"
        "  got:     no annotation.sqlite in it\n"
        "  do:      begin: manyhot annotate camp"
    )
    assert not Path("camp/annotation.sqlite").exists()


def test_who_was_invited_keeps_the_link(campaign, served):
    run("annotate", campaign)
    (link,) = re.findall(r"join/(\S+)", run("invite", campaign, "ann"))
    store = Store("sqlite:///camp/annotation.sqlite")
    session = store.begin_session(store.invited(link))
    said = run("invite", campaign, "ann", "bob").splitlines()
    assert [line.split()[0] for line in said] == ["bob", "Note:"]
    assert said[1] == (
        "Note: no new link for ann: links of earlier invitations stay valid. To replace them: manyhot invite "
        "--renew."
    )
    assert store.invited(link).name == store.of_session(session).name == "ann"
    assert run("invite", campaign, "ann", "--renew").startswith("ann  http")
    assert store.invited(link) is None
    assert store.of_session(session) is None
    store.close()


def test_to_qualify_raters_need_golden_questions(campaign, served):
    result = CliRunner().invoke(cli.app, ["annotate", campaign, "--qualify", "3"])
    assert "Raters cannot qualify: the campaign has no golden pages." in str(result.exception)
    Path("camp/golden.csv").write_text("image_id,class_id,expert_id,answer\na.png,0,x,yes\n")
    said = run("annotate", campaign, "--qualify", "1")  # nothing was fixed by the first attempt
    assert "Note: all raters qualify, because all golden questions have the same true answer." in said
    assert "instead of" not in said
    store = Store("sqlite:///camp/annotation.sqlite")
    assert store.settings().qualify == 1
    assert store.count_pages() == 1  # apart from the golden one
    store.close()
    assert "Note: raters qualify on 1 golden page instead of 3, because there are no more." in run(
        "annotate", campaign, "--qualify", "3"
    )


def test_invite_prints_a_link_for_each(campaign, served):
    run("annotate", campaign)
    said = run(
        "invite",
        campaign,
        "ann",
        "Bob B.",
        "--max-pages",
        "7",
        "--refines",
        "--address",
        "https://r.example/",
    )
    links = dict(re.findall(r"^(.+)  https://r\.example/join/([\w-]{43})$", said, re.MULTILINE))
    assert list(links) == ["ann", "Bob B."]
    store = Store("sqlite:///camp/annotation.sqlite")
    ann = store.invited(links["ann"])
    assert (ann.name, ann.max_pages, ann.may_refine, ann.is_owner) == ("ann", 7, True, False)
    token = re.search(r"join/(\S+)", run("invite", campaign, "boss", "--owner"))[1]
    assert store.set_password(token, "correct horse").is_owner
    store.close()


@pytest.mark.parametrize(
    ("options", "address"),
    [
        (["--port", "0"], "http://127.0.0.1:4321"),
        (["--port", "8765"], "http://127.0.0.1:8765"),
        (["--address", "https://r.example/"], "https://r.example"),
    ],
)
def test_links_have_the_address_at_which_the_app_was_served(campaign, served, options, address):
    run("annotate", campaign)
    run("annotate", campaign, *options)
    assert re.fullmatch(rf"ann  {re.escape(address)}/join/[\w-]{{43}}\n", run("invite", campaign, "ann"))


def test_a_name_that_is_taken(campaign, served):
    run("annotate", campaign)
    run("invite", campaign, "boss", "--owner")
    result = CliRunner().invoke(cli.app, ["invite", campaign, "boss"])
    assert str(result.exception) == (
        "The name is taken.\n"
        "  got:     'boss'\n"
        "  allowed: a name that does not belong to an owner\n"
        "  do:      choose another name"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order_and_says_what_comes_next(campaign, number):
    command = [sys.executable, "-m", "manyhot", "annotate", campaign, "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # A shell that starts it in the background lets it ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    link = [process.stdout.readline() for _ in range(4)][2].split()[-1]
    with urllib.request.urlopen(link) as answer:
        assert b"Choose a password" in answer.read()
    process.send_signal(number)
    said, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert said.splitlines() == [
        "",
        "Stopped; all answers are stored. To continue, run the same command again. To use the answers:",
        "  manyhot export camp",
        "  manyhot status camp    # what comes next",
    ]
    # All is in the one file, which may be moved or copied.
    assert [path.name for path in sorted(Path(campaign).glob("annotation*"))] == ["annotation.sqlite"]
