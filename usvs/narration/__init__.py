"""Synthetic narration: voices, remarks about what is shown, the sound of a room. `narrate_videos` adds it to videos."""

from typing import TYPE_CHECKING

from usvs.utils.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from usvs.narration.labelled_videos import TableColumns as TableColumns
    from usvs.narration.lexicon import Lexicon as Lexicon
    from usvs.narration.lexicon_file import read_lexicon as read_lexicon
    from usvs.narration.make import NarrateSummary as NarrateSummary
    from usvs.narration.make import narrate_videos as narrate_videos

lazy_attributes(
    "usvs.narration",
    {
        "labelled_videos": ("TableColumns",),
        "lexicon": ("Lexicon",),
        "lexicon_file": ("read_lexicon",),
        "make": ("NarrateSummary", "narrate_videos"),
    },
)
