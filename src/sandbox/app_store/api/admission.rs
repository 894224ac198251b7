//! What every call passes before it is answered: outages, the caller's token, Apple's rate limits.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};

use super::super::super::inner::Inner;
use super::super::super::jws::machine_seconds;
use super::super::super::limits::Limit;
use super::super::super::setup::Environment;
use super::super::super::traffic::Endpoint;
use super::super::auth::Expected;
use super::error::AppleError;

const HOUR: Duration = Duration::from_secs(3_600);

type Windows = &'static [(usize, Duration)];

/// Apple names calls per second, and counts them over an hour.
const FIFTY: Windows = &[(50 * 3_600, HOUR)];
const TWENTY: Windows = &[(20 * 3_600, HOUR)];
const TEN: Windows = &[(10 * 3_600, HOUR)];
const ONE: Windows = &[(3_600, HOUR)];
/// In the sandbox, a tenth of each.
const FIFTY_SANDBOX: Windows = &[(5 * 3_600, HOUR)];
const TWENTY_SANDBOX: Windows = &[(2 * 3_600, HOUR)];
const TEN_SANDBOX: Windows = &[(3_600, HOUR)];
const ONE_SANDBOX: Windows = &[(360, HOUR)];

/// One allowance per endpoint; whatever is not the App Store Server API has none.
fn limit(endpoint: Endpoint, environment: Environment) -> Option<Limit> {
    let (name, production, sandbox) = match endpoint {
        Endpoint::AppleTransaction => ("apple transaction", FIFTY, FIFTY_SANDBOX),
        Endpoint::AppleAppTransaction => ("apple app transaction", FIFTY, FIFTY_SANDBOX),
        Endpoint::AppleStatuses => ("apple statuses", FIFTY, FIFTY_SANDBOX),
        Endpoint::AppleHistory => ("apple history", FIFTY, FIFTY_SANDBOX),
        Endpoint::AppleConsumption => ("apple consumption", FIFTY, FIFTY_SANDBOX),
        Endpoint::AppleNotificationHistory => ("apple notifications", FIFTY, FIFTY_SANDBOX),
        Endpoint::AppleFinish => ("apple finish", FIFTY, FIFTY_SANDBOX),
        Endpoint::AppleExtend => ("apple extend", TWENTY, TWENTY_SANDBOX),
        Endpoint::AppleAccountToken => ("apple account token", TWENTY, TWENTY_SANDBOX),
        Endpoint::AppleOrder => ("apple order", TEN, TEN_SANDBOX),
        Endpoint::AppleRefunds => ("apple refunds", TEN, TEN_SANDBOX),
        Endpoint::AppleMassExtend => ("apple mass extend", ONE, ONE_SANDBOX),
        Endpoint::AppleMassExtendStatus => ("apple mass extend status", ONE, ONE_SANDBOX),
        Endpoint::AppleTestNotification => ("apple test", ONE, ONE_SANDBOX),
        Endpoint::AppleTestStatus => ("apple test status", ONE, ONE_SANDBOX),
        Endpoint::AppleOcsp
        | Endpoint::GoogleToken
        | Endpoint::GoogleSubscription
        | Endpoint::GoogleCancel
        | Endpoint::GoogleDefer
        | Endpoint::GoogleRevoke
        | Endpoint::GoogleProduct
        | Endpoint::GoogleAcknowledge
        | Endpoint::GoogleConsume
        | Endpoint::GoogleOrder
        | Endpoint::GoogleRefund
        | Endpoint::GoogleReviewRefund
        | Endpoint::GoogleVoided
        | Endpoint::GoogleProductLists
        | Endpoint::GoogleKeys
        | Endpoint::IdentityKeys => return None,
    };
    let windows = match environment {
        Environment::Production => production,
        Environment::Sandbox => sandbox,
    };
    Some(Limit { name, windows })
}

/// Counts the call, plays an outage, checks the caller's token, and takes the call off the limit.
pub(super) async fn admit(
    inner: &Inner,
    endpoint: Endpoint,
    headers: &HeaderMap,
) -> Result<(), AppleError> {
    inner.traffic.admit(endpoint).await?;
    let expected = Expected {
        key: &inner.keys.apple_api,
        last: &inner.apple_caller,
        issuer_id: &inner.keys.apple_issuer_id,
        bundle_id: &inner.setup.bundle_id,
    };
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if !expected.admits(authorization, machine_seconds()) {
        return Err(AppleError::Unauthorized);
    }
    match limit(endpoint, inner.setup.environment) {
        Some(limit) => inner
            .limits
            .take(&limit, Instant::now())
            .map_err(AppleError::RateLimited),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_sandbox_has_a_tenth() {
        for (endpoint, per_second) in [
            (Endpoint::AppleTransaction, 50),
            (Endpoint::AppleExtend, 20),
            (Endpoint::AppleRefunds, 10),
            (Endpoint::AppleTestStatus, 1),
        ] {
            let production = limit(endpoint, Environment::Production).unwrap();
            assert_eq!(production.windows, [(per_second * 3_600, HOUR)]);
            let sandbox = limit(endpoint, Environment::Sandbox).unwrap();
            assert_eq!(sandbox.windows, [(per_second * 360, HOUR)]);
        }
        assert!(limit(Endpoint::AppleOcsp, Environment::Production).is_none());
    }
}
