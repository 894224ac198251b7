//! The changes of all accounts, read by what a reader has seen: no log is kept, the newest revision
//! of each account that changed is what it is owed.

use serde_json::value::RawValue;
use sqlx::types::Json;
use tracing::error;
use uuid::Uuid;

use super::accounts::Account;
use super::snapshots::Stored;
use super::{Db, StorageError};
use crate::domain::chain::AppId;
use crate::domain::horizon::{Horizon, Place};
use crate::domain::ids::{AccountId, Revision};

/// One account that changed, as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Where its last change stands.
    pub(crate) place: Place,
    /// `issuer:subject`, as it may be named now.
    pub(crate) names: Vec<String>,
    /// The apps of the purchases that it has or had.
    pub(crate) apps: Vec<AppId>,
    pub(crate) state: RowState,
}

#[derive(Clone, Debug)]
pub(crate) enum RowState {
    Living(Account, Stored),
    /// This version cannot read what a newer one has written.
    Unreadable,
    Erased,
    Merged(AccountId),
}

/// What a read of the feed looks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// What the reader has seen.
    pub(crate) seen: &'a Horizon,
    /// Nothing beyond it; `None`: everything that the read itself sees.
    pub(crate) until: Option<&'a Horizon>,
    /// Where the page before ended.
    pub(crate) after: Option<Place>,
    pub(crate) limit: i64,
}

/// A page, and what the statement that read it saw.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) now: Horizon,
    /// By place.
    pub(crate) rows: Vec<Row>,
}

/// What a statement of this moment sees.
pub(crate) async fn horizon(db: &Db) -> Result<Horizon, StorageError> {
    let row = sqlx::query!(
        r#"select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as "next!",
                  array(select open::text::bigint
                        from pg_snapshot_xip(pg_current_snapshot()) as open) as "open!""#
    )
    .fetch_one(db.pool())
    .await?;
    Ok(Horizon::new(row.next, row.open))
}

/// A page of what a reader is owed. Rows and horizon come from one statement on the primary: what it
/// sees is what it tells. Accounts that ended before a reader saw anything are none of its business.
pub(crate) async fn read(db: &Db, question: Question<'_>) -> Result<Page, StorageError> {
    let Question {
        seen,
        until,
        after,
        limit,
    } = question;
    let after = after.map_or((-1, Uuid::nil()), |place| (place.number, place.account.0));
    let rows = sqlx::query!(
        r#"select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as "next!",
                  array(select open::text::bigint
                        from pg_snapshot_xip(pg_current_snapshot()) as open) as "open!",
                  p.account_id as "account_id?", p.number as "number?",
                  p.erased as "erased?", p.merged_into as "merged_into?",
                  p.revision as "revision?", p.body as "body?: Json<Box<RawValue>>",
                  p.token as "token?", p.names as "names?", p.apps as "apps?"
           from (select) as always left join lateral (
               select m.account_id, m.number, a.erased_at is not null as erased, a.merged_into,
                      s.revision, s.body,
                      coalesce((select token from store_tokens t where t.account_id = a.id
                                order by kind <> 'issued', created_at, token limit 1), '') as token,
                      array(select issuer || ':' || subject from account_identities i
                            where i.account_id = a.id and retired_at is null
                            order by created_at, issuer, subject) as names,
                      array(select c.app from purchase_chains c where c.owner_account_id = a.id
                            union
                            select c.app from ownership_changes o
                            join purchase_chains c on c.id = o.chain_id
                            where o.from_account_id = a.id) as apps
               from (
                   (select s.account_id, s.changed_xid as number
                    from entitlement_snapshots s join accounts a on a.id = s.account_id
                    where s.changed_xid >= $1 and (s.changed_xid >= $2 or s.changed_xid = any($3))
                      and s.changed_xid < $4 and s.changed_xid <> all($5)
                      and (s.changed_xid, s.account_id) > ($6::bigint, $7::uuid)
                      and a.erased_at is null
                    order by s.changed_xid, s.account_id limit $8)
                   union all
                   (select id, ended_xid from accounts
                    where $2 > 0 and ended_xid >= $1
                      and (ended_xid >= $2 or ended_xid = any($3))
                      and ended_xid < $4 and ended_xid <> all($5)
                      and (ended_xid, id) > ($6::bigint, $7::uuid)
                    order by ended_xid, id limit $8)
                   order by number, account_id limit $8
               ) m
               join accounts a on a.id = m.account_id
               left join entitlement_snapshots s on s.account_id = m.account_id
           ) p on true
           order by p.number, p.account_id"#,
        seen.floor(),
        seen.next(),
        seen.open(),
        until.map_or(i64::MAX, Horizon::next),
        until.map_or(&[][..], Horizon::open),
        after.0,
        after.1,
        limit
    )
    .fetch_all(db.pool())
    .await?;
    let first = rows.first();
    let now = first.map(|row| Horizon::new(row.next, row.open.clone()));
    let rows = rows.into_iter().filter_map(|row| {
        let account = AccountId(row.account_id?);
        let place = Place {
            number: row.number?,
            account,
        };
        let state = match (row.erased, row.merged_into, row.revision.zip(row.body)) {
            (Some(true), _, _) => RowState::Erased,
            (_, Some(into), _) => RowState::Merged(AccountId(into)),
            (_, None, Some((revision, body))) => {
                let token = row.token.unwrap_or_default();
                living(account, token, Revision(revision), &body)
            }
            (_, None, None) => return None,
        };
        Some(Row {
            place,
            names: row.names.unwrap_or_default(),
            apps: row.apps.into_iter().flatten().map(AppId).collect(),
            state,
        })
    });
    Ok(Page {
        rows: rows.collect(),
        now: now.unwrap_or_default(),
    })
}

fn living(
    id: AccountId,
    store_token: String,
    revision: Revision,
    body: &Json<Box<RawValue>>,
) -> RowState {
    match serde_json::from_str(body.get()) {
        Ok(snapshot) => RowState::Living(
            Account { id, store_token },
            Stored {
                account: id,
                revision,
                snapshot,
            },
        ),
        Err(cause) => {
            error!(account = %id, error = %cause, "unreadable snapshot");
            RowState::Unreadable
        }
    }
}
