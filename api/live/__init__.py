"""Changes of a view on their way to many clients: one cursor a view, a tenant filter, frames, bounded queues.

subscription cursor --> hub --(tenant, filter)--> channel --frame each 100 ms--> mailbox per client --> websocket
"""
