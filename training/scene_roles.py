"""The roles that the training drawings can play in a scene: a dog can be a dog, a mammal or an animal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lexicon import normalize_name
from pictographs import Pictographs
from scene_vocabulary import ACTIONS, EXCLUDED_LABEL_WORDS, GENERAL_ROLES, PERSON_LABELS, POSES, ROLE_LABELS, ROLE_SUBGROUPS


@dataclass
class RoleIndex:
    """The training drawings by the roles that they can play in a scene.

    Attributes:
        data: The drawings.
        indices: The indices of the drawings of each role.
        persons: The indices of the drawings of each name of a person.
        actions: The actions whose roles have drawings.
        poses: The poses whose roles have drawings.
    """

    data: Pictographs
    indices: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        concepts = self.data.concepts
        usable = [i for i in self.data.train_indices if concepts[i].subgroup and _is_suitable(concepts[i].label)]
        by_label: dict[str, list[int]] = {}
        for i in usable:
            by_label.setdefault(normalize_name(concepts[i].label), []).append(int(i))

        def indices_of(labels: tuple[str, ...]) -> np.ndarray:
            return np.array([i for label in labels for i in by_label.get(normalize_name(label), [])], dtype=int)

        for role, subgroups in ROLE_SUBGROUPS.items():
            self.indices[role] = np.array([i for i in usable if concepts[i].subgroup in subgroups])
        for role, labels in ROLE_LABELS.items():
            self.indices.setdefault(role, indices_of(labels))
        # a role has no drawing if all its names are held out
        self.indices = {role: indices for role, indices in self.indices.items() if len(indices)}
        self.persons = {name: indices for name, labels in PERSON_LABELS.items() if len(indices := indices_of(labels))}
        roles = {"person", *self.indices}
        self.actions = [action for action in ACTIONS if {action.subject, action.object} <= roles]
        self.poses = [pose for pose in POSES if pose.subject in roles]

    def sample(self, role: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        """Return a random drawing of `role`, uint8 of shape (size, size, 4), and a noun for it."""
        if role == "person":
            name = str(rng.choice(list(self.persons)))
            return self.data.pixels[rng.choice(self.persons[name])], name
        index = int(rng.choice(self.indices[role]))
        label = self.data.concepts[index].label
        is_general = role in ROLE_LABELS or (role in GENERAL_ROLES and rng.random() < 0.15)
        return self.data.pixels[index], role if is_general else label.removesuffix(" face").removesuffix(" bread")


def _is_suitable(label: str) -> bool:
    return ":" not in label and len(label.split()) <= 3 and not any(word in label for word in EXCLUDED_LABEL_WORDS)
