-- What is still plain is counted and sealed by an index, not by reading everything that is kept.
-- Works with the binary before it. Each build reads one table without its bodies, which lie
-- elsewhere, and keeps writers out meanwhile: seconds for millions of rows, and stores deliver again.
-- Not `concurrently`: a second `migrate` that waits for this one would be waited for in turn.

-- Behind a long transaction it would keep writers out for as long: it gives up, and `migrate` is run
-- again.
set local lock_timeout = '5s';

-- Empty once everything is sealed: what is written sealed is never in them.
create index raw_notifications_plain on raw_notifications (id)
    where row_key is null and body <> '';
create index store_answers_plain on store_answers (id)
    where chain_key_id is null and bodies <> '{}';
