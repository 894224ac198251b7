-- API keys of services and operators. Works with the binary before it.
--
-- Credentials live by machine time: every timestamp here is the database's own clock, so that a
-- virtual clock can neither prolong nor end one.

create table api_keys (
    -- The public part of the key, told in lists: whoever finds a key somewhere finds its row.
    id text primary key,
    -- What events call whoever holds it: `key:NAME`. Two live keys may share it while one replaces
    -- the other; rows are never deleted, so the name stays known.
    name text not null,
    kind text not null check (kind in ('service', 'operator')),
    role text check (role in ('viewer', 'support', 'admin')),
    -- The catalog's ids of the apps that it is for; empty: all.
    apps text[] not null default '{}',
    -- SHA-256 of the key. Its secret part has 256 random bits: there is nothing to guess, and a
    -- slow hash would only slow every call.
    digest bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    created_by text not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    -- Written at most once an hour.
    last_used_at timestamptz,
    check ((kind = 'operator') = (role is not null)),
    check (kind = 'service' or cardinality(apps) = 0),
    check ((revoked_at is null) = (revoked_by is null))
);
-- Every replica reads the live ones every other second; the revoked ones only grow in number.
create index api_keys_live on api_keys (name) where revoked_at is null;
