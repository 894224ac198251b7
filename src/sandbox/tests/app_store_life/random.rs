//! Whatever customers, the developer and Apple's staff do in whatever order: what must hold always.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::sandbox::app_store::AppStore;

const SEEDS: u64 = 4;
const STEPS: usize = 250;
const CUSTOMERS: [&str; 3] = ["alice", "bob", "carol"];
const PRODUCTS: [&str; 8] = [BASIC, PREMIUM, FAMILY, YEAR, WEEK, LIFETIME, COINS, SEASON];

fn one_of<'a>(random: &mut StdRng, all: &[&'a str]) -> &'a str {
    all[random.random_range(0..all.len())]
}

/// Ids of all chains and all transactions.
fn ids(rig: &Rig) -> (Vec<String>, Vec<String>) {
    rig.sandbox.inner.read(|world, _| {
        let chains = world.app_store.chains.values();
        let transactions = chains.clone().flat_map(|chain| &chain.transactions);
        let transactions = transactions.map(|t| t.id.clone()).collect();
        let chains = chains.map(|chain| chain.original_transaction_id.clone());
        (chains.collect(), transactions)
    })
}

fn step(rig: &Rig, random: &mut StdRng) -> Value {
    let (chains, transactions) = ids(rig);
    let customer = one_of(random, &CUSTOMERS);
    let product = one_of(random, &PRODUCTS);
    let Some(last) = chains.len().checked_sub(1) else {
        return buy(customer, product);
    };
    let chain = chains[random.random_range(0..=last)].clone();
    let transaction = transactions[random.random_range(0..transactions.len())].clone();
    let kind = one_of(
        random,
        &["introductory", "promotional", "offer_code", "win_back"],
    );
    let payment = one_of(random, &["free_trial", "pay_as_you_go", "pay_up_front"]);
    let offer = json!({"kind": kind, "payment": payment, "period": "P1M", "periods": 2});
    let coin = random.random_bool(0.5);
    match random.random_range(0..20) {
        0..4 => buy(customer, product),
        4 => buy_with(customer, YEAR, json!({"billing_plan": "monthly"})),
        5 => buy_with(customer, product, json!({"offer": offer})),
        6 => json!({"do": "redeem_offer", "original_transaction_id": chain, "offer": offer}),
        7 => json!({"do": "set_auto_renew", "original_transaction_id": chain, "enabled": coin}),
        8..10 => json!({"do": "set_billing", "original_transaction_id": chain,
            "billing": if coin { "works" } else { "fails" }}),
        10 => json!({"do": "refund", "transaction_id": transaction,
            "percent": random.random_range(1..=100)}),
        11 => json!({"do": "reverse_refund", "transaction_id": transaction}),
        12 => json!({"do": "request_refund", "transaction_id": transaction}),
        13 => json!({"do": "share", "original_transaction_id": chain, "member": customer}),
        14 => json!({"do": "unshare", "original_transaction_id": chain, "member": customer}),
        15 => json!({"do": "extend", "original_transaction_id": chain, "days": 5}),
        16 => json!({"do": "raise_price", "product_id": product, "consent": coin,
            "price_milliunits": random.random_range(5_000..1_000_000)}),
        17 => json!({"do": "answer_price", "original_transaction_id": chain, "accept": coin}),
        _ => json!({"advance": one_of(random, &["P1D", "P5D", "P1W", "P20D", "P1M", "P3M"])}),
    }
}

#[tokio::test]
async fn what_must_hold_holds_whatever_happens() {
    for seed in 0..SEEDS {
        let rig = shop_rig().await;
        rig.sandbox.set_webhooks(Webhooks::default()).unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        let mut done = 0;
        for number in 0..STEPS {
            let step = step(&rig, &mut random);
            match step["advance"].as_str() {
                Some(period) => rig.sandbox.advance(period.parse().unwrap()).await.unwrap(),
                None => match rig.act(&step).await {
                    Ok(_) => done += 1,
                    Err(
                        SandboxError::Refused(_)
                        | SandboxError::UnknownPurchase
                        | SandboxError::UnknownProduct(_),
                    ) => {}
                    Err(error) => panic!("seed {seed}, step {number}, {step}: {error}"),
                },
            }
            holds(&rig, &format!("seed {seed}, step {number}, {step}"));
        }
        assert!(done > STEPS / 4, "only {done} steps were not refused");
        survives(&rig);
        told_in_order(&rig);
    }
}

/// Access follows from the documents, members from their purchasers, and the future from the past.
fn holds(rig: &Rig, after: &str) {
    let timing = Timing::default();
    rig.sandbox.inner.read(|world, now| {
        let store = &world.app_store;
        let mut seen = BTreeSet::new();
        for chain in store.chains.values() {
            let id = &chain.original_transaction_id;
            assert!(!chain.transactions.is_empty(), "{after}");
            assert_eq!(chain.transactions[0].id, *id, "{after}");
            for transaction in &chain.transactions {
                assert!(
                    seen.insert(transaction.id.clone()),
                    "{after}: id used twice"
                );
                let found = store.chain_by_transaction(&transaction.id).unwrap();
                assert_eq!(found.original_transaction_id, *id, "{after}");
            }
            let latest = chain.latest().unwrap();
            if let Some(subscription) = &chain.subscription {
                assert!(latest.expires_at.unwrap() > latest.purchased_at, "{after}");
                let status = chain.status(now).unwrap();
                assert_eq!(chain.entitles(now), matches!(status, 1 | 4), "{after}");
                assert_eq!(
                    status == 5,
                    latest.revocation.is_some(),
                    "{after}: {chain:?}"
                );
                if chain.entitles(now) {
                    assert!(chain.access_until().unwrap() > now, "{after}: {chain:?}");
                }
                let due = chain.next_due(&timing);
                assert!(
                    due.is_none_or(|due| due > now),
                    "{after}: overdue {chain:?}"
                );
                let open = matches!(status, 1 | 3 | 4) && !chain.sharing.is_shared();
                assert!(
                    !open || due.is_some(),
                    "{after}: nothing to come {subscription:?}"
                );
            }
            for member in chain.sharing.members() {
                let member = &store.chains[member];
                assert_eq!(member.entitles(now), chain.entitles(now), "{after}");
                assert_eq!(member.status(now), chain.status(now), "{after}");
                let until = member.access_until();
                assert_eq!(until, chain.access_until(), "{after}");
            }
        }
    });
}

/// What is kept on disk is everything.
fn survives(rig: &Rig) {
    rig.sandbox.inner.read(|world, _| {
        let kept = serde_json::to_vec(&world.app_store).unwrap();
        let again: AppStore = serde_json::from_slice(&kept).unwrap();
        assert_eq!(serde_json::to_vec(&again).unwrap(), kept);
    });
}

fn told_in_order(rig: &Rig) {
    let mut last = 0;
    for record in rig.sandbox.notifications() {
        let told = apple_notification(&record);
        let signed = told["signedDate"].as_i64().unwrap();
        assert!(signed > last);
        last = signed;
        let data = &told["data"];
        let inner = &data["signedTransactionInfo"];
        if data["status"] == 1 {
            let current = &data["signedRenewalInfo"]["productId"];
            assert!(current.is_string(), "{told:#}");
        }
        let revoked = matches!(record.notification_type.as_str(), "REFUND" | "REVOKE");
        assert_eq!(
            revoked,
            revoked && inner["revocationDate"].is_i64(),
            "{told:#}"
        );
        if inner["inAppOwnershipType"] == "FAMILY_SHARED" {
            assert!(inner["appAccountToken"].is_null() && inner["price"].is_null());
        }
    }
}
