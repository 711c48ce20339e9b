"""One file for each Kafka request; `table.py` lists them with the versions we speak."""
