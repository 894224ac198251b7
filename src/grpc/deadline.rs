//! How long a call may take: what its caller says, at most what the listener allows.

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, Response};
use tonic::Status;
use tonic::body::Body;

/// gRPC's own limit on the digits of a time-out.
const DIGITS_MAX: usize = 8;

/// The caller's `grpc-timeout`; none if there is none that can be read.
pub(super) fn told(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let unit = text.chars().last()?;
    let count = text.strip_suffix(unit)?;
    let digits = count.bytes().all(|byte| byte.is_ascii_digit());
    if count.len() > DIGITS_MAX || !digits {
        return None;
    }
    let count: u64 = count.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3_600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// What `call` answers in time. A stream has begun by then; its messages take as long as they do.
pub(super) async fn within<E>(
    time: Duration,
    call: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    tokio::time::timeout(time, call).await.unwrap_or_else(|_| {
        let late = "no answer within the time that the caller, or the server, gives it";
        Ok(Status::deadline_exceeded(late).into_http())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_callers_time_is_read_as_grpc_writes_it() {
        for (text, expected) in [
            ("2H", Some(Duration::from_secs(7_200))),
            ("3M", Some(Duration::from_secs(180))),
            ("5S", Some(Duration::from_secs(5))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("100000000n", None),
            ("+5S", None),
            ("S", None),
            ("5", None),
            ("5x", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            assert_eq!(told(&headers), expected, "{text}");
        }
        assert_eq!(told(&HeaderMap::new()), None);
    }
}
