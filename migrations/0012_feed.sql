-- The feed of all accounts: what changed since a reader looked, and which accounts are no more.
-- Works with the binary before it: a trigger marks what that one ends, and the new index serves its
-- queries as the old one did.
--
-- Each build reads one narrow table and keeps its writers out meanwhile: seconds for millions of
-- rows. Behind a long transaction it would keep them out for as long: it gives up, and `migrate` is
-- run again.
set local lock_timeout = '5s';

-- In the order in which a reader is told, so that a page of a large transaction ends where the next
-- one begins.
create index entitlement_snapshots_feed on entitlement_snapshots (changed_xid, account_id);
drop index entitlement_snapshots_changed;

-- The transaction that erased an account or made it a part of another one. Null: it lives, or ended
-- before anybody could have read of it here.
alter table accounts add column ended_xid bigint;
create index accounts_feed on accounts (ended_xid, id) where ended_xid is not null;

create function mark_end() returns trigger language plpgsql as
    $$ begin
        if new.erased_at is distinct from old.erased_at
            or new.merged_into is distinct from old.merged_into then
            new.ended_xid := pg_current_xact_id()::text::bigint;
        end if;
        return new;
    end $$;
create trigger accounts_mark_end before update of erased_at, merged_into on accounts
    for each row execute function mark_end();

-- Another history may be in another cluster, whose transactions are numbered anew: a mark above them
-- would be the future's for years, and hide its row.
create function begin_history() returns trigger language plpgsql as
    $$ begin
        update entitlement_snapshots set changed_xid = default
        where changed_xid > pg_current_xact_id()::text::bigint;
        update accounts set ended_xid = null
        where ended_xid > pg_current_xact_id()::text::bigint;
        return null;
    end $$;
create trigger deployment_begin_history after update of epoch on deployment
    for each row when (new.epoch <> old.epoch) execute function begin_history();
