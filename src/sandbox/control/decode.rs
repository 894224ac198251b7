//! Opens what the stores send so that a person can read it: signed documents become their payloads,
//! base64 becomes the JSON inside. Nothing is verified here.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// Documents lie in documents, but not deeper than this.
const DEPTH_MAX: usize = 8;

/// The body as sent, with every signed document and every base64 JSON in it opened.
pub(super) fn body(text: &str) -> Value {
    let sent = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    opened(sent, DEPTH_MAX)
}

fn opened(value: Value, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else {
        return value;
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(fields.map(|(k, v)| (k, opened(v, depth))).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| opened(item, depth)).collect(),
        Value::String(text) => match jws(&text).or_else(|| base64_json(&text)) {
            Some(inside) => opened(inside, depth),
            None => Value::String(text),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// A compact signed document as `{"header", "payload"}`; the certificates in its header are only
/// counted.
fn jws(text: &str) -> Option<Value> {
    let (header, rest) = text.split_once('.')?;
    let (payload, _signature) = rest.split_once('.')?;
    let part = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let mut header = part(header).filter(Value::is_object)?;
    if let Some(chain) = header.get("x5c").and_then(Value::as_array).map(Vec::len) {
        header["x5c"] = Value::from(format!("{chain} certificates"));
    }
    let mut document = Map::new();
    document.insert("header".to_owned(), header);
    document.insert("payload".to_owned(), part(payload)?);
    Some(Value::Object(document))
}

fn base64_json(text: &str) -> Option<Value> {
    let bytes = STANDARD.decode(text).ok()?;
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    value.is_object().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_in_documents_are_opened_and_all_else_is_left_alone() {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let inner = format!(
            "{}.{}.c2ln",
            part(json!({"alg": "ES256", "x5c": ["a", "b", "c"]})),
            part(json!({"transactionId": "1"}))
        );
        let outer = format!(
            "{}.{}.c2ln",
            part(json!({"alg": "ES256"})),
            part(json!({"signedTransactionInfo": inner}))
        );
        let shown = body(&json!({"signedPayload": outer}).to_string());
        let transaction = &shown["signedPayload"]["payload"]["signedTransactionInfo"];
        assert_eq!(transaction["payload"]["transactionId"], "1");
        assert_eq!(transaction["header"]["x5c"], "3 certificates");

        let data = STANDARD.encode(json!({"packageName": "com.example"}).to_string());
        let sent = json!({"message": {"data": data, "messageId": "12.34.56"}, "n": [1, null]});
        let shown = body(&sent.to_string());
        assert_eq!(shown["message"]["data"]["packageName"], "com.example");
        assert_eq!(shown["message"]["messageId"], "12.34.56");
        assert_eq!(shown["n"], json!([1, null]));
        assert_eq!(body("not JSON"), "not JSON");
    }
}
