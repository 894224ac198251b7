//! The control API: the same operations over HTTP.

use super::*;

impl Rig {
    pub(super) async fn control(&self, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.sandbox.manifest().control_url);
        answer_of(self.http.post(url).json(&body)).await
    }

    pub(super) async fn look(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.sandbox.manifest().control_url);
        answer_of(self.http.get(url)).await.1
    }
}

#[tokio::test]
async fn a_story_can_be_told_over_http() {
    let rig = Rig::start().await;
    let buy = json!({"customer": "alice", "product_id": MONTHLY});
    let (status, apple) = rig.control("/app-store/buy", buy.clone()).await;
    assert_eq!(status, 200);
    let id = &apple["original_transaction_id"];
    assert_eq!(rig.control("/app-store/buy", buy).await.0, 409);
    assert_eq!(
        rig.control(
            "/app-store/buy",
            json!({"customer": "a", "product_id": "x"})
        )
        .await
        .0,
        404
    );
    let signed = rig
        .look(&format!("/app-store/transactions/{}", id.as_str().unwrap()))
        .await;
    assert!(signed["signed_transaction"].is_string());

    let (_, now) = rig.control("/advance", json!({"by": "P1M"})).await;
    assert_eq!(now, rig.look("/clock").await);
    let wish = json!({"original_transaction_id": id, "billing": "fails"});
    assert_eq!(rig.control("/app-store/billing", wish).await.0, 204);
    let wish = json!({"original_transaction_id": id, "enabled": false});
    assert_eq!(rig.control("/app-store/auto-renew", wish).await.0, 204);
    let latest = rig.truth("alice").latest_transaction;
    assert_eq!(
        rig.control("/app-store/refund", json!({"transaction_id": latest}))
            .await
            .0,
        204
    );

    let buy = json!({"customer": "bob", "product_id": "premium", "base_plan_id": "yearly"});
    let (_, google) = rig.control("/google-play/buy", buy).await;
    let token = json!({"purchase_token": google["purchase_token"]});
    assert_eq!(
        rig.control("/google-play/cancel", token.clone()).await.0,
        204
    );
    assert_eq!(
        rig.control("/google-play/restore", token.clone()).await.0,
        204
    );
    assert_eq!(
        rig.control("/google-play/restore", token.clone()).await.0,
        409
    );
    assert_eq!(rig.control("/google-play/refund", token).await.0, 204);
    let owned = rig.look("/purchases?customer=bob").await;
    assert_eq!(owned[0]["state"], "revoked");
    assert_eq!(rig.look("/purchases").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn deliveries_outages_and_credentials_are_driven_over_http() {
    let rig = Rig::start().await;
    assert_eq!(
        rig.control("/notifications/hold", json!({"hold": true}))
            .await
            .0,
        204
    );
    assert_eq!(
        rig.control("/notifications/test", json!({"store": "google_play"}))
            .await
            .0,
        204
    );
    let held = rig.look("/notifications").await;
    assert_eq!(held[0]["state"], "held");
    let id = held[0]["id"].as_str().unwrap();
    let (_, record) = rig
        .control(&format!("/notifications/{id}/deliver"), Value::Null)
        .await;
    assert_eq!(record["attempts"][0]["result"], "SUCCESS");
    assert_eq!(
        rig.control(&format!("/notifications/{id}/drop"), Value::Null)
            .await
            .0,
        204
    );
    assert_eq!(
        rig.control("/notifications/none/drop", Value::Null).await.0,
        404
    );

    let outage = json!({"store": "app_store", "outage": "down503"});
    assert_eq!(rig.control("/outage", outage).await.0, 204);
    assert_eq!(rig.apple("/inApps/v1/transactions/1").await.0, 503);
    assert_eq!(
        rig.control("/outage", json!({"store": "app_store"}))
            .await
            .0,
        204
    );
    assert_eq!(rig.apple("/inApps/v1/transactions/1").await.0, 404);
    assert_eq!(rig.look("/calls").await["counts"]["apple_transaction"], 2);

    let wish = json!({"subject": "alice", "algorithm": "EdDSA"});
    let (_, token) = rig.control("/identity/token", wish).await;
    assert_eq!(signed(&token["token"])["sub"], "alice");
    assert_eq!(rig.control("/identity/rotate", Value::Null).await.0, 204);
    assert_eq!(rig.look("/manifest").await["bundle_id"], "com.example.app");
    assert_eq!(rig.control("/webhooks", json!({})).await.0, 204);
}
