"""Which scans of an archive are of the same patient.

The rule (design.md, section 7): the patient of a scan is the one that manifest.csv names, else the DICOM PatientID,
else the top-level folder; whatever shares any of these is one group. One patient in two groups would be on both sides
of a split unnoticed, so that must not happen; two patients in one group are tolerable. Hence:

- A name that manifest.csv states overrides folder and PatientID of that scan: two scans with different names there are
  of two patients, wherever they are.
- A scan that manifest.csv does not name joins every scan that shares its PatientID or its top-level folder. If these
  have one name in manifest.csv, it is that patient; if they have several, it could be any of them and its patient is
  unknown. A scan in no folder, with neither a name nor a PatientID, is of an unknown patient too.
- Names are compared without regard to what programs change on the way: capitals, the encoding of accents, spaces,
  characters that are not shown, kinds of dashes and digits, and what spreadsheets make of numbers (007 becomes 7, 7.0
  or '007). A name in manifest.csv, a PatientID and a folder of the same name are the same patient.
- A PatientID such as ANONYMOUS says nothing and is not used. One with a number or a letter of its own, such as
  Anonym-001, may distinguish patients and is used.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NAME_RULES = 2  # changes with what `fold_name` and `fold_patient_id` return: a catalogue has hashes of that
NUMBER = re.compile(r"'?0*([0-9]+)(?:\.0+)?")  # as typed, and as a spreadsheet or a table of numbers writes it
# Words that stand for a missing name; a name of such words alone is a placeholder.
# fmt: off
PLACEHOLDER_WORDS = frozenset((
    "a", "anon", "anonimizado", "anonimizzato", "anonimo", "anonym", "anonyme", "anonymisation", "anonymise",
    "anonymised", "anonymisiert", "anonymization", "anonymize", "anonymized", "anonymous", "applicable", "available",
    "de", "deid", "deidentified", "id", "identified", "identity", "mrn", "n", "na", "name", "nan", "nil", "no", "noid",
    "noname", "none", "not", "null", "patient", "redacted", "removed", "unbekannt", "undefined", "unknown", "unnamed",
))
# fmt: on


class PatientEvidence(NamedTuple):
    """What identifies the patient of one scan; equal names are the same patient, None is missing.

    Attributes:
        manifest: the name in manifest.csv.
        patient_id: the DICOM PatientID.
        folder: the top-level folder.
    """

    manifest: str | None = None
    patient_id: str | None = None
    folder: str | None = None

    @classmethod
    def of(cls, path: str, manifest: str | None = None, patient_id: str | None = None) -> "PatientEvidence":
        """Return the evidence of a scan as names that can be compared.

        Args:
            path: in the archive, with forward slashes.
            manifest: as written in manifest.csv.
            patient_id: as written in the DICOM file.
        """
        return cls(fold_manifest_name(manifest), fold_patient_id(patient_id), fold_name(top_folder(path)))


@dataclass(frozen=True)
class PatientGroup:
    """Scans of one patient, and what they share.

    Attributes:
        scans: positions in the list that was given, increasing.
        manifest: its name in manifest.csv, None if no scan of it has one.
        patient_ids: of its scans.
        folders: of its scans.
    """

    scans: tuple[int, ...]
    manifest: str | None
    patient_ids: frozenset[str]
    folders: frozenset[str]


@dataclass(frozen=True)
class PatientGroups:
    """The result of `group_patients`.

    Attributes:
        groups: ordered by their first scan.
        ambiguous: positions of scans of unknown patients, which share folder or PatientID with several patients of
            manifest.csv.
        unknown: positions of the other scans of unknown patients: no name, no PatientID, no folder.
    """

    groups: tuple[PatientGroup, ...]
    ambiguous: tuple[int, ...]
    unknown: tuple[int, ...]


def group_patients(scans: Sequence[PatientEvidence]) -> PatientGroups:
    """Return the scans of each patient by the rule in this module's docstring."""
    names = _DisjointSets()
    for scan in scans:
        if scan.manifest is None:
            names.join(name for name in (scan.patient_id, scan.folder) if name is not None)
    stated: dict[str, set[str]] = defaultdict(set)  # names in manifest.csv that scans without one are linked to
    for scan in scans:
        if scan.manifest is not None:
            for name in scan:
                if name is not None and name in names:
                    stated[names.find(name)].add(scan.manifest)
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    ambiguous, unknown = [], []
    for position, scan in enumerate(scans):
        if scan.manifest is not None:
            members["manifest", scan.manifest].append(position)
            continue
        name = scan.folder if scan.patient_id is None else scan.patient_id
        if name is None:
            unknown.append(position)
            continue
        root = names.find(name)
        if len(stated[root]) > 1:
            ambiguous.append(position)
        elif stated[root]:
            members["manifest", next(iter(stated[root]))].append(position)
        else:
            members["other", root].append(position)
    groups = (
        PatientGroup(
            scans=tuple(positions),
            manifest=name if kind == "manifest" else None,
            patient_ids=frozenset(found for n in positions if (found := scans[n].patient_id) is not None),
            folders=frozenset(found for n in positions if (found := scans[n].folder) is not None),
        )
        for (kind, name), positions in members.items()
    )
    return PatientGroups(tuple(sorted(groups, key=lambda group: group.scans)), tuple(ambiguous), tuple(unknown))


def top_folder(path: str) -> str | None:
    """Return the first folder of a path in the archive; None for a file in no folder."""
    folder, slash, _ = path.partition("/")
    return folder if slash else None


def fold_name(name: str | None) -> str | None:
    """Return a name so that two spellings of it are equal, by the rule in this module's docstring; None if empty."""
    if name is None:
        return None
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).replace("i\u0307", "i")
    plain = " ".join("".join(map(_fold_character, folded)).split())
    number = NUMBER.fullmatch(plain)
    return (number[1] if number else plain) or None


def _fold_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if character == "\0":
        return " "
    return {"Pd": "-", "Cf": ""}.get(category, character)


def fold_manifest_name(name: str | None) -> str | None:
    """Return the name in manifest.csv as `fold_name` does; None for a placeholder, as if the cell were empty."""
    folded = fold_name(name)
    return None if folded is None or _is_word_placeholder(folded) else folded


def fold_patient_id(patient_id: str | None) -> str | None:
    """Return a PatientID as `fold_name` does, without carets; None for a placeholder such as ANONYMOUS, 0000 or xxx."""
    spaced = None if patient_id is None else patient_id.replace("^", " ")
    folded = fold_name(spaced)
    if spaced is None or folded is None or _is_word_placeholder(folded):
        return None
    letters = [letter for letter in unicodedata.normalize("NFKC", spaced).casefold() if letter.isalnum()]
    return None if len(letters) > 1 and set(letters) in ({"0"}, {"x"}) else folded


def _is_word_placeholder(folded: str) -> bool:
    words = "".join(letter if letter.isalnum() else " " for letter in folded).split()
    plain = {"".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c)) for word in words}
    # a single letter, or punctuation alone, says nothing only if no letter is left: "A" and "N" are names
    return words == [] or (plain <= PLACEHOLDER_WORDS and words not in (["a"], ["n"], ["no"], ["de"]))


class _DisjointSets:
    """Disjoint sets of names (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._parents

    def find(self, name: str) -> str:
        """Return the representative of the set of a name."""
        root = name
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[name] != root:
            self._parents[name], name = root, self._parents[name]
        return root

    def join(self, names: Iterable[str]) -> None:
        """Join the sets of some names; the representative is the first in alphabetical order."""
        roots = {self.find(self._parents.setdefault(name, name)) for name in names}
        first = min(roots, default="")
        for root in roots:
            self._parents[root] = first
