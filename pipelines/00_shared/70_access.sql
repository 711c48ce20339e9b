-- Who may call the API. Of a key, a link and a session only a hash or an id is here; nothing in these tables lets anybody in.

CREATE TABLE tenants (
    tenant_id   VARCHAR PRIMARY KEY,
    created_at  TIMESTAMP WITH TIME ZONE,
    disabled_at TIMESTAMP WITH TIME ZONE
);

-- `scopes` are NULL where the role alone decides.
CREATE TABLE api_keys (
    key_id        VARCHAR PRIMARY KEY,
    tenant_id     VARCHAR,
    role          VARCHAR,
    scopes        VARCHAR[],
    note          VARCHAR,
    secret_sha256 VARCHAR,
    created_at    TIMESTAMP WITH TIME ZONE,
    expires_at    TIMESTAMP WITH TIME ZONE,
    revoked_at    TIMESTAMP WITH TIME ZONE
);

-- Beside the keys, so that a use never writes a row that a revocation writes too.
CREATE TABLE api_key_uses (
    key_id       VARCHAR PRIMARY KEY,
    last_used_at TIMESTAMP WITH TIME ZONE
);

-- A link logs in once; who uses it takes its row away.
CREATE TABLE login_links (
    link_sha256 VARCHAR PRIMARY KEY,
    tenant_id   VARCHAR,
    role        VARCHAR,
    expires_at  TIMESTAMP WITH TIME ZONE
);

CREATE TABLE ended_sessions (
    session_id VARCHAR PRIMARY KEY,
    expires_at TIMESTAMP WITH TIME ZONE
);
