"""Images tables that cannot be read."""

import json

import pytest

from manyhot.errors import InputError
from manyhot.formats import read_images


def test_a_column_with_a_nul_character_in_its_name_is_refused(tmp_path):
    path = tmp_path / "images.json"
    image = {"id": 1, "file_name": "a.jpg", "wid\0th": 3}
    path.write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    with pytest.raises(InputError, match="contains a NUL character"):
        read_images(path)
