"""`headrace sql test`: unit tests for streaming SQL.

    file.test.yaml --reading--> model --plan--> what is fed where --run--> a bench --> problems --> report, --update
                                                                            |
                                                        embedded | a database at a URL

Everything goes over the PostgreSQL wire and through Kafka, as in production. Only the embedded bench holds the engine in its
hands: for its clock, and to make what an epoch is given one barrier.
"""
