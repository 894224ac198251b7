//! Writers that overlap, transactions that stay open for long, readers that are cut at every message
//! and come back elsewhere, a server that dies: the promises of a watch, held against what was
//! written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use entitled::cli::client::Client;
use entitled::proto::WatchAccountsResponse;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row as _};
use tokio::sync::watch;
use tonic::Streaming;
use uuid::Uuid;

use super::{open, page, told};
use crate::history::{Entry, Told, Truth, Write, broken};
use crate::process::{NOBODY, Process};
use crate::support::World;

/// More than a page of a feed.
const ACCOUNTS: usize = 600;
const WRITERS: usize = 8;
const WRITES: usize = 60;
/// Transactions that stay open while others commit, one after another.
const LONG: usize = 12;
const MEANWHILE: usize = 25;

const BODY: &str = r#"jsonb_build_object('entitlements', '[]'::jsonb, 'subscriptions', '[]'::jsonb,
    'next_transition_at', null, 'credits', jsonb_build_array(jsonb_build_object(
        'id', 'coins', 'balance', REVISION, 'environment', null)))"#;

/// What has been written, as those who wrote it were told.
#[derive(Clone)]
struct Log {
    writes: Arc<Mutex<Vec<Write>>>,
    count: watch::Sender<usize>,
}

impl Log {
    fn keep(&self, write: Write) {
        self.writes.lock().expect("a log").push(write);
        self.count.send_modify(|count| *count += 1);
    }

    fn len(&self) -> usize {
        self.writes.lock().expect("a log").len()
    }

    async fn reaches(&self, wanted: usize) {
        let mut count = self.count.subscribe();
        count
            .wait_for(|count| *count >= wanted)
            .await
            .expect("written");
    }
}

fn account(number: usize) -> Uuid {
    Uuid::from_u128(0xA000_0000_0000_4000_8000_0000_0000_0000 + number as u128)
}

/// Accounts that have a first revision, all of one transaction.
async fn plant(pool: &PgPool, log: &Log) {
    let ids: Vec<Uuid> = (0..ACCOUNTS).map(account).collect();
    let statement = format!(
        "with ids as (select unnest($1::uuid[]) as id),
              made as (insert into accounts (id, created_at) select id, now() from ids),
              named as (insert into account_identities (issuer, subject, account_id, created_at)
                        select 'app', id::text, id, now() from ids),
              known as (insert into store_tokens (token, account_id, created_at)
                        select id::text, id, now() from ids)
         insert into entitlement_snapshots (account_id, revision, body, catalog_version)
         select id, 1, {}, 1 from ids",
        BODY.replace("REVISION", "1")
    );
    let statement = sqlx::AssertSqlSafe(statement);
    sqlx::query(statement)
        .bind(&ids)
        .execute(pool)
        .await
        .expect("planted");
    log.keep(Write(ids.iter().map(|id| (id.to_string(), 1)).collect()));
}

/// Gives an account its next revision, as every writer of the server does.
async fn raise(tx: &mut sqlx::Transaction<'_, sqlx::Postgres>, number: usize) -> (String, i64) {
    let statement = format!(
        "update entitlement_snapshots set revision = revision + 1, body = {},
             changed_xid = pg_current_xact_id()::text::bigint
         where account_id = $1 returning revision",
        BODY.replace("REVISION", "revision + 1")
    );
    let statement = sqlx::AssertSqlSafe(statement);
    let id = account(number);
    let row = sqlx::query(statement).bind(id).fetch_one(&mut **tx).await;
    (id.to_string(), row.expect("raised").get(0))
}

/// One writer: transactions of one to three accounts, locked in order. All write the same few, too.
async fn write(pool: PgPool, writer: usize, log: Log) {
    for round in 0..WRITES {
        let mut numbers = vec![round % 7, 20 + writer * 60 + round];
        if round % 3 == 0 {
            numbers.push(100 + (writer * WRITES + round) % 400);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut tx = pool.begin().await.expect("a transaction");
        let mut parts = Vec::new();
        for number in numbers {
            parts.push(raise(&mut tx, number).await);
        }
        tx.commit().await.expect("committed");
        log.keep(Write(parts));
    }
}

/// Transactions that have written and stay open while others commit: their numbers are the lowest,
/// and they are the last to be seen.
async fn dawdle(pool: PgPool, log: Log) {
    for round in 0..LONG {
        let mut tx = pool.begin().await.expect("a transaction");
        let parts = vec![
            raise(&mut tx, 10).await,
            raise(&mut tx, 590 + round % 9).await,
        ];
        let wanted = (log.len() + MEANWHILE).min(WRITERS * WRITES);
        log.reaches(wanted).await;
        tx.commit().await.expect("committed");
        log.keep(Write(parts));
    }
}

/// Where readers go, and whether everything is written.
#[derive(Clone)]
struct Place {
    servers: watch::Receiver<Vec<String>>,
    token: String,
    log: Log,
    written: watch::Receiver<bool>,
}

/// When a reader hangs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    AtEveryMessage,
    Never,
}

struct Reader {
    place: Place,
    turn: usize,
    cursor: String,
    history: Vec<Entry>,
}

impl Reader {
    fn new(place: &Place, turn: usize) -> Self {
        Self {
            place: place.clone(),
            turn,
            cursor: String::new(),
            history: Vec::new(),
        }
    }

    /// A client of the next server that answers.
    async fn client(&mut self) -> Client {
        loop {
            self.turn += 1;
            let server = {
                let servers = self.place.servers.borrow();
                servers[self.turn % servers.len()].clone()
            };
            match Client::connect(&server, &self.place.token).await {
                Ok(client) => return client,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Opens the feed where the last one was cut; whether everything had been written by then.
    async fn open(&mut self) -> (Streaming<WatchAccountsResponse>, bool) {
        loop {
            let client = self.client().await;
            let written = *self.place.written.borrow();
            let acknowledged = self.place.log.len();
            if let Ok(stream) = open(&client, &self.cursor).await {
                self.history.push(Entry::Opened { acknowledged });
                return (stream, written);
            }
        }
    }

    /// The list, page by page, each from another server.
    async fn list(&mut self) {
        let acknowledged = self.place.log.len();
        self.history.push(Entry::Opened { acknowledged });
        let mut token = String::new();
        while self.cursor.is_empty() {
            let client = self.client().await;
            let Ok((changes, next, cursor)) = page(&client, 47, &token).await else {
                continue;
            };
            for change in &changes {
                self.history.push(Entry::Told {
                    account: change.account_id.clone(),
                    told: told(change),
                });
            }
            (token, self.cursor) = (next, cursor);
        }
    }

    /// Reads until everything that was written has been told.
    async fn read(mut self, cut: Cut) -> Vec<Entry> {
        loop {
            let (mut stream, written) = self.open().await;
            let mut done = self.place.written.clone();
            loop {
                let message = tokio::select! {
                    message = stream.message() => message,
                    // From here on everything is owed at once.
                    _ = done.wait_for(|done| *done), if !written => break,
                };
                // Whoever is cut off by the death of a server comes back elsewhere.
                let Ok(Some(message)) = message else {
                    break;
                };
                let caught_up = message.caught_up;
                self.take(message);
                if written && caught_up {
                    return self.history;
                }
                if cut == Cut::AtEveryMessage {
                    break;
                }
            }
        }
    }

    fn take(&mut self, message: WatchAccountsResponse) {
        for change in &message.changes {
            self.history.push(Entry::Told {
                account: change.account_id.clone(),
                told: told(change),
            });
        }
        self.cursor = message.cursor;
        self.history.push(Entry::Mark {
            whole: !message.fragment,
            caught_up: message.caught_up,
        });
    }
}

/// The whole story with servers that have these variables; what each reader found broken.
async fn story(variables: &[(&str, &str)], kill: bool) -> Vec<(&'static str, Vec<String>)> {
    let world = World::with(|options| options.roles = NOBODY).await;
    let first = Process::start(&world, "serve", variables).await;
    let second = Process::start(&world, "serve", variables).await;
    let urls = vec![first.grpc().to_owned(), second.grpc().to_owned()];
    let (servers, places) = watch::channel(urls);
    let pool = PgPoolOptions::new()
        .max_connections(WRITERS as u32 + 2)
        .connect(&world.database_url)
        .await
        .expect("the database");
    let log = Log {
        writes: Arc::default(),
        count: watch::Sender::new(0),
    };
    plant(&pool, &log).await;
    let (done, written) = watch::channel(false);
    let place = Place {
        servers: places,
        token: world.service_token(),
        log: log.clone(),
        written,
    };
    let read = |name, cut| {
        let reader = Reader::new(&place, 0);
        (name, tokio::spawn(reader.read(cut)))
    };
    let mut readers = vec![
        read("one that is never cut", Cut::Never),
        read("one that is cut at every message", Cut::AtEveryMessage),
    ];
    let mut lister = Reader::new(&place, 1);
    readers.push((
        "one that lists first",
        tokio::spawn(async move {
            lister.list().await;
            lister.read(Cut::AtEveryMessage).await
        }),
    ));
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write(pool.clone(), writer, log.clone())));
    let mut writers: Vec<_> = writers.collect();
    writers.push(tokio::spawn(dawdle(pool.clone(), log.clone())));
    let mut third = None;
    if kill {
        log.reaches(WRITERS * WRITES / 2).await;
        first.signal("KILL");
        let started = Process::start(&world, "serve", variables).await;
        let urls = vec![second.grpc().to_owned(), started.grpc().to_owned()];
        servers.send(urls).expect("readers");
        third = Some(started);
    }
    for writer in writers {
        writer.await.expect("written");
    }
    done.send(true).expect("readers");
    let writes = log.writes.lock().expect("a log").clone();
    let truth = Truth {
        writes,
        last: last(&pool, &world).await,
        theirs: None,
    };
    let mut found = Vec::new();
    for (name, reader) in readers {
        let history = reader.await.expect("read");
        found.push((name, broken(&history, &truth)));
    }
    drop(third);
    pool.close().await;
    world.stack.stop().await;
    found
}

/// What the database holds in the end.
async fn last(pool: &PgPool, world: &World) -> BTreeMap<String, Told> {
    let epoch = "select epoch::text || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
        from deployment";
    let epoch = world.row(epoch).await;
    let rows = sqlx::query("select account_id::text, revision from entitlement_snapshots")
        .fetch_all(pool)
        .await
        .expect("the truth");
    assert_eq!(rows.len(), ACCOUNTS, "the truth is read whole");
    let told = rows.into_iter().map(|row| {
        let revision: i64 = row.get(1);
        let credits = vec![entitled::proto::CreditBalance {
            id: "coins".into(),
            balance: revision,
            ..Default::default()
        }];
        let told = Told::Revision {
            epoch: epoch.clone(),
            revision,
            content: format!("{credits:?}"),
        };
        (row.get(0), told)
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_once_in_order_whatever_is_cut_or_killed() {
    for (name, broken) in story(&[], true).await {
        assert!(broken.is_empty(), "{name}: {broken:#?}");
    }
}

/// A feed that goes by transaction numbers loses what commits late; one whose cursor is ahead loses
/// what it had not told.
#[tokio::test(flavor = "multi_thread")]
async fn planted_bugs_of_the_feed_are_found() {
    for bug in ["feed_by_number", "cursor_ahead"] {
        let found = story(&[("ENTITLED_PLANTED", bug)], false).await;
        let seen = found.iter().any(|(_, broken)| !broken.is_empty());
        assert!(seen, "{bug}: the bug is not seen");
    }
}
