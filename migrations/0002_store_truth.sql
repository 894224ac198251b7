-- Store truth: every kind of product, money in full, credits, refund defence, what was not
-- delivered, and what support needs to explain it. Works with the binary before it: columns are
-- added with defaults, nothing is renamed.

-- Duties ------------------------------------------------------------------------------------------

-- What carrying a duty out needs beyond its name (a store's token for the answer…).
alter table duties add column detail jsonb not null default '{"duty": "acknowledge"}';
-- Business time at which somebody was last woken for it; null: nobody was.
alter table duties add column alarmed_at timestamptz;
-- Why it was let go without being carried out (no consent, replaced…); null unless it was.
alter table duties add column waived text;
-- Business time before which nobody looks at it, and what it waits for ('consent', 'consumption').
alter table duties add column due_at timestamptz not null default '-infinity';
alter table duties add column waits_for text;

-- Money -------------------------------------------------------------------------------------------

-- One row per charge and one per refund of it. A refund's transaction_id is 'refund:' and the id of
-- the charge, which it also names in of_transaction_id.
alter table transactions
    add column kind text not null default 'purchase'
        check (kind in ('purchase', 'renewal', 'refund')),
    add column of_transaction_id text,
    add constraint transactions_refund_of check ((kind = 'refund') = (of_transaction_id is not null)),
    add column expires_at timestamptz,             -- business: end of the period it paid for
    add column quantity integer not null default 1,
    add column tax_micros bigint,                  -- part of amount_micros, same currency
    add column storefront text,                    -- ISO 3166-1, as the store writes it
    add column offer text,
    add column family_shared boolean not null default false,
    add column refund_kind text,                   -- refunds only
    add column reversed_at timestamptz,            -- refunds only: the store took the refund back
    add column account_id uuid;                    -- the owner when the row was written, if any
create index transactions_account on transactions (account_id, purchased_at)
    where account_id is not null;
create index transactions_at on transactions (purchased_at);

-- Credits -----------------------------------------------------------------------------------------

-- Append-only: a balance is a sum. Written by settle under the chain's lock; `seq` makes the
-- entries of one transaction's credit to one account countable, so that none is written twice.
-- A chain that became part of another (merged_into) keeps its rows: both are read together.
create table credit_entries (
    id bigint generated always as identity primary key,
    account_id uuid not null references accounts,
    chain_id uuid not null references purchase_chains,
    -- The transaction's; further lines of one order add '/' and their product's id.
    transaction_id text not null,
    credit text not null,                          -- the catalog's id: 'coins'
    environment text not null,                     -- the chain's: never added up with another
    seq integer not null,
    units bigint not null,                         -- of the product; negative: taken back
    per_unit bigint not null,                      -- frozen at the first entry
    amount bigint not null,                        -- units * per_unit
    reason text not null,                          -- purchase, refund, refund_reversed, transfer
    at timestamptz not null,                       -- business
    unique (chain_id, transaction_id, account_id, credit, seq),
    check (amount = units * per_unit)
);
create index credit_entries_account on credit_entries (account_id, credit);
create trigger credit_entries_append_only before update or delete or truncate on credit_entries
    for each statement execute function refuse_change();

-- Goods that a backend hands out itself: one row per transaction, claimed once.
create table deliveries (
    id uuid not null default gen_random_uuid() unique,
    chain_id uuid not null references purchase_chains,
    transaction_id text not null,
    account_id uuid not null references accounts,
    product text not null,                         -- the catalog's id
    environment text not null,                     -- a backend may hand out less for sandbox
    units bigint not null,
    created_at timestamptz not null,               -- business
    claimed_at timestamptz,
    claim_key text,                                -- the backend's own id of the handing out
    revoked_at timestamptz,                        -- the store took it back
    primary key (chain_id, transaction_id)
);
create index deliveries_account on deliveries (account_id, transaction_id);
create index deliveries_open on deliveries (created_at, id)
    where claimed_at is null and revoked_at is null;
create unique index deliveries_claim on deliveries (claim_key) where claim_key is not null;

-- Refund defence ----------------------------------------------------------------------------------

-- What the app told us about use, per transaction or for everything of the account ('').
create table consumption (
    account_id uuid not null references accounts,
    transaction_id text not null default '',
    consented boolean not null,
    delivery text,
    used_millipercent integer check (used_millipercent between 0 and 100000),
    updated_at timestamptz not null,
    primary key (account_id, transaction_id)
);

-- Ownership ---------------------------------------------------------------------------------------

-- What the claimant showed, and the further name (an order id) that the purchase must have for the
-- claim to hold.
alter table ownership_claims
    add column possession jsonb,
    add column also_named jsonb;
-- An operator's own id of a transfer: the same transfer again is the same transfer.
alter table ownership_changes add column operation_id text;
create unique index ownership_changes_operation on ownership_changes (operation_id)
    where operation_id is not null;

-- Sources -----------------------------------------------------------------------------------------

create table superwall_notifications partition of raw_notifications for values in ('superwall');
-- Signals that no chain is known for yet wait under the name that would resolve them.
alter table raw_notifications
    add column awaits_provider text,
    add column awaits_app text,
    add column awaits_kind text,
    add column awaits_value text;
create index raw_notifications_awaiting
    on raw_notifications (awaits_value) where status = 'pending';

-- Where jobs that walk through time stand: one row per job and subject.
create table job_cursors (
    job text not null,
    subject text not null default '',
    cursor jsonb not null,
    -- What an operator, an outage or a restore asked for, until a run has taken it up.
    asked jsonb,
    lease_until timestamptz not null default '-infinity',  -- machine: one replica at a time
    updated_at timestamptz not null,               -- business
    primary key (job, subject)
);

-- Found by looking at the store instead of being delivered.
alter table raw_notifications add column swept boolean not null default false;
create index raw_notifications_received on raw_notifications (received_at);

-- How much was delivered by each source, by the hour of business time: for the silence watchdog.
create table source_activity (
    source text not null,
    hour timestamptz not null,
    received bigint not null,
    primary key (source, hour)
);

-- Support -----------------------------------------------------------------------------------------

-- Every revision of every account, for reads as of a past moment; trimmed by retention.
create table snapshot_history (
    account_id uuid not null references accounts,
    revision bigint not null,
    at timestamptz not null,                       -- business
    catalog_version bigint not null,
    body jsonb not null,
    primary key (account_id, revision)
);
create index snapshot_history_at on snapshot_history (account_id, at);

-- Orders charges of one moment; a page token names it to devices, which see no store's id.
alter table transactions add column id bigint generated always as identity;
-- Tickets name a store's transaction or order id.
create index transactions_store_id on transactions (transaction_id);
create index transactions_refunds on transactions (of_transaction_id)
    where of_transaction_id is not null;
create index chain_aliases_value on chain_aliases (value);

-- A gift that was taken back stays in the books.
alter table grants
    add column revoked_at timestamptz,             -- business
    add column revoked_by text,
    add column revoke_reason text;

-- What an operator asked of a store. The row is committed before the store is called and is never
-- called for twice: money does not move again because an answer was lost.
create table operator_actions (
    operation_id text primary key,                 -- the operator's own; a repeat gets the outcome
    chain_id uuid not null references purchase_chains,
    account_id uuid,                               -- the owner when it was asked
    action text not null,                          -- for people: 'refund GPA.1234', 'extend 7 days'
    actor text not null,
    reason text not null,
    started_at timestamptz not null,               -- business
    finished_at timestamptz,                       -- null: asked, and the answer was never written
    done boolean,                                  -- whether the store did it
    outcome text,                                  -- the store's own words
    check ((finished_at is null) = (done is null))
);
create index operator_actions_chain on operator_actions (chain_id);

-- Retention ---------------------------------------------------------------------------------------

-- Append-only tables lose rows only to the retention job, which says so in its transaction.
create or replace function refuse_change() returns trigger language plpgsql as
    $$ begin
        if tg_op = 'DELETE' and current_setting('entitled.retention', true) = 'on' then
            return null;
        end if;
        raise exception '% is append-only', tg_table_name;
    end $$;

-- Trimmed answers leave the events that name them: what decided is kept in the event itself.
alter table subscription_events drop constraint subscription_events_answer_id_fkey;
create index store_answers_fetched on store_answers (fetched_at);
