//! Taking requests apart: JSON bodies, query parameters, `{id}:{verb}` path segments.

use axum::body::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;

use super::error::{GoogleError, NO_METHOD, invalid};

/// Query parameters, repeated ones in their order. Unknown ones are the client library's own
/// (`alt`, `key`, `prettyPrint`, …) and do nothing.
pub(super) type Parameters = Vec<(String, String)>;

/// The last value of a parameter.
pub(super) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    let found = parameters.iter().rfind(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

/// A number, if there is one.
pub(super) fn number<T: std::str::FromStr>(
    parameters: &Parameters,
    name: &str,
) -> Result<Option<T>, GoogleError> {
    parameter(parameters, name)
        .map(|value| {
            let wrong = |_| invalid(format!("Invalid value at '{name}', \"{value}\""));
            value.parse().map_err(wrong)
        })
        .transpose()
}

/// A truth value; absent is false.
pub(super) fn flag(parameters: &Parameters, name: &str) -> Result<bool, GoogleError> {
    match parameter(parameters, name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(value) => Err(invalid(format!(
            "Invalid value at '{name}' (TYPE_BOOL), \"{value}\""
        ))),
    }
}

/// A moment in milliseconds since 1970.
pub(super) fn moment(
    parameters: &Parameters,
    name: &str,
) -> Result<Option<DateTime<Utc>>, GoogleError> {
    let millis: Option<i64> = number(parameters, name)?;
    millis
        .map(|millis| {
            let at = DateTime::from_timestamp_millis(millis);
            at.ok_or_else(|| invalid(format!("Invalid value at '{name}', \"{millis}\"")))
        })
        .transpose()
}

/// A JSON body; none at all is an empty message, and unknown fields are refused.
pub(super) fn body<T: DeserializeOwned>(body: &Bytes) -> Result<T, GoogleError> {
    let text: &[u8] = match body.trim_ascii() {
        b"" | b"null" => b"{}",
        text => text,
    };
    serde_json::from_slice(text)
        .map_err(|error| invalid(format!("Invalid JSON payload received. {error}")))
}

/// A protobuf duration, `"86400s"` with up to nine decimals.
pub(super) fn duration(text: &str) -> Option<TimeDelta> {
    let number = text.strip_suffix('s')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let nanos: i64 = format!("{part:0<9}").parse().ok()?;
    let whole = TimeDelta::try_seconds(whole.parse().ok()?)?;
    whole.checked_add(&TimeDelta::nanoseconds(nanos))
}

/// `{id}:{verb}` apart.
pub(super) fn verb(segment: &str) -> Result<(&str, &str), GoogleError> {
    segment.rsplit_once(':').ok_or(NO_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_or_broken_seconds() {
        assert_eq!(duration("86400s"), Some(TimeDelta::days(1)));
        assert_eq!(duration("0.5s"), Some(TimeDelta::milliseconds(500)));
        for wrong in [
            "",
            "s",
            "1",
            "-1s",
            "1.s0",
            "P1D",
            "1.0000000001s",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
