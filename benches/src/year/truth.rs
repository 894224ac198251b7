//! What the server says of every account against what the stores know.

use anyhow::{Context as _, bail, ensure};
use entitled::cli::client::Client;
use entitled::proto::consistency::Requirement;
use entitled::proto::{Consistency, EntitlementSnapshot, GetEntitlementsRequest};
use entitled::sandbox::{IdentityToken, PurchaseState, PurchaseTruth, Sandbox};
use futures::{StreamExt as _, TryStreamExt as _};
use tonic::transport::Channel;

use super::AT_ONCE;
use super::lives::Life;

/// Of so many differences at most the details are printed.
const SHOWN: usize = 10;

/// What was compared.
pub(super) struct Compared {
    pub(super) accounts: usize,
    pub(super) entitled: usize,
}

/// What a side says: access, whether it renews, and until when.
#[derive(Debug, PartialEq, Eq)]
struct Access {
    active: bool,
    renews: bool,
    /// Seconds since 1970; while there is access.
    until: Option<i64>,
}

impl Access {
    /// As the stores know it.
    fn true_of(purchases: &[PurchaseTruth]) -> Self {
        let now = || purchases.iter().filter(|purchase| purchase.entitled);
        let ends = now().filter_map(|purchase| purchase.expires_at);
        Self {
            active: now().next().is_some(),
            renews: now().any(|purchase| purchase.auto_renew),
            until: ends.max().map(|at| at.timestamp()),
        }
    }

    /// As the server tells it. In grace, the stores' end is that of grace, and the server's end of
    /// what was paid lies before it.
    fn told_by(snapshot: &EntitlementSnapshot, grace: bool) -> anyhow::Result<Self> {
        let pro = snapshot
            .entitlements
            .iter()
            .find(|one| one.id == "pro_access");
        let pro = pro.context("a snapshot without pro_access")?;
        let until = match grace {
            true => pro.access_until,
            false => pro.expires_at,
        };
        Ok(Self {
            active: pro.active,
            renews: pro.active && pro.will_renew,
            until: until.filter(|_| pro.active).map(|at| at.seconds),
        })
    }
}

/// Compares every account; the first difference fails the run, and so does having compared nothing.
pub(super) async fn compare(
    stores: &Sandbox,
    server: Channel,
    lives: &[Life],
) -> anyhow::Result<Compared> {
    let answers: Vec<EntitlementSnapshot> = futures::stream::iter(lives)
        .map(|life| read(stores, server.clone(), life))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut different = 0;
    let mut entitled = 0;
    for (life, snapshot) in lives.iter().zip(&answers) {
        let purchases = stores.purchases(&life.name);
        let grace = |one: &PurchaseTruth| one.state == PurchaseState::InGracePeriod;
        let told = Access::told_by(snapshot, purchases.iter().any(grace))?;
        ensure!(!purchases.is_empty(), "{} has bought nothing", life.name);
        let truth = Access::true_of(&purchases);
        entitled += usize::from(truth.active);
        if truth != told {
            different += 1;
            if different <= SHOWN {
                println!(
                    "{}: truth {truth:?}, server {told:?}: {purchases:#?}",
                    life.name
                );
            }
        }
    }
    ensure!(!answers.is_empty(), "nothing was compared");
    ensure!(
        entitled > 0 && entitled < answers.len(),
        "{entitled} of {} accounts have access: too simple a year to prove anything",
        answers.len()
    );
    if different > 0 {
        bail!(
            "{different} of {} accounts differ from the truth",
            answers.len()
        );
    }
    Ok(Compared {
        accounts: answers.len(),
        entitled,
    })
}

async fn read(
    stores: &Sandbox,
    server: Channel,
    life: &Life,
) -> anyhow::Result<EntitlementSnapshot> {
    let token = stores.identity_token(&IdentityToken::of(&life.name))?;
    let mut client = Client::over(server, &token)?;
    let request = GetEntitlementsRequest {
        as_of: None,
        consistency: Some(Consistency {
            requirement: Some(Requirement::FullyConsistent(true)),
        }),
        account: String::new(),
    };
    let answer = client.inner.get_entitlements(request).await?.into_inner();
    answer.snapshot.context("an answer without snapshot")
}
