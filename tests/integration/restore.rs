//! RestorePurchases and PreflightPurchase: one answer for each proof, what an app may know before a
//! purchase, and the stories of people who change phones.

mod attacks;
mod one_call;
mod preflight;

use entitled::proto::preflight_purchase_request::About;
use entitled::proto::purchase_proof::Proof;
use entitled::proto::{
    AppStoreProof, BindOutcome, ClientAction, PreflightPurchaseResponse, PurchaseProof,
    RestorePurchasesResponse, RestoredPurchase, app_store_proof,
};
use tonic::Status;

use crate::scene::Person;

pub fn signed(jws: &str) -> Proof {
    let proof = app_store_proof::Proof::SignedTransaction(jws.to_owned());
    Proof::AppStore(AppStoreProof { proof: Some(proof) })
}

impl Person {
    pub async fn restore(&self, proofs: Vec<Proof>) -> RestorePurchasesResponse {
        let sent = proofs.len();
        let answer = self.client.clone().restore(proofs).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.purchases.len(), sent, "one outcome for each proof");
        answer
    }
}

impl Person {
    pub async fn preflight(&self, proof: Proof) -> Result<PreflightPurchaseResponse, Status> {
        let about = About::Proof(PurchaseProof { proof: Some(proof) });
        self.client.clone().preflight(about).await
    }

    pub async fn before_buying(&self, product: &str) -> PreflightPurchaseResponse {
        let about = About::Product(product.to_owned());
        self.client.clone().preflight(about).await.expect("told")
    }
}

/// What is told of each proof: the outcome, or the reason of its refusal. Each names the action
/// that belongs to it.
pub fn told(answer: &RestorePurchasesResponse) -> Vec<String> {
    answer.purchases.iter().map(one).collect()
}

fn one(purchase: &RestoredPurchase) -> String {
    if purchase.outcome() == BindOutcome::Unspecified {
        assert!(!purchase.message.is_empty(), "{purchase:?}");
        assert_ne!(purchase.client_action(), ClientAction::Finish);
        assert_ne!(purchase.client_action(), ClientAction::Unspecified);
        return purchase.reason.clone();
    }
    assert_eq!(purchase.client_action(), ClientAction::Finish);
    assert_eq!((purchase.reason.as_str(), purchase.retry_after), ("", None));
    let name = purchase.outcome().as_str_name();
    name.trim_start_matches("BIND_OUTCOME_").to_owned()
}
