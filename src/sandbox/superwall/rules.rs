//! How Superwall's webhook is set up, and what Superwall knows of the customers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Settings of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuperwallRules {
    /// Which shape the webhooks have.
    pub version: SuperwallVersion,
    /// Who the customers are to Superwall. In its sandbox Google Play tells nobody, whatever is
    /// set here.
    pub identity: SuperwallIdentity,
}

/// The shape of Superwall's webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuperwallVersion {
    /// Of webhooks made long ago: the event alone.
    Legacy,
    /// The event with the subscription's state, the customer's aliases and attributes.
    #[default]
    V2,
}

impl SuperwallVersion {
    pub(in crate::sandbox) const fn number(self) -> u8 {
        match self {
            Self::Legacy => 1,
            Self::V2 => 2,
        }
    }
}

/// What Superwall calls a customer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuperwallIdentity {
    /// The app's own user id: the customer's name, unless the app has said another.
    #[default]
    AppUser,
    /// A made-up alias: the app has not said who the user is.
    Alias,
    /// Nothing: `originalAppUserId` is null.
    None,
}

/// What Superwall remembers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::sandbox) struct Superwall {
    /// The app's user id of each customer that has one of its own.
    pub(in crate::sandbox) users: BTreeMap<String, String>,
}
