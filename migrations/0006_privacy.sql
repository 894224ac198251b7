-- Privacy: what stores send is encrypted at rest, and an account can be erased. Works with the
-- binary before it: columns are added without defaults, rows of before stay readable.

-- Keys --------------------------------------------------------------------------------------------

-- A few keys that the configured key outside (a file, a KMS) wraps. Processes unwrap them once and
-- keep them in memory: everything else is wrapped by them, without asking anybody.
create table root_keys (
    id uuid primary key,
    kek text not null,                             -- the name of the key outside that wraps it
    wrapped bytea not null,
    created_at timestamptz not null default clock_timestamp(),  -- machine
    retired_at timestamptz                         -- machine: a newer one wraps what is new
);

-- One living key for each purchase chain: its documents are unreadable once it is destroyed. A chain
-- that is heard of after that gets another one.
create table chain_keys (
    id uuid primary key,
    chain_id uuid not null references purchase_chains,
    -- No foreign key: every new chain would lock the same row of root_keys.
    root_id uuid not null,
    wrapped bytea,                                 -- null: destroyed
    created_at timestamptz not null default clock_timestamp(),  -- machine
    destroyed_at timestamptz,                      -- machine
    check ((wrapped is null) = (destroyed_at is not null))
);
create unique index chain_keys_living on chain_keys (chain_id) where wrapped is not null;
create index chain_keys_chain on chain_keys (chain_id);
create index chain_keys_root on chain_keys (root_id) where wrapped is not null;

-- Raw ingress -------------------------------------------------------------------------------------

-- A body is sealed at receipt under a key of its own (`row_key`), which a root key wraps until the
-- row's chain is known, and then the chain's key: the body is written once. Null: plain.
alter table raw_notifications
    add column row_key bytea,
    add column root_id uuid,                       -- wraps row_key
    add column chain_key_id uuid;                  -- wraps row_key, once the chain is known
-- A sealed row waits as 'sealed', not as 'received': the binary before could not read it and would
-- put it aside as unreadable.
create index raw_notifications_waiting on raw_notifications (id)
    where status in ('received', 'sealed');
create index raw_notifications_root on raw_notifications (root_id) where root_id is not null;

-- Store answers -----------------------------------------------------------------------------------

-- Bodies are sealed under the chain's key. Null: plain.
alter table store_answers add column chain_key_id uuid;

-- Append-only tables change only where a transaction says why: retention deletes, `encryption seal`
-- puts plain answers under a key, an erasure takes out what is personal.
create or replace function refuse_change() returns trigger language plpgsql as
    $$ begin
        if tg_op = 'DELETE' and current_setting('entitled.retention', true) = 'on' then
            return null;
        end if;
        if tg_op = 'UPDATE' and tg_table_name = 'store_answers'
            and 'on' in (current_setting('entitled.sealing', true),
                         current_setting('entitled.erasure', true)) then
            return null;
        end if;
        if tg_op = 'UPDATE' and tg_table_name = 'subscription_events'
            and current_setting('entitled.erasure', true) = 'on' then
            return null;
        end if;
        raise exception '% is append-only', tg_table_name;
    end $$;

-- Erasure -----------------------------------------------------------------------------------------

-- Business. An erased account keeps its row: money names it, and nothing else does.
alter table accounts add column erased_at timestamptz;
create index accounts_erased on accounts (erased_at) where erased_at is not null;

-- Business: its owner was erased then. What was signed or bought before says nothing about who may
-- have it now.
alter table purchase_chains add column detached_at timestamptz;

-- Some actions are about an account and no purchase.
alter table operator_actions alter column chain_id drop not null;
create index operator_actions_account on operator_actions (account_id)
    where account_id is not null;
