"""With the core alone: judging works, and what needs an extra says which."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap

EXTRAS = ("torch", "torchvision", "timm", "PIL", "pandas", "fastapi", "altair", "ray")


def manyhot(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "manyhot", *arguments], capture_output=True, text=True, timeout=60, cwd=cwd
    )


def test_core_judges(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,classes\na,0,0 1\nb,1,1\n")
    (tmp_path / "p.csv").write_text("image_id,class_id,rank\na,1,1\nb,0,1\n")
    done = manyhot("evaluate", "l.csv", "--predictions", "p.csv", "--out", "o", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    values = {r["metric"]: r["value"] for r in json.loads(done.stdout)["results"]}
    assert (values["top1"], values["real1"]) == (0.0, 0.5)


def test_predicting_names_the_extra(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    # Where torch is installed, as under `make test`, importing it is made to fail.
    code = """
        import sys
        sys.modules["torch"] = None
        sys.argv[1:] = ["predict", ".", "--model", "efficientnet-lite0"]
        from manyhot.cli import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 4
    lines = done.stderr.splitlines()
    assert lines[0] == "Error: The model 'efficientnet-lite0' needs torch, which cannot be imported."
    assert lines[-1] == '  do:      pip install "manyhot[models]"'


def test_extras_are_absent_where_they_must_be():
    if os.environ.get("MANYHOT_MINIMAL"):
        assert not [m for m in EXTRAS if importlib.util.find_spec(m)]


def test_a_report_without_figures_names_the_extra(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label,classes\na,0,0 1\nb,1,1\n")
    (tmp_path / "p.csv").write_text("image_id,class_id,rank\na,1,1\nb,0,1\n")
    code = """
        import sys
        sys.modules["altair"] = None
        from manyhot.cli import main
        main()
    """

    def run(*arguments):
        command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    run("evaluate", "l.csv", "--predictions", "p.csv", "--out", "o")
    page = (tmp_path / "o" / "report" / "index.html").read_text()
    assert "Figures need Altair." in page
    assert "pip install &#34;manyhot[report]&#34;" in page
    done = run("describe", "l.csv", "--out", "sets")
    # Where nothing is installed, vl_convert is missing, too.
    said = done.stderr.replace("altair and vl_convert", "altair")
    read, note = said.splitlines()
    assert read == "Read l.csv as labels (labels-table): 2 images, classes as numbers; a: class 0, class 1."
    assert note == 'Note: there are no figures: altair missing; pip install "manyhot[report]".'
    assert (tmp_path / "sets" / "set_sizes.csv").exists()
