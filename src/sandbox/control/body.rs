//! What comes in: JSON bodies and query strings, refused with a reason in words.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;

/// A JSON body; none at all, and `null`, stand for an object without fields.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|_| Problem::too_long())?;
        let empty = matches!(bytes.trim_ascii(), b"" | b"null");
        serde_json::from_slice(if empty { b"{}" } else { &bytes })
            .map(Self)
            .map_err(|error| Problem::malformed(error.to_string()))
    }
}

/// The fields of a query string.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(value)| Self(value))
            .map_err(|error| Problem::malformed(error.body_text()))
    }
}

/// An action from its verb in the path and its fields in the body.
pub(super) fn action<T: DeserializeOwned>(verb: &str, fields: Value) -> Result<T, Problem> {
    let Value::Object(mut fields) = fields else {
        return Err(Problem::malformed("the body is not a JSON object"));
    };
    if fields.contains_key("do") {
        return Err(Problem::malformed(
            "unknown field `do`: the verb stands in the path",
        ));
    }
    fields.insert("do".to_owned(), Value::from(verb.replace('-', "_")));
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| Problem::malformed(error.to_string()))
}
