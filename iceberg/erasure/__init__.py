"""Erases a subject from every table, deletes the bytes, and proves it by decoding every file."""
