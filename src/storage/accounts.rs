//! Accounts, the identities they are known by, and the tokens that stores carry for them.

use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::ids::AccountId;
use crate::domain::time::Instant;

/// An account as its own devices may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    /// The token that we issued for the stores.
    pub(crate) store_token: String,
}

impl Account {
    /// It has no token for the stores any more: nothing names it.
    pub(crate) fn is_erased(&self) -> bool {
        self.store_token.is_empty()
    }
}

/// The account of an identity, if it was ever seen.
pub(crate) async fn find(
    db: &Db,
    issuer: &str,
    subject: &str,
) -> Result<Option<Account>, StorageError> {
    let identity = identity(db, issuer, subject).await?;
    Ok(identity.map(|identity| identity.account))
}

/// The same for whoever acts: a name whose user has signed in elsewhere since names nobody.
pub(crate) async fn find_present(
    db: &Db,
    issuer: &str,
    subject: &str,
) -> Result<Option<Account>, StorageError> {
    let identity = identity(db, issuer, subject).await?;
    let present = identity.filter(|identity| !identity.retired);
    Ok(present.map(|identity| identity.account))
}

/// What a credential of an identity finds, as `find_or_create` decides it, without making anything.
pub(crate) async fn find_own(
    db: &Db,
    issuer: &str,
    subject: &str,
    anonymous: bool,
) -> Result<Option<Found>, StorageError> {
    Ok(match identity(db, issuer, subject).await? {
        Some(Identity { retired: true, .. }) if anonymous => Some(Found::Retired),
        Some(Identity { retired: true, .. }) | None => None,
        Some(identity) => Some(Found::Account(identity.account)),
    })
}

/// An identity as it is kept.
struct Identity {
    account: Account,
    anonymous: bool,
    retired: bool,
}

async fn identity(db: &Db, issuer: &str, subject: &str) -> Result<Option<Identity>, StorageError> {
    let row = sqlx::query!(
        r#"select i.account_id, i.anonymous, i.retired_at is not null as "retired!", t.token
           from account_identities i join store_tokens t on t.account_id = i.account_id
           where i.issuer = $1 and i.subject = $2
           order by t.kind <> 'issued', t.created_at, t.token limit 1"#,
        issuer,
        subject
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| Identity {
        account: Account {
            id: row.account_id.into(),
            store_token: row.token,
        },
        anonymous: row.anonymous,
        retired: row.retired,
    }))
}

/// One of several names of accounts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OneName<'a> {
    Id(AccountId),
    Identity(&'a str, &'a str),
}

/// The accounts of these names, each as [`get`] and [`find_present`] find them; in their order.
pub(crate) async fn present_many(
    db: &Db,
    names: &[OneName<'_>],
) -> Result<Vec<Option<Account>>, StorageError> {
    let (mut ids, mut issuers, mut subjects) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let (id, identity) = match *name {
            OneName::Id(id) => (Some(id.0), None),
            OneName::Identity(issuer, subject) => (None, Some((issuer, subject))),
        };
        ids.push(id);
        issuers.push(identity.map(|identity| identity.0));
        subjects.push(identity.map(|identity| identity.1));
    }
    let rows = sqlx::query!(
        r#"select n.place as "place!", x.account_id as "account_id!", t.token as "token!"
           from unnest($1::uuid[], $2::text[], $3::text[]) with ordinality
                as n (id, issuer, subject, place)
           cross join lateral (
               select coalesce(a.merged_into, a.id) as account_id from accounts a where a.id = n.id
               union all
               select i.account_id from account_identities i
               where i.issuer = n.issuer and i.subject = n.subject and i.retired_at is null
           ) x
           cross join lateral (
               select token from store_tokens s where s.account_id = x.account_id
               order by kind <> 'issued', created_at, token limit 1
           ) t"#,
        &ids as &[Option<Uuid>],
        &issuers as &[Option<&str>],
        &subjects as &[Option<&str>]
    )
    .fetch_all(db.pool())
    .await?;
    let mut found = vec![None; names.len()];
    for row in rows {
        let place = usize::try_from(row.place - 1).ok();
        if let Some(place) = place.and_then(|place| found.get_mut(place)) {
            *place = Some(Account {
                id: row.account_id.into(),
                store_token: row.token,
            });
        }
    }
    Ok(found)
}

/// The account with that id, or the one that it became part of.
pub(crate) async fn get(db: &Db, id: AccountId) -> Result<Option<Account>, StorageError> {
    let row = sqlx::query!(
        r#"select t.account_id, t.token
           from accounts a join store_tokens t on t.account_id = coalesce(a.merged_into, a.id)
           where a.id = $1 order by t.kind <> 'issued', t.created_at, t.token limit 1"#,
        id.0
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| Account {
        id: row.account_id.into(),
        store_token: row.token,
    }))
}

/// What has become of the account that a credential of ours names by its id.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Living(Account),
    /// It is a part of another one: its credentials are used up.
    Merged,
    /// It was erased, or never was.
    Gone,
}

/// Whom a credential of ours names.
pub(crate) async fn named(db: &Db, id: AccountId) -> Result<Named, StorageError> {
    let row = sqlx::query!(
        r#"select merged_into is not null as "merged!", ended_at is not null as "ended!"
           from accounts where id = $1"#,
        id.0
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(match row {
        Some(row) if row.merged => Named::Merged,
        Some(row) if !row.ended => get(db, id).await?.map_or(Named::Gone, Named::Living),
        Some(_) | None => Named::Gone,
    })
}

/// What an identity's first call, or any later one, finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Account(Account),
    /// An anonymous identity whose user has signed in since: it is to be used no more.
    Retired,
}

/// The account of an identity, made on its first call. Safe to race: one account comes out. An
/// anonymous identity that comes back with a sign-in is anonymous no more; if it was linked to
/// another meanwhile, what it had is there, and it begins anew.
pub(crate) async fn find_or_create(
    db: &Db,
    (issuer, subject): (&str, &str),
    anonymous: bool,
    now: Instant,
) -> Result<Found, StorageError> {
    match identity(db, issuer, subject).await? {
        Some(Identity { retired: true, .. }) if anonymous => return Ok(Found::Retired),
        Some(Identity { retired: true, .. }) | None => {}
        Some(identity) => {
            let signs_in = identity.anonymous && !anonymous;
            if signs_in && !sign_in(db, (issuer, subject), identity.account.id).await? {
                let why = "the identity was linked or erased meanwhile";
                return Err(StorageError::Conflict(why.into()));
            }
            return Ok(Found::Account(identity.account));
        }
    }
    let id = AccountId(Uuid::now_v7());
    let mut tx = db.begin().await?;
    insert(&mut tx, id, now).await?;
    let made = sqlx::query!(
        r#"insert into account_identities as i (issuer, subject, account_id, created_at, anonymous)
           values ($1, $2, $3, $4, $5) on conflict (issuer, subject) do update
           set account_id = $3, created_at = $4, anonymous = false, retired_at = null
           where i.retired_at is not null and not $5"#,
        issuer,
        subject,
        id.0,
        now,
        anonymous
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    if made == 0 {
        tx.rollback().await?;
    } else {
        tx.commit().await?;
    }
    match identity(db, issuer, subject).await? {
        Some(Identity { retired: true, .. }) if anonymous => Ok(Found::Retired),
        Some(identity) => Ok(Found::Account(identity.account)),
        None => Err(StorageError::Corrupt(
            "an account without a store token".into(),
        )),
    }
}

/// A new account that nobody signs in to, known by its own id.
pub(crate) async fn create_anonymous(
    tx: &mut Tx<'_>,
    issuer: &str,
    now: Instant,
) -> Result<Account, StorageError> {
    let id = AccountId(Uuid::now_v7());
    let store_token = insert(tx, id, now).await?;
    sqlx::query!(
        r#"insert into account_identities (issuer, subject, account_id, created_at, anonymous)
           values ($1, $2, $3, $4, true)"#,
        issuer,
        id.to_string(),
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(Account { id, store_token })
}

/// The account and the token that the stores know it by.
async fn insert(tx: &mut Tx<'_>, id: AccountId, now: Instant) -> Result<String, StorageError> {
    sqlx::query!(
        "insert into accounts (id, created_at) values ($1, $2)",
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    // Random, not derived: the stores keep it, so it must say nothing of the user.
    let token = Uuid::new_v4().to_string();
    sqlx::query!(
        "insert into store_tokens (token, account_id, created_at) values ($1, $2, $3)",
        token,
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(token)
}

/// Whoever was nobody at their provider is somebody now. Under the account's lock: of this and a
/// link, which takes accounts of nobody alone, one sees the other. `false`: the link was first.
async fn sign_in(
    db: &Db,
    (issuer, subject): (&str, &str),
    account: AccountId,
) -> Result<bool, StorageError> {
    let mut tx = db.begin().await?;
    lock(&mut tx, &[account]).await?;
    let done = sqlx::query!(
        r#"update account_identities set anonymous = false
           where issuer = $1 and subject = $2 and account_id = $3 and retired_at is null"#,
        issuer,
        subject,
        account.0
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    tx.commit().await?;
    Ok(done == 1)
}

/// Whether nobody has signed in to an account: all its identities are anonymous ones.
pub(crate) async fn is_anonymous(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<bool, StorageError> {
    let anonymous = sqlx::query_scalar!(
        r#"select coalesce(bool_and(anonymous), false) as "anonymous!"
           from account_identities where account_id = $1 and retired_at is null"#,
        account.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(anonymous)
}

/// The living account that a store's record names.
pub(crate) async fn by_store_token(
    tx: &mut Tx<'_>,
    token: &str,
) -> Result<Option<AccountId>, StorageError> {
    let account = sqlx::query_scalar!(
        r#"select s.account_id from store_tokens s join accounts a on a.id = s.account_id
           where s.token = lower($1) and a.erased_at is null"#,
        token
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(account.map(AccountId))
}

/// The token that we issued to each of these accounts, in id order.
pub(crate) async fn store_tokens(
    tx: &mut Tx<'_>,
    ids: &[AccountId],
) -> Result<Vec<(AccountId, String)>, StorageError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select distinct on (account_id) account_id, token from store_tokens
           where account_id = any($1) order by account_id, kind <> 'issued', created_at, token"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let tokens = rows
        .into_iter()
        .map(|row| (row.account_id.into(), row.token));
    Ok(tokens.collect())
}

/// Whether one of these names is the account's: `issuer:subject` or its id.
pub(crate) async fn is_named(
    tx: &mut Tx<'_>,
    account: AccountId,
    names: &[String],
) -> Result<bool, StorageError> {
    let named = sqlx::query_scalar!(
        r#"select $1::uuid::text = any($2) or exists
             (select 1 from account_identities
              where account_id = $1 and issuer || ':' || subject = any($2)) as "named!""#,
        account.0,
        names
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(named)
}

/// Keeps an account from being erased until the transaction ends; one that was erased already is
/// looked up anew by whoever comes again.
pub(crate) async fn hold(tx: &mut Tx<'_>, account: AccountId) -> Result<(), StorageError> {
    let lives = sqlx::query_scalar!(
        r#"select erased_at is null as "lives!" from accounts where id = $1 for key share"#,
        account.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    match lives {
        Some(true) => Ok(()),
        Some(false) | None => Err(StorageError::Unavailable(
            "the account was erased meanwhile".into(),
        )),
    }
}

/// Locks accounts in id order; the second half of every settle's lock order. One that has become
/// part of another is left out, and one that was erased has no token, also if that happened while its
/// lock was waited for.
pub(crate) async fn lock(tx: &mut Tx<'_>, ids: &[AccountId]) -> Result<Vec<Account>, StorageError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select id, case when erased_at is not null then '' else
                      coalesce((select token from store_tokens where account_id = id
                                order by kind <> 'issued', created_at, token limit 1), '') end
                  as "token!"
           from accounts where id = any($1) and merged_into is null order by id for update"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let accounts = rows.into_iter().map(|row| Account {
        id: row.id.into(),
        store_token: row.token,
    });
    Ok(accounts.collect())
}
