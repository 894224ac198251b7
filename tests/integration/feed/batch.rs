//! BatchGetEntitlements: each answer as GetEntitlements gives it, one refusal harms no other.

use entitled::proto::consistency::Requirement;
use entitled::proto::{
    BatchGetEntitlementsRequest, BatchedEntitlements, Consistency, GetEntitlementsRequest,
    RevisionToken,
};
use tonic::{Code, Status};

use crate::api_keys::{self, Keys};
use crate::scene::MONTHLY;
use crate::support::{HTTP, World, assert_refused, is_active};

fn ask(account: &str, requirement: Option<Requirement>) -> GetEntitlementsRequest {
    GetEntitlementsRequest {
        account: account.into(),
        consistency: requirement.map(|requirement| Consistency {
            requirement: Some(requirement),
        }),
        as_of: None,
    }
}

async fn batch(
    world: &World,
    token: &str,
    requests: Vec<GetEntitlementsRequest>,
) -> Result<Vec<BatchedEntitlements>, Status> {
    let mut client = world.client_with_token(token).await;
    let request = BatchGetEntitlementsRequest { requests };
    let answer = client.inner.batch_get_entitlements(request).await?;
    Ok(answer.into_inner().results)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_each_account_as_one_call_would() {
    let world = World::start().await;
    let service = world.service_token();
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let token = Some(alice.store_token.as_str());
    world.buy_apple("alice", MONTHLY, token).await;
    world.settled().await;
    let hers = alice.now().await;
    let at_least = Requirement::AtLeast(RevisionToken {
        epoch: hers.epoch.clone(),
        revision: hers.revision,
    });
    let past = GetEntitlementsRequest {
        as_of: Some(prost_types::Timestamp::default()),
        ..ask("dev:alice", None)
    };
    let requests = vec![
        ask("dev:alice", None),
        ask(&bob.account, None),
        ask(&alice.account, Some(at_least)),
        ask("dev:nobody", None),
        ask("", None),
        ask("dev:alice", Some(Requirement::FullyConsistent(true))),
        ask("a\0b:c", None),
        past,
        ask("nonsense", None),
    ];
    // Nothing is cached at first, and everything then.
    for round in 0..2 {
        let results = batch(&world, &service, requests.clone()).await;
        let results = results.expect("answered");
        assert_eq!(results.len(), requests.len());
        for (request, result) in requests.iter().zip(&results) {
            assert_eq!(result.account, request.account, "in order");
            assert!(!result.degraded);
            let mut client = world.client_with_token(&service).await;
            let alone = client.inner.get_entitlements(request.clone());
            match (request.as_of.is_some(), alone.await) {
                (false, Ok(alone)) => {
                    assert_eq!(result.snapshot, alone.into_inner().snapshot, "{request:?}");
                    assert_eq!(result.reason, "");
                }
                (_, _) => {
                    assert_eq!(
                        (&result.snapshot, result.reason.as_str()),
                        (&None, "REQUEST_INVALID")
                    );
                    assert!(!result.message.is_empty());
                }
            }
        }
        let active = |place: usize| {
            is_active(
                results[place].snapshot.as_ref().expect("told"),
                "pro_access",
            )
        };
        assert!(active(0) && active(2) && active(5), "round {round}");
        assert!(!active(1) && !active(3) && !active(8));
    }
    for wrong in [Vec::new(), vec![ask("dev:alice", None); 201]] {
        let refused = batch(&world, &service, wrong).await.expect_err("refused");
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }
    let most = batch(&world, &service, vec![ask("dev:alice", None); 200]).await;
    assert_eq!(most.expect("answered").len(), 200);
    // What belongs to the account is shared by all apps: as for GetEntitlements.
    let key = Keys::of(&world)
        .await
        .create(api_keys::service("droid", &["example-android"]))
        .await;
    let key = key.expect("a key").secret;
    let whole = batch(&world, &key, vec![ask("dev:alice", None)])
        .await
        .expect("answered");
    assert_eq!(whole[0].snapshot, Some(hers));
    let url = format!(
        "{}/v1/entitlement:batchGetEntitlements",
        world.stack.address.server
    );
    let body = serde_json::json!({"requests": [{"account": "dev:bob"}, {"account": "dev:alice"}]});
    let answer = HTTP
        .post(url)
        .bearer_auth(&service)
        .json(&body)
        .send()
        .await
        .expect("an answer");
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    let active = &answer["results"][1]["snapshot"]["entitlements"];
    let active = active.as_array().expect("entitlements").iter();
    assert!(
        active
            .clone()
            .any(|it| it["id"] == "pro_access" && it["active"] == true),
        "{answer}"
    );
    world.stop().await;
}
