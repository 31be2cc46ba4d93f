"""The process that draws figures beside the one that computes."""

import json
import os
import sys

import pytest

from manyhot.report import prerender

vl_convert = pytest.importorskip("vl_convert")

POINTS = json.dumps({"data": {"values": [{"a": 1}, {"a": 3}]}, "mark": "point"})


@pytest.fixture
def process():
    started = prerender.Renderer()
    yield started
    started.close()


def test_it_draws_what_the_library_draws(process):
    expected = vl_convert.vegalite_to_svg(POINTS, allowed_base_urls=[])
    assert process.draw([POINTS, POINTS]) == [expected, expected]
    assert process.draw([POINTS]) == [expected]
    assert process.is_mine


def test_a_figure_that_cannot_be_drawn_is_left_to_the_caller(process):
    assert process.draw(['{"mark": 3}']) is None
    assert process.draw([POINTS]) is None


def test_a_module_in_the_folder_of_the_call_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "vl_convert.py").write_text("open('run', 'w')")
    (tmp_path / "json.py").write_text("open('run', 'w')")
    monkeypatch.chdir(tmp_path)
    started = prerender.Renderer()
    assert started.draw([POINTS])
    started.close()
    assert not (tmp_path / "run").exists()


def test_a_forked_process_does_not_use_it(process, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not process.is_mine


def test_it_is_not_started_beside_a_loaded_library():
    assert "vl_convert" in sys.modules
    prerender.start()
    assert prerender.running() is None
