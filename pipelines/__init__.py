"""User-facing SQL, one folder a use case, and the deployer that applies it to a stream database."""
