//! Purchase chains and the store ids they are known by.

use serde::{Deserialize, Serialize};

use super::provider::Provider;

/// Google's have two dozen.
const ORDER_ID_BYTES_MAX: usize = 128;

/// The catalog's id of an app (`example-ios`): which store account and bundle a purchase is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AppId(pub(crate) String);

impl std::fmt::Display for AppId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of store id an alias is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AliasKind {
    /// Apple: stable over renewals, lapses and product changes of a group.
    OriginalTransactionId,
    /// Google: one per sign-up or plan change.
    PurchaseToken,
    /// Google: the order id without its renewal suffix.
    OrderId,
}

impl AliasKind {
    const ALL: [Self; 3] = [
        Self::OriginalTransactionId,
        Self::PurchaseToken,
        Self::OrderId,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OriginalTransactionId => "original_transaction_id",
            Self::PurchaseToken => "purchase_token",
            Self::OrderId => "order_id",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Google's order id without the suffix that renewals add: `GPA.1234-…..3` is of `GPA.1234-…`.
pub(crate) fn base_order_id(order_id: &str) -> &str {
    order_id.split_once("..").map_or(order_id, |(base, _)| base)
}

/// What a further line of an order is called; the first has the order's own name.
pub(crate) fn further_line(order_id: &str, product_id: &str) -> String {
    format!("{order_id}/{product_id}")
}

/// Whether a charge or a line is of that order, whichever line of it.
pub(crate) fn is_of_order(name: &str, order_id: &str) -> bool {
    let rest = name.strip_prefix(order_id);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a text may be an order id: Google's have letters, digits, `-` and `.`.
pub(crate) fn is_order_id(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=ORDER_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(letter)
}

/// A store id of a chain: unique per (provider, app, kind, value).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Alias {
    pub(crate) provider: Provider,
    pub(crate) app: AppId,
    pub(crate) kind: AliasKind,
    pub(crate) value: String,
}

/// Purchase tokens are bearer secrets: only their length reaches a log.
impl std::fmt::Debug for Alias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            provider,
            app,
            kind,
            value,
        } = self;
        write!(f, "{provider}/{app}/{}/", kind.as_str())?;
        match kind {
            AliasKind::PurchaseToken => write!(f, "<{} bytes>", value.len()),
            AliasKind::OriginalTransactionId | AliasKind::OrderId => f.write_str(value),
        }
    }
}

/// What the store sells under one key; Google's has a base plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct StoreProduct {
    pub(crate) product_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_plan_id: Option<String>,
}

impl StoreProduct {
    pub(crate) fn new(product_id: impl Into<String>) -> Self {
        Self {
            product_id: product_id.into(),
            base_plan_id: None,
        }
    }
}

impl std::fmt::Display for StoreProduct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.base_plan_id {
            Some(plan) => write!(f, "{}:{plan}", self.product_id),
            None => f.write_str(&self.product_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ids_are_plain_words() {
        for id in [
            "GPA.3345-1234-5678-90123",
            "GPA.3345-1234-5678-90123..12",
            "12999763169054705758.1375794066587622",
        ] {
            assert!(is_order_id(id), "{id}");
        }
        let long = "G".repeat(ORDER_ID_BYTES_MAX + 1);
        for text in ["", "GPA.\u{0}", "GPA 1", "GPA/../1", "GPA.１", &long] {
            assert!(!is_order_id(text), "{text:?}");
        }
    }
}
