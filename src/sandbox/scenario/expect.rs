//! What every account must have at a moment, and what it is known to lack.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};

use super::time::Moment;

/// By account; an account that is not named must have nothing.
pub type Expectations = BTreeMap<String, Holdings>;

/// What one account must have, by entitlement; what is not named it must not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings(pub BTreeMap<String, Claim>);

/// What is claimed of one entitlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// On or off, and if said so, why and until when.
    Access(Access),
    /// So many of something that is counted.
    Balance(u64),
}

/// Whether something may be used, and if said so, why and until when.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// On or off, and why.
    pub is: Status,
    /// End of what was paid, or granted in grace.
    pub until: Option<Moment>,
    /// Whether the store will charge again.
    pub renews: Option<bool>,
}

/// On or off, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// On, for whatever reason.
    On,
    /// On: a paid subscription.
    Subscription,
    /// On: a free trial.
    Trial,
    /// On: unpaid, in grace.
    GracePeriod,
    /// On: bought once.
    Purchase,
    /// On: given by an operator.
    Grant,
    /// Off, for whatever reason.
    Off,
    /// Off: never had.
    Never,
    /// Off: over.
    Expired,
    /// Off: the money went back.
    Refunded,
    /// Off: taken away.
    Revoked,
    /// Off: unpaid.
    OnHold,
    /// Off: paused by the customer.
    Paused,
    /// Off: not paid yet.
    Pending,
    /// Off: moved to another account.
    Transferred,
    /// Off: purchases of that environment give nothing.
    EnvironmentNotAccepted,
    /// Shared by a family member, and the product is for its purchaser alone.
    FamilySharingRefused,
}

impl Status {
    /// Whether it means access.
    pub const fn is_on(self) -> bool {
        match self {
            Self::On
            | Self::Subscription
            | Self::Trial
            | Self::GracePeriod
            | Self::Purchase
            | Self::Grant => true,
            Self::Off
            | Self::Never
            | Self::Expired
            | Self::Refunded
            | Self::Revoked
            | Self::OnHold
            | Self::Paused
            | Self::Pending
            | Self::Transferred
            | Self::EnvironmentNotAccepted
            | Self::FamilySharingRefused => false,
        }
    }

    /// Whether `told`, which names its reason, is what this asks for.
    pub fn accepts(self, told: Self) -> bool {
        if matches!(self, Self::On | Self::Off) {
            return self.is_on() == told.is_on();
        }
        self == told
    }

    /// The word for it in a scenario.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Subscription => "subscription",
            Self::Trial => "trial",
            Self::GracePeriod => "grace_period",
            Self::Purchase => "purchase",
            Self::Grant => "grant",
            Self::Off => "off",
            Self::Never => "never",
            Self::Expired => "expired",
            Self::Refunded => "refunded",
            Self::Revoked => "revoked",
            Self::OnHold => "on_hold",
            Self::Paused => "paused",
            Self::Pending => "pending",
            Self::Transferred => "transferred",
            Self::EnvironmentNotAccepted => "environment_not_accepted",
            Self::FamilySharingRefused => "family_sharing_refused",
        }
    }
}

impl Access {
    /// Nothing said but on or off.
    pub const fn only(is: Status) -> Self {
        Self {
            is,
            until: None,
            renews: None,
        }
    }
}

/// What the server is known to lack: at one step it differs, and this names what would mend it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The step, by the name it gives itself; `end` is what is compared after the last one.
    pub step: String,
    /// Whose entitlement differs; absent where the step is no `expect`.
    pub account: Option<String>,
    /// Which one; absent: each of the account's that is expected there.
    pub entitlement: Option<String>,
    /// What the server would need.
    pub needs: String,
}

impl<'de> Deserialize<'de> for Holdings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Holdings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entitlements, or a table from entitlement to status")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Holdings, A::Error> {
                let names = Vec::<String>::deserialize(SeqAccessDeserializer::new(seq))?;
                let on = |name| (name, Claim::Access(Access::only(Status::On)));
                Ok(Holdings(names.into_iter().map(on).collect()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Holdings, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(Holdings)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Claim;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as \"subscription\", a table with `is`, or a number")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Claim, E> {
                let word = serde::de::value::StrDeserializer::new(word);
                Status::deserialize(word).map(|is| Claim::Access(Access::only(is)))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Claim, E> {
                let count = u64::try_from(count);
                count
                    .map(Claim::Balance)
                    .map_err(|_| E::custom("nobody has less than none"))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Claim, A::Error> {
                Access::deserialize(MapAccessDeserializer::new(map)).map(Claim::Access)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
