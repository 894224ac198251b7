//! What can go wrong in the simulator itself; what a store would answer is no error but an answer.

/// Why the simulator refused or failed. Never carries a token, a signed document or a key.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address could not be listened on, or the listener broke.
    #[error("cannot listen: {0}")]
    Listen(std::io::Error),
    /// The state directory could not be read or written.
    #[error("cannot keep state on disk: {0}")]
    Storage(std::io::Error),
    /// A file in the state directory is not what this version wrote.
    #[error("{file} is not what this version keeps ({cause}); move it away to begin without it")]
    Corrupt {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// Another simulator keeps its state in the directory.
    #[error("another simulator is using {0}; stop it, or name another directory")]
    InUse(String),
    /// A document of the simulator's own could not be encoded.
    #[error("cannot encode a document: {0}")]
    Encode(serde_json::Error),
    /// A key or certificate could not be made, read or used.
    #[error("key or certificate: {0}")]
    Key(String),
    /// The HTTP client that delivers notifications could not be built.
    #[error("cannot build the delivery client: {0}")]
    Client(reqwest::Error),
    /// The store's catalogue holds no such product, or not as that kind.
    #[error("the store sells no product {0} of that kind")]
    UnknownProduct(String),
    /// No purchase is known by that id or token.
    #[error("no such purchase")]
    UnknownPurchase,
    /// No notification is known by that id.
    #[error("no such notification")]
    UnknownNotification,
    /// The clock was to be moved beyond the dates that documents can carry.
    #[error("the stores' calendar ends with the year 9999")]
    BeyondCalendar,
    /// The store would not let the customer do this; the reason says why.
    #[error("the store refuses: {0}")]
    Refused(&'static str),
}

impl From<rcgen::Error> for SandboxError {
    fn from(error: rcgen::Error) -> Self {
        Self::Key(error.to_string())
    }
}

impl From<aws_lc_rs::error::Unspecified> for SandboxError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Key("the key could not be used".to_owned())
    }
}

impl From<aws_lc_rs::error::KeyRejected> for SandboxError {
    fn from(error: aws_lc_rs::error::KeyRejected) -> Self {
        Self::Key(error.to_string())
    }
}

impl From<der::Error> for SandboxError {
    fn from(error: der::Error) -> Self {
        Self::Key(error.to_string())
    }
}
