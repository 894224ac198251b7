-- Accounts: sessions that this server gives itself, identities that were linked, store tokens that
-- services register. Works with the binary before it: columns are added with defaults, nothing is
-- renamed.

-- An account that became part of another one, and accounts that no credential is accepted for any
-- more, merged or erased.
alter table accounts
    add column merged_into uuid references accounts,       -- always one that lives: never a chain
    add column ended_at timestamptz;                       -- machine
create index accounts_merged on accounts (merged_into) where merged_into is not null;
create index accounts_ended on accounts (ended_at) where ended_at is not null;

-- An anonymous identity whose user has signed in: the row stays as a name of the account, its
-- tokens are refused.
alter table account_identities add column retired_at timestamptz;      -- machine

-- Which of an account's tokens is told to its devices: the oldest 'issued' one. 'registered': an
-- adopter's backend told it; 'linked': it came with an account that became part of this one.
alter table store_tokens
    add column kind text not null default 'issued' check (kind in ('issued', 'registered', 'linked'));

-- One row for each sign-in without a name: the line of its refresh tokens. Hashes alone are kept.
-- All columns are machine time: a credential guards the process.
create table token_sessions (
    id uuid primary key,                           -- `sid` in access tokens
    account_id uuid not null references accounts,
    family bytea not null unique,                  -- SHA-256 of the part that its refresh tokens share
    current_hash bytea not null,                   -- SHA-256 of the refresh token that is good now
    previous_hash bytea,                           -- of the one before, whose answer may be lost
    salt bytea,                                    -- with the previous token itself it gives the current one
    created_at timestamptz not null default clock_timestamp(),
    rotated_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,               -- moves on with every rotation
    revoked_at timestamptz,
    revoked_why text check (revoked_why in ('reused', 'linked', 'erased')),
    check ((revoked_at is null) = (revoked_why is null)),
    check ((previous_hash is null) = (salt is null))
);
create index token_sessions_account on token_sessions (account_id);
create index token_sessions_revoked on token_sessions (revoked_at) where revoked_at is not null;
create index token_sessions_expires on token_sessions (expires_at);

-- A token that is registered late finds the purchases whose record names it already.
create index store_subscription_state_token
    on store_subscription_state (lower(known->'state'->>'account_token'))
    where known->'state'->>'account_token' is not null;
