"""Embedded durable log that speaks the Kafka protocol.

```
 client --TCP--> connection -> wire (kio) -> apis/ -> topics -> log/ (segments, producers) -> files
                                          \\-> coordinators/ (producer ids, transactions, offsets, groups) -> SQLite
```
Record batches stay opaque bytes: the broker checks their CRC32C, stamps offset and time, and appends. Knows only `core`.
"""
