-- Bytes to pixels, in two steps so that the text is decoded once.

CREATE MATERIALIZED VIEW images_vision AS
SELECT tenant_id, entity_id, event_time, decode(payload, 'base64') AS image
FROM vision_events;

CREATE MATERIALIZED VIEW features_vision AS
SELECT
    tenant_id,
    entity_id,
    event_time                                      AS feature_start,
    event_time                                      AS feature_end,
    ARRAY[
        get_byte(image, 0)::double precision, get_byte(image, 1)::double precision, get_byte(image, 2)::double precision, get_byte(image, 3)::double precision, get_byte(image, 4)::double precision, get_byte(image, 5)::double precision, get_byte(image, 6)::double precision, get_byte(image, 7)::double precision,
        get_byte(image, 8)::double precision, get_byte(image, 9)::double precision, get_byte(image, 10)::double precision, get_byte(image, 11)::double precision, get_byte(image, 12)::double precision, get_byte(image, 13)::double precision, get_byte(image, 14)::double precision, get_byte(image, 15)::double precision,
        get_byte(image, 16)::double precision, get_byte(image, 17)::double precision, get_byte(image, 18)::double precision, get_byte(image, 19)::double precision, get_byte(image, 20)::double precision, get_byte(image, 21)::double precision, get_byte(image, 22)::double precision, get_byte(image, 23)::double precision,
        get_byte(image, 24)::double precision, get_byte(image, 25)::double precision, get_byte(image, 26)::double precision, get_byte(image, 27)::double precision, get_byte(image, 28)::double precision, get_byte(image, 29)::double precision, get_byte(image, 30)::double precision, get_byte(image, 31)::double precision,
        get_byte(image, 32)::double precision, get_byte(image, 33)::double precision, get_byte(image, 34)::double precision, get_byte(image, 35)::double precision, get_byte(image, 36)::double precision, get_byte(image, 37)::double precision, get_byte(image, 38)::double precision, get_byte(image, 39)::double precision,
        get_byte(image, 40)::double precision, get_byte(image, 41)::double precision, get_byte(image, 42)::double precision, get_byte(image, 43)::double precision, get_byte(image, 44)::double precision, get_byte(image, 45)::double precision, get_byte(image, 46)::double precision, get_byte(image, 47)::double precision,
        get_byte(image, 48)::double precision, get_byte(image, 49)::double precision, get_byte(image, 50)::double precision, get_byte(image, 51)::double precision, get_byte(image, 52)::double precision, get_byte(image, 53)::double precision, get_byte(image, 54)::double precision, get_byte(image, 55)::double precision,
        get_byte(image, 56)::double precision, get_byte(image, 57)::double precision, get_byte(image, 58)::double precision, get_byte(image, 59)::double precision, get_byte(image, 60)::double precision, get_byte(image, 61)::double precision, get_byte(image, 62)::double precision, get_byte(image, 63)::double precision
    ]                                               AS pixels
FROM images_vision;
