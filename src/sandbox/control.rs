//! The control API: the simulator's operations as JSON over HTTP, for command lines and scripts.

use axum::Json;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::app_store::{AppStoreBuy, AppStorePurchase, Billing};
use super::delivery::{NotificationRecord, Store, Webhooks};
use super::error::SandboxError;
use super::google_play::{GooglePlayBuy, GooglePlayPurchase};
use super::identity::IdentityToken;
use super::manifest::Manifest;
use super::period::Period;
use super::traffic::Outage;
use super::truth::PurchaseTruth;

pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/manifest", get(manifest))
        .route("/clock", get(clock))
        .route("/advance", post(advance))
        .route("/webhooks", post(webhooks))
        .route("/app-store/buy", post(app_store_buy))
        .route("/app-store/auto-renew", post(app_store_auto_renew))
        .route("/app-store/billing", post(app_store_billing))
        .route("/app-store/refund", post(app_store_refund))
        .route("/app-store/transactions/{id}", get(app_store_transaction))
        .route("/google-play/buy", post(google_play_buy))
        .route("/google-play/cancel", post(google_play_cancel))
        .route("/google-play/restore", post(google_play_restore))
        .route("/google-play/billing", post(google_play_billing))
        .route("/google-play/refund", post(google_play_refund))
        .route("/purchases", get(purchases))
        .route("/notifications", get(notifications))
        .route("/notifications/test", post(test_notification))
        .route("/notifications/hold", post(hold))
        .route("/notifications/{id}/deliver", post(deliver))
        .route("/notifications/{id}/drop", post(drop_notification))
        .route("/outage", post(outage))
        .route("/calls", get(calls))
        .route("/identity/token", post(identity_token))
        .route("/identity/rotate", post(rotate))
}

/// A refusal with its reason in words.
struct ControlError(SandboxError);

impl From<SandboxError> for ControlError {
    fn from(error: SandboxError) -> Self {
        Self(error)
    }
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            SandboxError::UnknownProduct(_)
            | SandboxError::UnknownPurchase
            | SandboxError::UnknownNotification => StatusCode::NOT_FOUND,
            SandboxError::Refused(_) => StatusCode::CONFLICT,
            SandboxError::Listen(_)
            | SandboxError::Storage(_)
            | SandboxError::Corrupt(_)
            | SandboxError::Encode(_)
            | SandboxError::Key(_)
            | SandboxError::Client(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({"error": self.0.to_string()}))).into_response()
    }
}

type Answer<T> = Result<Json<T>, ControlError>;
/// Answer of an operation that has nothing to say.
type Done = Result<StatusCode, ControlError>;

fn done(result: Result<(), SandboxError>) -> Done {
    result?;
    Ok(StatusCode::NO_CONTENT)
}

async fn manifest(State(sandbox): State<Sandbox>) -> Json<Manifest> {
    Json(sandbox.manifest())
}

async fn clock(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({"now": sandbox.now()}))
}

/// Where to move the clock.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Advance {
    To(DateTime<Utc>),
    By(Period),
}

async fn advance(State(sandbox): State<Sandbox>, Json(step): Json<Advance>) -> Answer<Value> {
    match step {
        Advance::To(target) => sandbox.advance_to(target).await?,
        Advance::By(period) => sandbox.advance(period).await?,
    }
    Ok(Json(json!({"now": sandbox.now()})))
}

async fn webhooks(State(sandbox): State<Sandbox>, Json(webhooks): Json<Webhooks>) -> Done {
    done(sandbox.set_webhooks(webhooks))
}

async fn app_store_buy(
    State(sandbox): State<Sandbox>,
    Json(buy): Json<AppStoreBuy>,
) -> Answer<AppStorePurchase> {
    Ok(Json(sandbox.buy_app_store(&buy).await?))
}

/// A chain at the App Store, and what to do to it.
#[derive(Deserialize)]
struct AutoRenew {
    original_transaction_id: String,
    enabled: bool,
}

async fn app_store_auto_renew(State(sandbox): State<Sandbox>, Json(wish): Json<AutoRenew>) -> Done {
    done(
        sandbox
            .set_auto_renew(&wish.original_transaction_id, wish.enabled)
            .await,
    )
}

#[derive(Deserialize)]
struct AppStoreBilling {
    original_transaction_id: String,
    billing: Billing,
}

async fn app_store_billing(
    State(sandbox): State<Sandbox>,
    Json(wish): Json<AppStoreBilling>,
) -> Done {
    done(
        sandbox
            .set_app_store_billing(&wish.original_transaction_id, wish.billing)
            .await,
    )
}

#[derive(Deserialize)]
struct Transaction {
    transaction_id: String,
}

async fn app_store_refund(State(sandbox): State<Sandbox>, Json(wish): Json<Transaction>) -> Done {
    done(sandbox.refund_app_store(&wish.transaction_id).await)
}

async fn app_store_transaction(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Answer<Value> {
    let signed = sandbox.signed_transaction(&id)?;
    Ok(Json(json!({"signed_transaction": signed})))
}

async fn google_play_buy(
    State(sandbox): State<Sandbox>,
    Json(buy): Json<GooglePlayBuy>,
) -> Answer<GooglePlayPurchase> {
    Ok(Json(sandbox.buy_google_play(&buy).await?))
}

#[derive(Deserialize)]
struct Token {
    purchase_token: String,
}

async fn google_play_cancel(State(sandbox): State<Sandbox>, Json(wish): Json<Token>) -> Done {
    done(sandbox.cancel_google_play(&wish.purchase_token).await)
}

async fn google_play_restore(State(sandbox): State<Sandbox>, Json(wish): Json<Token>) -> Done {
    done(sandbox.restore_google_play(&wish.purchase_token).await)
}

async fn google_play_refund(State(sandbox): State<Sandbox>, Json(wish): Json<Token>) -> Done {
    done(sandbox.refund_google_play(&wish.purchase_token).await)
}

#[derive(Deserialize)]
struct GooglePlayBilling {
    purchase_token: String,
    billing: Billing,
}

async fn google_play_billing(
    State(sandbox): State<Sandbox>,
    Json(wish): Json<GooglePlayBilling>,
) -> Done {
    done(
        sandbox
            .set_google_play_billing(&wish.purchase_token, wish.billing)
            .await,
    )
}

#[derive(Deserialize)]
struct Customer {
    customer: Option<String>,
}

async fn purchases(
    State(sandbox): State<Sandbox>,
    Query(whose): Query<Customer>,
) -> Json<Vec<PurchaseTruth>> {
    Json(match whose.customer {
        Some(customer) => sandbox.purchases(&customer),
        None => sandbox.all_purchases(),
    })
}

async fn notifications(State(sandbox): State<Sandbox>) -> Json<Vec<NotificationRecord>> {
    Json(sandbox.notifications())
}

#[derive(Deserialize)]
struct WhichStore {
    store: Store,
}

async fn test_notification(State(sandbox): State<Sandbox>, Json(which): Json<WhichStore>) -> Done {
    done(sandbox.send_test_notification(which.store).await)
}

#[derive(Deserialize)]
struct Hold {
    hold: bool,
}

async fn hold(State(sandbox): State<Sandbox>, Json(wish): Json<Hold>) -> Done {
    done(sandbox.hold_deliveries(wish.hold).await)
}

async fn deliver(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
) -> Answer<NotificationRecord> {
    Ok(Json(sandbox.deliver(&id).await?))
}

async fn drop_notification(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Done {
    done(sandbox.drop_notification(&id))
}

/// An outage to begin, or with none given, to end.
#[derive(Deserialize)]
struct WishedOutage {
    store: Store,
    #[serde(default)]
    outage: Option<Outage>,
}

async fn outage(State(sandbox): State<Sandbox>, Json(wish): Json<WishedOutage>) -> StatusCode {
    sandbox.set_outage(wish.store, wish.outage);
    StatusCode::NO_CONTENT
}

async fn calls(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!(sandbox.store_calls()))
}

async fn identity_token(
    State(sandbox): State<Sandbox>,
    Json(token): Json<IdentityToken>,
) -> Answer<Value> {
    Ok(Json(json!({"token": sandbox.identity_token(&token)?})))
}

async fn rotate(State(sandbox): State<Sandbox>) -> Done {
    done(sandbox.rotate_identity_keys())
}
