"""Label sets of images, and where objects are, in the classes of a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from manyhot.classes import ClassList, from_keys
from manyhot.core.sets import NO, UNCLEAR, YES
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_labels, read_objects
from manyhot.formats.writing import PathLike
from manyhot.predict.network import Network
from manyhot.tables import Objects
from manyhot.tables.sets import States, states_of_labels, states_of_objects


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """Label sets of images, and where objects are, in the classes of the model."""

    network: Network
    states: States | None
    objects: Objects | None

    @classmethod
    def read(
        cls,
        network: Network,
        class_list: ClassList | None,
        objects: PathLike | None,
        masks: PathLike | None,
        labels: PathLike | None,
    ) -> ImageFacts:
        """Read objects, masks and label sets.

        Raises
        ------
        InputError
            Masks are given without objects, or a file cannot be read.
        MatchError
            The model knows none of the classes.
        """
        if masks is not None and objects is None:
            raise InputError("Masks need objects.", got=masks, do="also give the objects: --objects FILE")
        found = None if objects is None else read_objects(objects, classes=class_list, masks=masks)
        classes = class_list or (network.classes if found is None else from_keys(found.keys, found.name))
        states = None if found is None else states_of_objects(found, classes)
        if labels is not None:
            states = states_of_labels(read_labels(labels, classes=classes), classes)
        facts = cls(network, states, found)
        if states is not None and not facts.common:
            raise MatchError(
                "The model knows none of the classes.",
                where=network.name,
                got=", ".join(classes.keys[:3]) + (", …" if len(classes) > 3 else ""),
                allowed=f"keys of {network.classes.name}, such as {network.classes.keys[0]}",
            )
        return facts

    @cached_property
    def common(self) -> dict[int, int]:
        """Class ids of the model by those of the label sets, for the classes that it knows."""
        assert self.states is not None
        own = {key: i for i, key in enumerate(self.network.classes.keys)}
        keys = self.states.classes.keys
        return {i: own[key] for i, key in enumerate(keys) if key in own}

    @cached_property
    def _rows(self) -> dict[str, int]:
        assert self.states is not None
        return {name: i for i, name in enumerate(self.states.image_id.to_pylist())}

    def states_of(self, image_id: str) -> dict[int, str]:
        """Return the states of an image by class of the model; empty if nobody was asked."""
        if self.states is None or image_id not in self._rows:
            return {}
        found = states_by_class(self.states, self._rows[image_id])
        return {own: found[i] for i, own in self.common.items() if i in found}

    def object_of(self, class_id: int) -> int:
        """Return the number of a class in the objects; -1 if they lack it."""
        assert self.objects is not None
        key = self.network.classes.keys[class_id]
        return self.objects.keys.index(key) if key in self.objects.keys else -1


def states_by_class(states: States, row: int) -> dict[int, str]:
    """Return the state of each class that people were asked about in an image: no, unclear or yes."""
    names = {YES: "yes", UNCLEAR: "unclear", NO: "no"}
    return {i: names[state] for i, state in enumerate(states.state[row].tolist()) if state in names}
