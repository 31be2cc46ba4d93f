"""What is known of images beside their pixels: label sets, and where objects are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_labels, read_objects
from manyhot.models import Network
from manyhot.pipeline.common import PathLike
from manyhot.steps.localising import states_by_class
from manyhot.steps.shortcuts import States, states_of_labels, states_of_objects
from manyhot.tables import Objects


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of images: label sets, and where objects are; in the classes of the model."""

    network: Network
    states: States | None
    objects: Objects | None

    @classmethod
    def read(
        cls,
        network: Network,
        given: ClassList | None,
        objects: PathLike | None,
        masks: PathLike | None,
        labels: PathLike | None,
    ) -> Known:
        """Read objects, masks and label sets, those that are given; see `manyhot.pipeline.explain_files`.

        Raises
        ------
        InputError
            Masks come without objects, or a file cannot be read.
        MatchError
            The model knows none of the classes.
        """
        if masks is not None and objects is None:
            raise InputError("Masks go with objects.", got=masks, do="give these, too: --objects FILE")
        found = None if objects is None else read_objects(objects, classes=given, masks=masks)
        classes = given or (network.classes if found is None else from_keys(found.keys, found.name))
        states = None if found is None else states_of_objects(found, classes)
        if labels is not None:
            states = states_of_labels(read_labels(labels, classes=classes), classes)
        known = cls(network, states, found)
        if states is not None and not known.common:
            raise MatchError(
                "The model knows none of the classes.",
                where=network.name,
                got=", ".join(classes.keys[:3]) + (", …" if len(classes) > 3 else ""),
                allowed=f"keys of {network.classes.name}, such as {network.classes.keys[0]}",
            )
        return known

    @cached_property
    def common(self) -> dict[int, int]:
        """Class ids of the model by those of the label sets, as far as it knows them."""
        assert self.states is not None
        own = {key: i for i, key in enumerate(self.network.classes.keys)}
        keys = self.states.classes.keys
        return {i: own[key] for i, key in enumerate(keys) if key in own}

    @cached_property
    def _rows(self) -> dict[str, int]:
        assert self.states is not None
        return {name: i for i, name in enumerate(self.states.image_id.to_pylist())}

    def states_of(self, image_id: str) -> dict[int, str]:
        """Return the states of an image by class of the model; empty where nobody was asked."""
        if self.states is None or image_id not in self._rows:
            return {}
        found = states_by_class(self.states, self._rows[image_id])
        return {own: found[i] for i, own in self.common.items() if i in found}

    def object_of(self, class_id: int) -> int:
        """Return the number of a class in the objects; -1 where they do not know it."""
        assert self.objects is not None
        key = self.network.classes.keys[class_id]
        return self.objects.keys.index(key) if key in self.objects.keys else -1
