"""The memory of the platform: Iceberg tables, their catalog, exactly-once appends, time travel, and the model registry."""
