//! Get Transaction History and Get Refund History: filters, pages, changes.

use super::*;

/// All pages, and the revision to go on from.
async fn read(rig: &Rig, path: &str, revision: Option<String>) -> (Vec<String>, String) {
    let mut all = Vec::new();
    let mut revision = revision;
    let separator = if path.contains('?') { '&' } else { '?' };
    loop {
        let page = match &revision {
            Some(revision) => {
                rig.get(&format!("{path}{separator}revision={revision}"))
                    .await
            }
            None => rig.get(path).await,
        };
        let ids = ids(&page);
        let more = page["hasMore"].as_bool().unwrap();
        assert!(ids.len() == 20 || !more);
        all.extend(ids);
        let next = page["revision"].as_str().unwrap().to_owned();
        revision = Some(next.clone());
        if !more {
            return (all, next);
        }
    }
}

#[tokio::test]
async fn pages_follow_the_order_of_changes_and_a_kept_revision_tells_only_what_is_new() {
    let rig = shop(Environment::Production).await;
    let mut bought = Vec::new();
    for _ in 0..45 {
        bought.push(rig.buy_apple("alice", COINS).await.transaction_id);
    }
    rig.buy_apple("bob", COINS).await;
    let path = format!("/v2/history/{}", bought[0]);
    let (all, revision) = read(&rig, &path, None).await;
    assert_eq!(all, bought);
    let again = read(&rig, &path, Some(revision.clone())).await;
    assert_eq!(again, (Vec::new(), revision.clone()));

    // What has changed appears again, at the end; the clock has stood still all the time.
    rig.sandbox.refund_app_store(&bought[7]).await.unwrap();
    let new = rig.buy_apple("alice", LIFETIME).await.transaction_id;
    let expected = vec![bought[7].clone(), new.clone()];
    assert_eq!(read(&rig, &path, Some(revision.clone())).await.0, expected);
    let (all, _) = read(&rig, &path, None).await;
    assert_eq!(all.len(), 46);
    assert_eq!(all[44..], expected);

    let newest = read(&rig, &format!("{path}?sort=DESCENDING"), None).await.0;
    assert_eq!(newest, all.iter().rev().cloned().collect::<Vec<_>>());
    // A revision holds for the request that it was given for.
    for other in ["sort=DESCENDING", "productId=x", "revoked=True"] {
        let path = format!("{path}?{other}&revision={revision}");
        rig.rejects_get(&path, 4_000_005).await;
    }
    let page = rig.get(&path).await;
    assert_eq!(page["appAppleId"], 1_234_567_890);
    assert_eq!(page["bundleId"], "com.example.app");
    assert_eq!(page["environment"], "Production");
}

#[tokio::test]
async fn every_filter_narrows_the_history() {
    let rig = shop(Environment::Production).await;
    let monthly = rig.buy_apple("alice", MONTHLY).await;
    let day = async || rig.sandbox.advance_by(TimeDelta::days(1)).await.unwrap();
    day().await;
    let coins = rig.buy_apple("alice", COINS).await;
    day().await;
    let lifetime = rig.buy_apple("alice", LIFETIME).await;
    let season = rig.buy_apple("alice", SEASON).await;
    rig.sandbox
        .refund_app_store(&coins.transaction_id)
        .await
        .unwrap();
    let family = rig.buy_apple("carol", FAMILY).await;
    let shared = rig.done(AppStoreAction::Share {
        original_transaction_id: family.original_transaction_id.clone(),
        member: "alice".to_owned(),
    });
    let Outcome::AppStore(shared) = shared.await else {
        panic!("not shared")
    };
    let id = &monthly.transaction_id;
    let start = start_time().timestamp_millis();
    let second = millis("2026-01-11T12:00:00Z");
    let cases: Vec<(String, Vec<&AppStorePurchase>)> = vec![
        (
            String::new(),
            vec![&monthly, &lifetime, &season, &coins, &shared],
        ),
        (format!("endDate={second}"), vec![&monthly]),
        (
            format!("startDate={second}"),
            vec![&lifetime, &season, &coins, &shared],
        ),
        (
            format!("startDate={start}&endDate={}", second + 1),
            vec![&monthly, &coins],
        ),
        (
            format!("productId={COINS}&productId={LIFETIME}"),
            vec![&lifetime, &coins],
        ),
        (
            "productType=AUTO_RENEWABLE".to_owned(),
            vec![&monthly, &shared],
        ),
        (
            "productType=CONSUMABLE&productType=NON_RENEWABLE".to_owned(),
            vec![&season, &coins],
        ),
        ("productType=NON_CONSUMABLE".to_owned(), vec![&lifetime]),
        (
            "subscriptionGroupIdentifier=family".to_owned(),
            vec![&shared],
        ),
        ("inAppOwnershipType=FAMILY_SHARED".to_owned(), vec![&shared]),
        (
            "inAppOwnershipType=PURCHASED&sort=ASCENDING".to_owned(),
            vec![&monthly, &lifetime, &season, &coins],
        ),
        ("revoked=True".to_owned(), vec![&coins]),
        ("revoked=true".to_owned(), vec![&coins]),
        (
            "revoked=False".to_owned(),
            vec![&monthly, &lifetime, &season, &shared],
        ),
        (
            "excludeRevoked=true".to_owned(),
            vec![&monthly, &lifetime, &season, &shared],
        ),
    ];
    for (query, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|p| p.transaction_id.clone()).collect();
        let found = read(&rig, &format!("/v2/history/{id}?{query}"), None)
            .await
            .0;
        assert_eq!(found, expected, "{query}");
    }
    for (query, code) in [
        ("startDate=x", 4_000_015),
        ("endDate=x", 4_000_016),
        ("startDate=2&endDate=2", 4_000_013),
        ("sort=UP", 4_000_021),
        ("productType=Consumable", 4_000_022),
        ("productId=", 4_000_023),
        ("subscriptionGroupIdentifier=", 4_000_024),
        ("excludeRevoked=1", 4_000_025),
        ("inAppOwnershipType=MINE", 4_000_026),
        ("revoked=1", 4_000_030),
        ("revision=x", 4_000_005),
    ] {
        rig.rejects_get(&format!("/v2/history/{id}?{query}"), code)
            .await;
    }
}

#[tokio::test]
async fn the_old_version_is_silent_about_finished_consumables() {
    let rig = shop(Environment::Production).await;
    let coins = rig.buy_apple("alice", COINS).await.transaction_id;
    let lifetime = rig.buy_apple("alice", LIFETIME).await.transaction_id;
    let paths = [
        format!("/v1/history/{coins}"),
        format!("/v2/history/{coins}"),
    ];
    let both = vec![coins.clone(), lifetime.clone()];
    assert_eq!(read(&rig, &paths[0], None).await.0, both);
    for id in [&coins, &lifetime] {
        let path = format!("/v1/transactions/{id}/finish");
        assert_eq!(rig.call(Method::POST, &path, Value::Null).await.0, 200);
    }
    assert_eq!(read(&rig, &paths[0], None).await.0, vec![lifetime]);
    assert_eq!(read(&rig, &paths[1], None).await.0, both);
}

#[tokio::test]
async fn refunds_are_told_by_their_dates() {
    let rig = shop(Environment::Production).await;
    let mut bought = Vec::new();
    for _ in 0..23 {
        bought.push(rig.buy_apple("alice", COINS).await.transaction_id);
    }
    let path = format!("/v2/refund/lookup/{}", bought[0]);
    assert_eq!(read(&rig, &path, None).await.0, Vec::<String>::new());
    for id in bought.iter().rev().take(22) {
        rig.sandbox.refund_app_store(id).await.unwrap();
    }
    let (refunded, revision) = read(&rig, &path, None).await;
    let expected: Vec<_> = bought.iter().rev().take(22).cloned().collect();
    assert_eq!(refunded, expected);
    rig.sandbox.advance_by(TimeDelta::days(1)).await.unwrap();
    rig.sandbox.refund_app_store(&bought[0]).await.unwrap();
    let (later, _) = read(&rig, &path, Some(revision)).await;
    assert_eq!(later, [bought[0].clone()]);
    // A reversed refund is none.
    rig.done(AppStoreAction::ReverseRefund {
        transaction_id: bought[0].clone(),
    })
    .await;
    assert_eq!(read(&rig, &path, None).await.0, expected);
}
