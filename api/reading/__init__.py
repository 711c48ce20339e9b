"""Reads of views in the stream database and of history in the lakehouse; the tenant is an argument of each."""
