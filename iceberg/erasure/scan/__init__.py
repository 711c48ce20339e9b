"""Looks for a subject in files of any kind: each reader undoes one encoding, and all look with the same needles."""
