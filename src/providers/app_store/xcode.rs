//! StoreKit testing in Xcode, for development only: no store knows these purchases, so what the
//! app shows is all there is. Every transaction that verifies is kept in a folder, and the newest
//! of a purchase is its state.
//!
//! The ids are in a space of their own (`verify::pinned`), so these purchases meet no others.

use std::path::PathBuf;

use bytes::Bytes;

use super::binding;
use super::normalize;
use super::verify::pinned::{Pinned, SPACE};
use super::verify::{Verified, VerifyError};
use super::wire::Transaction;
use super::{SetupError, read};
use crate::config::app_store::XcodeConfig;
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::ownership::Possession;
use crate::domain::provider::Environment;
use crate::domain::reconcile::Answer;
use crate::domain::time::Instant;
use crate::providers::contract::{FetchError, ProofError, Proven, StoreAnswer};

/// What an answer of the folder is called.
const CALL: &str = "xcode/transaction";
const NOT_PINNED: &str = "it is not signed by the pinned certificate; in Xcode open the StoreKit \
    configuration, choose Editor → Save Public Certificate, and start with --xcode-cert FILE";

/// Transactions of one Xcode.
pub(super) struct Xcode {
    pinned: Pinned,
    documents: PathBuf,
}

/// Whether a chain is of Xcode's.
pub(super) fn is_ours(head: &Alias) -> bool {
    head.value.starts_with(SPACE)
}

impl Xcode {
    pub(super) fn new(config: &XcodeConfig) -> Result<Self, SetupError> {
        Ok(Self {
            pinned: Pinned::new(read(&config.certificate)?).map_err(SetupError::Xcode)?,
            documents: config.documents.clone(),
        })
    }

    /// Whether a proof is for this, and not for Apple's chain.
    pub(super) fn is_meant(jws: &str) -> bool {
        Pinned::is_meant(jws)
    }

    /// A transaction that the pinned certificate signed; kept, for it is all that can be read.
    pub(super) fn proof(
        &self,
        jws: &str,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Proven, ProofError> {
        let document = self.pinned.verify(jws, now).map_err(|error| {
            if error == VerifyError::NotPinned {
                ProofError::Invalid(NOT_PINNED.to_owned())
            } else {
                error.into()
            }
        })?;
        let payload = document.payload();
        let app = binding::app(catalog, &payload.bundle_id, Environment::Sandbox)?;
        self.keep(jws, &document, now)
            .map_err(|_| ProofError::Unavailable)?;
        let alias = binding::alias(app.id.clone(), payload.original_transaction_id.clone());
        let account_token = payload.app_account_token.clone();
        let possession = Possession::Signed {
            at: document.signed_at(),
            shown_at: now,
        };
        let head = alias.clone();
        Ok(Proven {
            alias,
            // Says whether it is news: a renewal, a refund.
            stand_in: Some(normalize::alone(head, Environment::Sandbox, document, now)),
            account_token,
            possession,
        })
    }

    /// Each transaction once, as it was signed last.
    fn keep(
        &self,
        jws: &str,
        document: &Verified<Transaction>,
        now: Instant,
    ) -> std::io::Result<()> {
        let payload = document.payload();
        let folder = self
            .documents
            .join(file_name(&payload.original_transaction_id));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(file_name(&payload.transaction_id));
        let known = std::fs::read_to_string(&file).ok();
        let known = known.and_then(|jws| self.pinned.verify(&jws, now).ok());
        if known.is_some_and(|known| known.signed_at() >= document.signed_at()) {
            return Ok(());
        }
        // Whole or not at all: another read may come in between.
        let whole = folder.join(format!("{}.new", uuid::Uuid::new_v4()));
        std::fs::write(&whole, jws)?;
        std::fs::rename(whole, file)
    }

    /// All that was ever shown of a purchase. Asks nobody.
    pub(super) fn fetch(&self, head: &Alias) -> Result<Vec<StoreAnswer>, FetchError> {
        let folder = self.documents.join(file_name(&head.value));
        let gone = |_| FetchError::Refused("its transactions are not kept any more".to_owned());
        let mut answers = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(gone)? {
            let path = entry.map_err(gone)?.path();
            if path.extension().is_none() {
                answers.push(StoreAnswer {
                    call: CALL.to_owned(),
                    status: 200,
                    body: Bytes::from(std::fs::read(path).map_err(gone)?),
                });
            }
        }
        Ok(answers)
    }

    /// The newest period decides; each is a row of its own in the books.
    pub(super) fn normalize(
        &self,
        head: &Alias,
        answers: &[StoreAnswer],
        fetched_at: Instant,
    ) -> Result<Answer, FetchError> {
        let mut documents = Vec::new();
        for answer in answers.iter().filter(|answer| answer.call == CALL) {
            let jws = String::from_utf8_lossy(&answer.body);
            let document = self
                .pinned
                .verify(&jws, fetched_at)
                .map_err(|error| FetchError::Unreadable(error.to_string()))?;
            if document.payload().original_transaction_id != head.value {
                return Err(FetchError::Unreadable(
                    "it is of another purchase".to_owned(),
                ));
            }
            documents.push(document);
        }
        documents.sort_by_key(|it| (it.payload().purchase_date, it.signed_at()));
        let Some(newest) = documents.pop() else {
            return Ok(Answer::NotFound);
        };
        let head = head.clone();
        let state = normalize::together(head, Environment::Sandbox, newest, documents, fetched_at);
        Ok(Answer::Store(state))
    }
}

/// An id as a name in a folder: without its slashes, and never with a dot.
fn file_name(id: &str) -> String {
    id.replace('/', "-").replace('.', "_")
}
