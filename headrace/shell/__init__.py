"""`headrace sql shell`: statements over the PostgreSQL wire, typed by people or piped in."""
