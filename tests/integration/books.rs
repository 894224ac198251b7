//! A look behind the doors: what the database has kept, for tests that must see it.

use serde_json::Value;
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::support::World;

/// A reader of a test's database.
pub(crate) struct Books(PgPool);

/// How many rows each table holds that a signal could write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept(Vec<i64>);

/// Everything that came of a customer's only purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) chains: i64,
    pub(crate) owners: i64,
    pub(crate) transactions: i64,
    /// Settles that changed what an app sees.
    pub(crate) applied: i64,
    pub(crate) duties_open: i64,
    pub(crate) duties_done: i64,
    /// Notifications kept, and those of them that are not worked in.
    pub(crate) notifications: i64,
    pub(crate) unfinished: i64,
    pub(crate) revision: i64,
}

impl Books {
    pub(crate) async fn of(world: &World) -> Self {
        Self::open(&world.database_url).await
    }

    pub(crate) async fn open(url: &str) -> Self {
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await;
        Self(pool.expect("the test's database"))
    }

    /// The first column of the only row.
    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&self.0)
            .await
            .expect("a number")
    }

    /// The first column of every row, as JSON.
    pub(crate) async fn rows(&self, query: &'static str) -> Vec<Value> {
        sqlx::query_scalar(query)
            .fetch_all(&self.0)
            .await
            .expect("rows")
    }

    pub(crate) async fn kept(&self) -> Kept {
        let counts = sqlx::query_scalar(
            "select array[(select count(*) from raw_notifications),
                          (select count(*) from ingress_keys),
                          (select count(*) from purchase_chains),
                          (select count(*) from chain_aliases),
                          (select count(*) from ownership_claims),
                          (select count(*) from subscription_events),
                          (select count(*) from store_answers),
                          (select count(*) from entitlement_snapshots)]",
        );
        Kept(counts.fetch_one(&self.0).await.expect("counts"))
    }

    /// Over the whole database: for tests with one customer.
    pub(crate) async fn effects(&self) -> Effects {
        let counts: Vec<i64> = sqlx::query_scalar(
            "select array[(select count(*) from purchase_chains where merged_into is null),
                          (select count(*) from ownership_changes),
                          (select count(*) from transactions),
                          (select count(*) from subscription_events where decision = 'apply'),
                          (select count(*) from duties where done_at is null),
                          (select count(*) from duties where done_at is not null),
                          (select count(*) from raw_notifications),
                          (select count(*) from raw_notifications where status <> 'processed'),
                          (select coalesce(max(revision), 0) from entitlement_snapshots)]",
        )
        .fetch_one(&self.0)
        .await
        .expect("counts");
        let [
            chains,
            owners,
            transactions,
            applied,
            duties_open,
            duties_done,
            notifications,
            unfinished,
            revision,
        ] = counts[..]
        else {
            panic!("nine counts");
        };
        Effects {
            chains,
            owners,
            transactions,
            applied,
            duties_open,
            duties_done,
            notifications,
            unfinished,
            revision,
        }
    }
}
