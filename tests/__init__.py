"""Tests; a package with a file, which no other package of this name on the path can hide."""
