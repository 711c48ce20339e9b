"""The door of the platform: ingestion over REST, queries and live frames over GraphQL, health.

One ASGI application (`api.app.build_app`). It holds no state of its own: events go to the log (Kafka protocol), views are
read from the stream database (PostgreSQL wire), history from the lakehouse.
"""
