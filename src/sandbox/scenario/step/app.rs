//! What the app does, and what its accounts must have.

use serde::Deserialize;

use super::super::expect::Expectations;
use super::super::time::Length;

/// The app hands a purchase to the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// The purchase.
    pub bind: String,
    /// The account that is signed in, if not the customer's own.
    pub account: Option<String>,
    /// Whose names the app has for it.
    #[serde(default)]
    pub via: Via,
    /// App Store: the bare transaction id instead of the signed transaction.
    #[serde(default)]
    pub bare_id: bool,
    /// Superwall: the ids of this purchase beside the proof of the bound one.
    pub ids_of: Option<String>,
    /// What the server is to answer.
    #[serde(default)]
    pub outcome: Outcome,
    /// The reason with which the server is to refuse; what it answers then has no outcome.
    pub refused: Option<String>,
}

/// Whose names an app has for a purchase that it hands over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// The store's.
    #[default]
    Store,
    /// Superwall's: ids, and beside them what the store has given the app.
    Superwall,
}

/// What a server answers to a bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The purchase is the account's, newly or already.
    #[default]
    Yours,
    /// Newly.
    Bound,
    /// It was before.
    AlreadyYours,
    /// It will be once it is paid.
    Pending,
    /// It is, and gives nothing now.
    WithoutAccess,
}

/// Somebody restores purchases: the app hands over everything that the store customer has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The store customer of the device.
    pub restore: String,
    /// The account that is signed in, if not the customer's own.
    pub account: Option<String>,
    /// What the server is to answer to each.
    #[serde(default)]
    pub outcome: Outcome,
    /// The reason with which the server is to refuse each.
    pub refused: Option<String>,
}

/// The app asks what a purchase is to whoever is signed in, and does nothing with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preflight {
    /// The purchase.
    pub preflight: String,
    /// The account that is signed in, if not the customer's own.
    pub account: Option<String>,
    /// App Store: the bare transaction id instead of the signed transaction.
    #[serde(default)]
    pub bare_id: bool,
    /// What the server is to say; nothing where it is to refuse.
    pub says: Option<Standing>,
    /// A bind would take the purchase from its owner.
    #[serde(default)]
    pub moves: bool,
    /// The reason with which the server is to refuse.
    pub refused: Option<String>,
}

/// The app asks, before it shows a paywall, whether the account has what a product gives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paywall {
    /// The product.
    pub paywall: String,
    /// The store customer of the device.
    pub by: String,
    /// The account that is signed in, if not the customer's own.
    pub account: Option<String>,
    /// What the server is to say.
    pub says: Standing,
    /// The products by which the account has it already, in order.
    #[serde(default)]
    pub held: Vec<String>,
}

/// What a purchase, or a product, is to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody's yet; nothing of what the product gives.
    New,
    /// The account's.
    Yours,
    /// Another account's.
    OwnedByOther,
    /// The account has what the product gives.
    AlreadySubscribed,
}

/// From now on somebody is signed in to an account on a customer's devices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The store customer of the devices.
    pub sign_in: String,
    /// The account.
    #[serde(rename = "as")]
    pub account: String,
}

/// The app is installed anew on a customer's device, and nobody signs in: it has a new anonymous
/// account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reinstall {
    /// The store customer of the device.
    pub reinstall: String,
    /// The account, one of the scenario's `anonymous` ones.
    #[serde(rename = "as")]
    pub account: String,
}

/// Whoever was nobody signs in, and the app tells the server with both credentials: two accounts
/// become one, and the first is there no more.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The account, one of the scenario's `anonymous` ones.
    pub link: String,
    /// The account that stays; from now on it is signed in wherever the other one was.
    pub to: String,
    /// What the server is to answer: `bound`, or `already_yours` to a link that was made before.
    #[serde(default)]
    pub outcome: Outcome,
    /// The reason with which the server is to refuse; then nothing is linked.
    pub refused: Option<String>,
}

/// What every account must have now.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// By account; who is not named must have nothing.
    pub expect: Expectations,
    /// Why the server cannot know the truth at this moment; the run fails if it does.
    pub behind: Option<String>,
    /// Machine time that the server may take, where it waits by the machine's clock: before it
    /// asks a store again that did not answer, for instance.
    pub within: Option<Length>,
}
