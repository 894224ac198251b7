//! Nobody here needs the customer's name, address or words, so they are never kept.

use bytes::Bytes;
use serde_json::Value;

const PERSONAL_FIELDS: [&str; 5] = [
    "subscribeWithGoogleInfo",
    "buyerAddress",
    "reasonUserInput",
    // A profile of the app's customer: a person of the household, of whom nothing is asked here.
    "obfuscatedExternalProfileId",
    "obfuscatedProfileId",
];

/// The document without personal data; untouched where there is none.
pub(super) fn document(body: Bytes) -> Bytes {
    let Ok(mut document) = serde_json::from_slice(&body) else {
        return body;
    };
    match strip(&mut document) {
        true => Bytes::from(document.to_string()),
        false => body,
    }
}

/// Tells whether anything was taken out.
pub(super) fn strip(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            let before = fields.len();
            fields.retain(|name, _| !PERSONAL_FIELDS.contains(&name.as_str()));
            let here = fields.len() < before;
            fields
                .values_mut()
                .fold(here, |found, value| strip(value) | found)
        }
        Value::Array(values) => values
            .iter_mut()
            .fold(false, |found, value| strip(value) | found),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn personal_data_is_taken_out_wherever_it_is() {
        let order = json!({"orders": [{"orderId": "GPA.1", "buyerAddress": {"street": "secret"},
            "more": {"subscribeWithGoogleInfo": {"emailAddress": "secret"}, "kept": 1}}],
            "canceledStateContext": {"userInitiatedCancellation": {"cancelSurveyResult":
                {"reason": "OTHERS", "reasonUserInput": "secret"}}}});
        let kept = document(Bytes::from(order.to_string()));
        let text = String::from_utf8(kept.to_vec()).unwrap();
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("OTHERS") && text.contains("kept"), "{text}");
        let untouched = Bytes::from_static(b" {\"a\" : 1}");
        assert_eq!(document(untouched.clone()), untouched);
        assert_eq!(document(Bytes::from_static(b"nonsense")), "nonsense");
    }
}
