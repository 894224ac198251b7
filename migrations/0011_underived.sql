-- Accounts that a catalog could not derive, because something of theirs cannot be read. A version is
-- done without them: it does not stay under way for ever, and workers do not try them on every round.
-- In the snapshot's own row, because the rows say how far a version has come. Works with the binary
-- before it, which neither reads nor writes them.

alter table entitlement_snapshots
    -- The newest catalog that could not derive the account. Says nothing once `catalog_version` has
    -- come to it.
    add column underived_by bigint,
    -- When workers try again (machine time): a newer program may be able to.
    add column underived_until timestamptz;
