//! A process that dies while an account is erased: it is erased whole or not at all, and asking again
//! comes to the same.

use entitled::proto::ErasureOutcome;
use entitled::sandbox::Store;

use super::{buy, doomed_at, replaced, store_token};
use crate::privacy::erase;
use crate::support::World;
use crate::tickets::token;

/// What a half would have left behind.
const HALVES: &str = "select count(*) from accounts a where erased_at is not null
        and (exists (select from account_identities i where i.account_id = a.id)
          or exists (select from store_tokens t where t.account_id = a.id)
          or exists (select from purchase_chains c where c.owner_account_id = a.id)
          or not exists (select from operator_actions o where o.account_id = a.id))";

async fn an_erasure_survives(place: &str, expected: ErasureOutcome) {
    let (mut world, mut doomed) = doomed_at(place).await;
    let names = store_token(&world, "alice").await;
    let mut phone = world.device("alice").await;
    buy(&world, Store::AppStore, "alice", Some(&names)).await;
    phone.until_active("pro_access").await;
    let account = phone.latest.account.clone().expect("an account").id;
    let operator = |world: &World| token(world, "sue", "entitled.admin");
    let died = erase(&world, &operator(&world), &account, "GDPR-17").await;
    died.expect_err("the server died");
    let _healthy = replaced(&mut world, &mut doomed).await;
    assert_eq!(world.count(HALVES).await, 0, "{place}");
    let again = erase(&world, &operator(&world), &account, "GDPR-17").await;
    assert_eq!(again.expect("an outcome").outcome(), expected, "{place}");
    assert_eq!(world.count(HALVES).await, 0, "{place}");
    let erased = "select count(*) from accounts where erased_at is not null";
    assert_eq!(world.count(erased).await, 1, "{place}");
    let readable = "select count(*) from chain_keys where wrapped is not null";
    assert_eq!(world.count(readable).await, 0, "{place}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_not_committed() {
    an_erasure_survives("before_erase_commit", ErasureOutcome::Erased).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_committed_and_not_told() {
    an_erasure_survives("after_erase_commit", ErasureOutcome::AlreadyErased).await;
}
