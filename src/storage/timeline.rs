//! One account's or purchase's story across the layers, in time order, for support.

use uuid::Uuid;

use super::{Db, StorageError};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// Whose story, which part of it, and from where on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page<'a> {
    pub(crate) account: Option<AccountId>,
    pub(crate) chains: &'a [ChainId],
    /// Words of [`Entry::layer`]; empty: all.
    pub(crate) layers: &'a [String],
    /// Inclusive, business time.
    pub(crate) since: Option<Instant>,
    /// Exclusive, business time.
    pub(crate) until: Option<Instant>,
    /// The last entry of the page before.
    pub(crate) after: Option<(Instant, i32, String)>,
    /// `None`: everything.
    pub(crate) limit: Option<i64>,
}

/// One thing that happened.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Entry {
    /// Business time.
    pub(crate) at: Instant,
    /// `notification`, `claim`, `answer`, `decision`, `owner`, `snapshot`, `transaction`, `credit`,
    /// `delivery`, `duty`, `grant`, `action`.
    pub(crate) layer: String,
    pub(crate) what: String,
    pub(crate) detail: String,
    /// The purchase that it is about, by our id.
    pub(crate) purchase: Option<Uuid>,
    /// Of the account, where the entry changed it.
    pub(crate) revision: Option<i64>,
    /// Who did it, if a person did.
    pub(crate) actor: Option<String>,
    /// For decisions: what made us look.
    pub(crate) source: Option<String>,
    /// For decisions: `apply`, `merge_only`, `skip`.
    pub(crate) decision: Option<String>,
    /// For decisions: by which rule.
    pub(crate) reason: Option<String>,
    /// Order of what happened at one moment: cause before effect.
    #[serde(skip)]
    pub(crate) rank: i32,
    /// Orders and names an entry among those of one moment and rank.
    #[serde(skip)]
    pub(crate) tie: String,
}

/// Chains that an account owns, owned or asked for, with what was merged into them.
pub(crate) async fn chains_of(db: &Db, account: AccountId) -> Result<Vec<ChainId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"with mine as (
               select id from purchase_chains where owner_account_id = $1
               union select chain_id from ownership_changes
                     where from_account_id = $1 or to_account_id = $1
               union select chain_id from ownership_claims where account_id = $1
           )
           select id as "id!" from mine
           union select id from purchase_chains where merged_into in (select id from mine)"#,
        account.0
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids.into_iter().map(ChainId).collect())
}

/// What happened to the account itself and to `chains`, in time order. Says nothing of another
/// account, and no purchase token.
pub(crate) async fn entries(db: &Db, page: &Page<'_>) -> Result<Vec<Entry>, StorageError> {
    let chains: Vec<Uuid> = page.chains.iter().map(|id| id.0).collect();
    let (after_at, after_rank, after_tie) = match &page.after {
        Some((at, rank, tie)) => (Some(*at), Some(*rank), Some(tie.as_str())),
        None => (None, None, None),
    };
    let rows = sqlx::query_as!(
        Entry,
        r#"select at as "at!", layer as "layer!", what as "what!", coalesce(detail, '') as "detail!",
                  purchase, revision, actor, source, decision, reason, rank as "rank!", tie as "tie!"
           from (
               select r.received_at as at, 'notification' as layer,
                      r.source || ': ' || coalesce(r.kind, 'unread') as what,
                      concat_ws(', ', r.status, r.detail,
                          case when r.swept then 'found by asking the store, not delivered' end,
                          case when k.deliveries > 1 then 'delivered ' || k.deliveries || ' times' end)
                          as detail,
                      r.chain_id as purchase, null::bigint as revision, null::text as actor,
                      null::text as source, null::text as decision, null::text as reason,
                      1 as rank, r.id::text as tie
               from raw_notifications r
               left join ingress_keys k on k.source = r.source and k.event_id = r.event_id
               where r.chain_id = any($2)
               union all
               select opened_at, 'claim', 'claim ' || coalesce(verdict, 'open'),
                      case when account_id is distinct from $1 and $1 is not null
                           then 'by another account' else '' end,
                      chain_id, null, null, null, null, null, 2, id::text
               from ownership_claims where chain_id = any($2)
               union all
               select fetched_at, 'answer', 'the store was asked',
                      (select string_agg(c.call || ' ' || s.status, ', ')
                       from unnest(calls) with ordinality c (call, n)
                       join unnest(statuses) with ordinality s (status, n) using (n)),
                      chain_id, null, null, null, null, null, 3, lpad(id::text, 20, '0')
               from store_answers where chain_id = any($2)
               union all
               select at, 'decision', source || ': ' || decision || ' ' || reason, detail,
                      chain_id, revision, actor, source, decision, reason, 4, lpad(id::text, 20, '0')
               from subscription_events where account_id = $1 or chain_id = any($2)
               union all
               select at, 'owner', 'owner changed: ' || reason,
                      case when to_account_id = $1 then 'to this account'
                           when from_account_id = $1 then 'away from this account' else '' end,
                      chain_id, null, actor, null, null, reason, 5, lpad(id::text, 20, '0')
               from ownership_changes where chain_id = any($2)
               union all
               select at, 'snapshot', 'revision ' || revision,
                      coalesce((select 'on: ' || string_agg(e->>'id', ', ')
                                from jsonb_array_elements(body->'entitlements') e
                                where jsonb_array_length(e->'sources') > 0), 'everything off'),
                      null, revision, null, null, null, null, 6, lpad(revision::text, 20, '0')
               from snapshot_history where account_id = $1
               union all
               select purchased_at, 'transaction', kind || ' of ' || product_id,
                      concat_ws(', ',
                          case when amount_micros is not null then
                               (amount_micros::numeric / 1000000)::numeric(20, 2) || ' ' || currency end,
                          coalesce(of_transaction_id, transaction_id),
                          case when environment <> 'production' then environment end,
                          refund_kind,
                          case when reversed_at is not null then 'taken back later' end),
                      chain_id, null, null, null, null, null, 7, lpad(id::text, 20, '0')
               from transactions where chain_id = any($2)
               union all
               select at, 'credit', (case when amount > 0 then '+' else '' end) || amount || ' ' || credit,
                      reason, chain_id, null, null, null, null, reason, 8, lpad(id::text, 20, '0')
               from credit_entries where account_id = $1 or ($1 is null and chain_id = any($2))
               union all
               select step.at, 'delivery', units || ' of ' || product || ' ' || step.what,
                      case step.n when 1 then case when claimed_at is null and revoked_at is null
                                                   then 'nobody has handed it out' end
                                  when 2 then 'claimed under ' || claim_key end,
                      chain_id, null, null, null, null, null, 9,
                      chain_id::text || transaction_id || step.n
               from deliveries
               cross join lateral (values (1, created_at, 'to be handed out'),
                                          (2, claimed_at, 'handed out'),
                                          (3, revoked_at, 'taken back by the store'))
                   as step (n, at, what)
               where step.at is not null
                 and (account_id = $1 or ($1 is null and chain_id = any($2)))
               union all
               select coalesce(done_at, deadline), 'duty',
                      kind || case when waived is not null then ' waived'
                                   when done_at is null then ' open' else ' done' end,
                      concat_ws(', ',
                          case when kind in ('answer_consumption_request', 'review_refund')
                               then 'about ' || about end,
                          waived, last_error,
                          'waits for ' || waits_for,
                          case when alarmed_at is not null then 'alarmed' end,
                          case when done_at is null and waived is null then 'due by then' end),
                      chain_id, null, null, null, null, null, 10, lpad(id::text, 20, '0')
               from duties where chain_id = any($2)
               union all
               select created_at, 'grant', 'gift of ' || entitlement,
                      concat_ws(', ', reason, 'until ' || to_char(expires_at at time zone 'UTC',
                          'YYYY-MM-DD HH24:MI')),
                      null, null, actor, null, null, null, 11, id::text
               from grants where account_id = $1
               union all
               select revoked_at, 'grant', 'gift of ' || entitlement || ' taken back', revoke_reason,
                      null, null, revoked_by, null, null, null, 12, id::text
               from grants where account_id = $1 and revoked_at is not null
               union all
               select started_at, 'action', action,
                      concat_ws(', ', reason, case done when true then 'done' when false then 'refused'
                          else 'its answer was never written' end, outcome),
                      chain_id, null, actor, null, null, null, 0, operation_id
               from operator_actions where chain_id = any($2)
           ) as story
           where (cardinality($3::text[]) = 0 or layer = any($3))
             and ($4::timestamptz is null or at >= $4)
             and ($5::timestamptz is null or at < $5)
             and ($6::timestamptz is null or (at, rank, tie collate "C") > ($6, $7::int, $8::text))
           order by at, rank, tie collate "C" limit $9"#,
        page.account.map(|id| id.0),
        &chains,
        page.layers,
        page.since,
        page.until,
        after_at,
        after_rank,
        after_tie,
        page.limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}
