"""Synthetic narration: voices, remarks about what is shown, the sound of a room. `narrate_videos` adds it to videos."""
