-- Catalogs as versions with a story: who applied one, why, what it did to accounts, how far it is.
-- Works with the binary before it, which writes body and time alone.

alter table catalog_versions
    add column origin text not null default 'start',   -- start, apply, rollback, dev
    add column applied_by text,
    add column reason text,
    -- The version whose body this one has again (rollback).
    add column copy_of bigint,
    -- What was counted before it was applied; null: nothing could be lost, and nothing was counted.
    add column effect jsonb,
    -- So many payers were agreed to lose something.
    add column confirmed_loss bigint,
    -- Snapshots that were to be derived by it when it was applied: what progress is told against.
    add column accounts bigint,
    -- Purchases that are to be looked at again because it knows something new of them: the walk has
    -- come past this one, and so many were marked.
    add column look_after uuid,
    add column looked_again bigint not null default 0,
    -- Business time at which the last account was derived by it or a newer one; null: under way.
    add column finished_at timestamptz;
update catalog_versions set finished_at = applied_at;
