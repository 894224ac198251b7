-- Store truth, what the first look at it in use asked for. Works with the binary before it.

-- Money -------------------------------------------------------------------------------------------

-- Pages are read by it.
create unique index transactions_row on transactions (id);

-- Accounts ----------------------------------------------------------------------------------------

-- The issuer says that nobody has signed in: whoever reinstalls comes as somebody else.
alter table account_identities add column anonymous boolean not null default false;

-- Retention ---------------------------------------------------------------------------------------

-- Each kind is found by its age. A key is looked up by its event to see whether its row is kept.
create index ingress_keys_age on ingress_keys (last_received_at);
create index raw_notifications_event on raw_notifications (event_id);
create index snapshot_history_age on snapshot_history (at);
create index ownership_claims_age on ownership_claims (decided_at) where verdict is not null;
create index duties_age on duties (done_at) where done_at is not null and kind = 'acknowledge';

-- Duties ------------------------------------------------------------------------------------------

-- Workers and alarms take the nearest deadline first.
create index duties_deadline on duties (deadline) where done_at is null;

-- What accounts hold ------------------------------------------------------------------------------

-- The products of a purchase, 'app_store/com.example.coins', where all of it was bought once and
-- nothing of it awaits its payment; else null. Of what the catalog calls consumables nothing is
-- derived but credits: the document of such a purchase is not read at every settle of its account.
-- Null in rows that were written before this column: those are read as they were.
alter table store_subscription_state add column bought_once text[];

-- Questions ---------------------------------------------------------------------------------------

-- A store may ask about one transaction more than once, each time with a deadline of its own: its
-- questions are told apart in `transaction_id` ('<transaction>@<which question>'), and `about` is the
-- transaction alone. Null: `transaction_id` is it.
alter table duties add column about text;
update duties
set about = transaction_id,
    transaction_id = transaction_id || '@' || case kind
        when 'review_refund' then detail->>'pending_refund_token'
        else (extract(epoch from deadline - interval '12 hours') * 1000)::bigint::text end
where kind in ('review_refund', 'answer_consumption_request');
