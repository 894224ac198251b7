-- The spine: accounts, purchase chains, their truth in four layers, snapshots.
--
-- Two families of tables: chain tables (by chain) and account tables (by account). No unique key
-- or lock spans both except in settle, where all chains are locked by id, then all accounts by id.
-- "Business" columns are passed in (a virtual clock may stand behind them); "machine" columns are
-- the database's own clock and guard the process: leases, back-off, trace order.

create table deployment (
    singleton boolean primary key default true check (singleton),
    -- Names this database and its history; changed after a restore, so that revisions of another
    -- history are never compared with this one's.
    epoch uuid not null default gen_random_uuid(),
    -- Set by the first server that starts: simulated stores must never meet a real database.
    mode text check (mode in ('production', 'development'))
);
insert into deployment default values;

-- Account family ---------------------------------------------------------------------------------

create table accounts (
    id uuid primary key,
    created_at timestamptz not null
);

create table account_identities (
    issuer text not null,      -- the issuer's configured short name: two providers never collide
    subject text not null,
    account_id uuid not null references accounts,
    created_at timestamptz not null,
    primary key (issuer, subject)
);
create index account_identities_account on account_identities (account_id);

create table store_tokens (
    token text primary key,    -- what apps pass to the stores: appAccountToken, obfuscated id
    account_id uuid not null references accounts,
    created_at timestamptz not null
);
create index store_tokens_account on store_tokens (account_id);

create table grants (
    id uuid primary key,
    account_id uuid not null references accounts,
    entitlement text not null,
    expires_at timestamptz,    -- business; null: for ever
    reason text not null,
    actor text not null,
    created_at timestamptz not null
);
create index grants_account on grants (account_id);

create table entitlement_snapshots (
    account_id uuid primary key references accounts,
    revision bigint not null,
    body jsonb not null,
    next_transition_at timestamptz,                -- business
    catalog_version bigint not null,
    -- The writing transaction: with pg_snapshot_xmin it is a horizon that no commit slips under,
    -- as a sequence number would let it.
    changed_xid bigint not null default (pg_current_xact_id()::text::bigint)
);
create index entitlement_snapshots_catalog on entitlement_snapshots (catalog_version);
create index entitlement_snapshots_changed on entitlement_snapshots (changed_xid);
create index entitlement_snapshots_due on entitlement_snapshots (next_transition_at)
    where next_transition_at is not null;

create table catalog_versions (
    version bigint generated always as identity primary key,
    body text not null,
    applied_at timestamptz not null
);

-- Chain family -----------------------------------------------------------------------------------

create table purchase_chains (
    id uuid primary key,
    provider text not null,
    app text not null,
    -- The id to ask the store for: the newest token, the original transaction id.
    head_kind text not null,
    head_value text not null,
    -- Set when a linked token showed that this is a part of an older chain; its aliases moved there.
    merged_into uuid references purchase_chains,
    owner_account_id uuid,
    owner_since timestamptz,
    owner_provisional_until timestamptz,
    owner_transferred boolean not null default false,
    store_away boolean not null default false,
    -- Level-triggered work: dirty while dirty_seq > synced_seq.
    dirty_seq bigint not null default 0,
    synced_seq bigint not null default 0,
    dirty_source text not null default 'notification',
    -- The fence: a settle whose claim_no is not the row's writes nothing.
    claim_no bigint not null default 0,
    lease_until timestamptz not null default '-infinity',  -- machine
    not_before timestamptz not null default '-infinity',   -- machine: back-off after failures
    failures integer not null default 0,
    next_check_at timestamptz,                             -- business
    created_at timestamptz not null,
    check (synced_seq <= dirty_seq),
    check ((owner_account_id is null) = (owner_since is null))
);
create index purchase_chains_dirty on purchase_chains (not_before)
    where dirty_seq > synced_seq and merged_into is null;
create index purchase_chains_due on purchase_chains (next_check_at)
    where next_check_at is not null and merged_into is null;
create index purchase_chains_owner on purchase_chains (owner_account_id)
    where owner_account_id is not null;
create index purchase_chains_merged on purchase_chains (merged_into) where merged_into is not null;

create table chain_aliases (
    provider text not null,
    app text not null,
    kind text not null,
    value text not null,
    chain_id uuid not null references purchase_chains,
    primary key (provider, app, kind, value)
);
create index chain_aliases_chain on chain_aliases (chain_id);

create table ownership_claims (
    id uuid primary key,
    chain_id uuid not null references purchase_chains,
    account_id uuid not null,
    -- What the signed proof says by itself; stands in while the store cannot be asked.
    stand_in jsonb,
    opened_at timestamptz not null,
    opened_seq bigint not null,                    -- the dirty mark that it came with
    verdict text,                                  -- null while open
    decided_at timestamptz
);
create unique index ownership_claims_open on ownership_claims (chain_id, account_id)
    where verdict is null;
create index ownership_claims_account on ownership_claims (account_id);
create index ownership_claims_chain on ownership_claims (chain_id);

create table ownership_changes (
    id bigint generated always as identity primary key,
    chain_id uuid not null references purchase_chains,
    from_account_id uuid,
    to_account_id uuid not null,
    reason text not null,
    actor text,
    at timestamptz not null
);
create index ownership_changes_chain on ownership_changes (chain_id);
create index ownership_changes_from on ownership_changes (from_account_id);

create table chain_evidence (
    chain_id uuid not null references purchase_chains,
    kind text not null,
    transaction_id text not null,
    fact jsonb not null,
    observed_at timestamptz not null,
    primary key (chain_id, kind, transaction_id)
);

-- Provider ledger: the last answer taken, normalised.
create table store_subscription_state (
    chain_id uuid primary key references purchase_chains,
    known jsonb not null,
    acknowledge_by timestamptz,                    -- business: the store refunds it after that
    updated_at timestamptz not null
);
create index store_subscription_state_unacknowledged on store_subscription_state (acknowledge_by)
    where acknowledge_by is not null;

-- Every answer of a store, as it came; append-only, for replay.
create table store_answers (
    id bigint generated always as identity primary key,
    chain_id uuid not null references purchase_chains,
    fetched_at timestamptz not null,               -- business
    calls text[] not null,
    statuses integer[] not null,
    bodies bytea[] not null
);
create index store_answers_chain on store_answers (chain_id);

create table transactions (
    chain_id uuid not null references purchase_chains,
    transaction_id text not null,
    product_id text not null,
    base_plan_id text,
    environment text not null,
    purchased_at timestamptz not null,
    amount_micros bigint,                          -- 10^-6 of the major unit
    currency text,                                 -- ISO 4217
    revoked_at timestamptz,
    primary key (chain_id, transaction_id),
    check ((amount_micros is null) = (currency is null))
);

-- The event log: append-only, one row per decision.
create table subscription_events (
    id bigint generated always as identity primary key,
    chain_id uuid,
    account_id uuid,
    at timestamptz not null,                       -- business
    recorded_at timestamptz not null default clock_timestamp(),
    source text not null,
    decision text not null,
    reason text not null,
    actor text,
    detail text,                                   -- for people; no token, no personal datum
    revision bigint,                               -- of the account, if its snapshot changed
    catalog_version bigint,
    answer_id bigint references store_answers,
    inputs jsonb                                   -- what decided it, so that replay can decide again
);
create index subscription_events_chain on subscription_events (chain_id, id);
create index subscription_events_account on subscription_events (account_id, id);
create function refuse_change() returns trigger language plpgsql as
    $$ begin raise exception '% is append-only', tg_table_name; end $$;
create trigger subscription_events_append_only before update or delete or truncate on subscription_events
    for each statement execute function refuse_change();
create trigger store_answers_append_only before update or delete or truncate on store_answers
    for each statement execute function refuse_change();

-- Outside effects, at least once each, unique by effect.
create table duties (
    id bigint generated always as identity primary key,
    chain_id uuid not null references purchase_chains,
    transaction_id text not null,
    kind text not null,
    deadline timestamptz not null,                 -- business
    done_at timestamptz,
    attempts integer not null default 0,
    not_before timestamptz not null default '-infinity',   -- machine
    last_error text,
    unique (chain_id, transaction_id, kind)
);
create index duties_open on duties (not_before) where done_at is null;

-- A budget of store calls shared by all replicas: a bucket refilled by machine time.
create table store_budgets (
    provider text primary key,
    tokens double precision not null,
    refilled_at timestamptz not null
);

-- Raw ingress ------------------------------------------------------------------------------------

-- Keys live apart from the rows: they are kept longer than any redelivery, and a table partitioned
-- by time later cannot hold the unique key.
create table ingress_keys (
    source text not null,
    event_id text not null,
    deliveries integer not null default 1,
    first_received_at timestamptz not null,
    last_received_at timestamptz not null,
    primary key (source, event_id)
);

create table raw_notifications (
    source text not null,
    id uuid not null,                              -- version 7: ordered by arrival
    event_id text not null,
    received_at timestamptz not null,              -- business
    body bytea not null,                           -- exactly what was authenticated
    -- received → resolved → processed; or pending, ignored, failed
    status text not null default 'received',
    kind text,                                     -- the store's own word
    chain_id uuid references purchase_chains,
    resolved_seq bigint,                           -- the dirty_seq it wrote
    detail text,
    primary key (source, id)
) partition by list (source);
create table app_store_notifications partition of raw_notifications for values in ('app_store');
create table google_play_notifications partition of raw_notifications for values in ('google_play');
create index raw_notifications_unresolved on raw_notifications (id) where status = 'received';
create index raw_notifications_open on raw_notifications (chain_id) where status = 'resolved';
create index raw_notifications_chain on raw_notifications (chain_id, id);
