//! Superwall's JSON, as far as anything here reads it: the published shape and the newer one, whose
//! fields beyond it are not public.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Fields of `data` that are about people. `originalAppUserId` and `aliases` are what an app calls
/// its users: an e-mail address, often.
const PERSONAL_FIELDS: [&str; 4] = [
    "userAttributes",
    "checkoutContext",
    "originalAppUserId",
    "aliases",
];

/// A webhook's body.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(rename = "type", default, deserialize_with = "text")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) data: Option<Data>,
}

/// What names the purchase; everything else is the store's to say.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Data {
    #[serde(deserialize_with = "text")]
    pub(super) name: Option<String>,
    /// `APP_STORE`, `PLAY_STORE`; `STRIPE`, `PADDLE` are not read.
    #[serde(deserialize_with = "text")]
    pub(super) store: Option<String>,
    /// Bundle id or package name.
    #[serde(deserialize_with = "text")]
    pub(super) bundle_id: Option<String>,
    /// Apple's; at Google Play the first order's id.
    #[serde(deserialize_with = "text")]
    pub(super) original_transaction_id: Option<String>,
    /// Apple's; at Google Play the order's id, `GPA.…..N` for renewals.
    #[serde(deserialize_with = "text")]
    pub(super) transaction_id: Option<String>,
    /// When it happened, in milliseconds since 1970.
    #[serde(deserialize_with = "millis")]
    pub(super) ts: Option<i64>,
}

/// A field of another type than expected is as good as none: the newer shape is not public.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    })
}

fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(Value::deserialize(deserializer)?.as_i64())
}

/// The body without what it says of people; a body that is not understood stays as it is.
pub(super) fn redact(body: &[u8]) -> Cow<'_, [u8]> {
    let Ok(mut message) = serde_json::from_slice::<Value>(body) else {
        return Cow::Borrowed(body);
    };
    let mut removed = false;
    let data = message.get_mut("data").and_then(Value::as_object_mut);
    if let Some(data) = data {
        for field in PERSONAL_FIELDS {
            removed |= data.remove(field).is_some_and(|value| !value.is_null());
        }
    }
    match removed {
        true => Cow::Owned(message.to_string().into_bytes()),
        false => Cow::Borrowed(body),
    }
}
