"""SQL that is written once and used by many pipelines: rendered to plain text, which is committed like any other SQL."""
