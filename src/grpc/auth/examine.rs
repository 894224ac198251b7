//! Whether the identity providers' keys can be had: for whoever sets the server up.

use super::Authenticator;

/// What is known of one issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Examined {
    /// Its configured short name.
    pub(crate) name: String,
    /// How many usable keys it publishes, or why they cannot be had.
    pub(crate) keys: Result<usize, String>,
}

impl Authenticator {
    /// Fetches every key set now, and says what came of it.
    pub(crate) async fn examine(&self) -> Vec<Examined> {
        let looks = self.issuers.values().map(|issuer| async {
            Examined {
                name: issuer.name.to_string(),
                keys: issuer.keys.examine().await,
            }
        });
        let mut examined = futures::future::join_all(looks).await;
        examined.sort_by(|a, b| a.name.cmp(&b.name));
        examined
    }
}
