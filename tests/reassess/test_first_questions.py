"""Proposals that are ranked before anybody has answered."""

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy.stats import entropy

from manyhot.errors import InputError
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.app import CampaignSettings
from manyhot.reassess.init import init_campaign
from manyhot.reassess.next_questions import next_questions
from manyhot.reassess.propose import propose

CAT = np.array([0.95, 0.4, 0.7, 0.1])


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """A campaign with the probabilities of two models, of which CAT are the means, and no votes."""
    monkeypatch.chdir(tmp_path)
    images = [f"{i}.jpg" for i in range(4)]
    for name, shift in (("a", 0.04), ("b", -0.04)):
        cat = CAT + shift
        pl.DataFrame({"image_id": images, "cat": cat, "dog": 1 - cat}).write_csv(f"{name}.csv")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "pool").mkdir()
    for n, image in enumerate(images):
        Image.new("RGB", (8, 8), (50 * n, 0, 0)).save(tmp_path / "pool" / image)
    models = {"predictions": ["a.csv", "b.csv"], "scores": "probability"}
    init_campaign("camp", images="pool", classes="classes.txt", **models)
    propose("camp", rule="union(threshold=0.2)", leave_out="nothing").write("camp")
    return tmp_path / "camp"


def test_proposals_of_a_campaign_without_votes(campaign):
    proposals = pl.read_parquet(campaign / "proposals.parquet")
    found = next_questions("camp", budget=3)
    p = proposals["p"].to_numpy().astype(float)
    expected = entropy(np.stack([p, 1 - p]), base=2)
    order = np.argsort(-expected, kind="stable")[:3]
    table = pl.DataFrame(found.questions)
    assert table.select("image_id", "class_id").equals(proposals[order].select("image_id", "class_id"))
    np.testing.assert_allclose(table["score"], expected[order], rtol=1e-6)
    means = [CAT[int(image[0])] for image in table["image_id"]]
    own = np.where(table["class_id"] == 0, means, 1 - np.array(means))
    np.testing.assert_allclose(table["p"], own, rtol=1e-6)
    assert table["image_id"].to_list()[0] == "1.jpg"  # 0.4 is the nearest to one half
    assert table["n_votes"].to_list() == [0, 0, 0]
    assert (found.n_questions, found.n_open, found.n_full) == (len(proposals), len(proposals), 0)
    assert found.to_json()["changes"] is None
    assert found.notes == (
        "the campaign has no votes yet, so questions are ranked by the entropy of p over the models",
    )
    shown = {line.split()[0]: line.split()[1:] for line in found.lines()}
    assert shown["open"] == [str(len(proposals))]


def test_golden_questions_and_proposals_without_p_are_not_asked(campaign):
    proposals = pl.read_parquet(campaign / "proposals.parquet")
    golden = {"image_id": ["1.jpg"], "class_id": ["cat"], "expert_id": ["e"], "answer": ["yes"]}
    pl.DataFrame(golden).write_csv(campaign / "golden.csv")
    propose("camp", rule="all-classes", add=True).write("camp")
    found = next_questions("camp", budget=8)
    asked = pl.DataFrame(found.questions)
    assert len(asked) == found.n_open == len(proposals) - 1
    assert not len(asked.filter(pl.col("image_id") == "1.jpg", pl.col("class_id") == 0))
    assert len(proposals) == 6  # dog on 0.jpg and cat on 3.jpg are below 0.2
    assert found.notes[1:] == ("2 proposals without p, which no model predicted, are not ranked",)


def test_the_app_asks_about_all_proposals_anyway(campaign):
    with open_annotation("camp", settings=CampaignSettings(raters=1)) as annotation:
        annotation.store.invite("ann")
    found = next_questions("camp", budget=3, ask=True)
    assert (found.can_ask, found.added, len(found.questions)) == (False, 0, 3)
    note = "questions that were not added because they are already waiting for an answer: 3"
    assert found.notes[1:] == (note,)


def test_without_probabilities_votes_are_needed(campaign):
    propose("camp", rule="all-classes").write("camp")
    with pytest.raises(InputError, match="The campaign has no votes yet"):
        next_questions("camp", budget=3)
