//! `CreateAnonymous`, `RefreshToken`, `MintToken`.

use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret as _;
use tonic::{Request, Status};
use tracing::error;

use super::{Accounts, Tokens, admission, machine_timestamp, wire_account};
use crate::domain::planted::{self, Bug};
use crate::flows::sessions::{self as flow, RefreshTokenError, Session};
use crate::grpc::auth::{Caller, SignError};
use crate::grpc::status::{self, Reason};
use crate::grpc::wire;

const TTL_DEFAULT: Duration = Duration::from_secs(60 * 60);
const TTL_MIN: Duration = Duration::from_secs(60);
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Ours are shorter; nothing longer is hashed.
const REFRESH_TOKEN_BYTES_MAX: usize = 256;

pub(super) async fn create(
    accounts: &Accounts,
    request: &Request<wire::CreateAnonymousRequest>,
) -> Result<wire::CreateAnonymousResponse, Status> {
    let Some(tokens) = accounts.tokens.as_deref() else {
        return Err(admission::off());
    };
    let door = &accounts.door;
    accounts.admission.admit(door, tokens, request).await?;
    let (account, session) = flow::create_anonymous(&door.core, tokens.refresh_lifetime())
        .await
        .map_err(status::from_storage)?;
    metrics::counter!("entitled_anonymous_accounts_total").increment(1);
    Ok(wire::CreateAnonymousResponse {
        account: Some(wire_account(account)),
        credentials: Some(credentials(tokens, &session)?),
    })
}

pub(super) async fn refresh(
    accounts: &Accounts,
    request: &Request<wire::RefreshTokenRequest>,
) -> Result<wire::RefreshTokenResponse, Status> {
    let tokens = accounts.tokens()?;
    accounts.admission.admit_refresh(request)?;
    let presented = request.get_ref().refresh_token.as_str();
    if presented.is_empty() {
        return Err(status::bad_request("refresh_token", "is required"));
    }
    if presented.len() > REFRESH_TOKEN_BYTES_MAX {
        return Err(refused(RefreshTokenError::Invalid));
    }
    let session = flow::refresh_token(&accounts.door.core, presented, tokens.refresh_lifetime())
        .await
        .map_err(refused)?;
    Ok(wire::RefreshTokenResponse {
        credentials: Some(credentials(tokens, &session)?),
    })
}

pub(super) async fn mint(
    accounts: &Accounts,
    caller: &Caller,
    request: &wire::MintTokenRequest,
) -> Result<wire::MintTokenResponse, Status> {
    let tokens = accounts.tokens()?;
    let ttl = lifetime(request.ttl)?;
    let account = accounts.door.bind_subject(caller, &request.account).await?;
    let (token, until) = tokens
        .minted(account.id.0, ttl, SystemTime::now())
        .map_err(unsigned)?;
    Ok(wire::MintTokenResponse {
        account: Some(wire_account(account)),
        access_token: token.expose_secret().to_owned(),
        access_token_expires_at: Some(machine_timestamp(until)),
    })
}

/// How long a minted token is good.
fn lifetime(asked: Option<prost_types::Duration>) -> Result<Duration, Status> {
    let Some(asked) = asked else {
        return Ok(TTL_DEFAULT);
    };
    match Duration::try_from(asked) {
        Ok(asked) if (TTL_MIN..=TTL_MAX).contains(&asked) => Ok(asked),
        Ok(asked) if planted::is(Bug::MintedForYears) => Ok(asked),
        Ok(_) | Err(_) => Err(status::bad_request("ttl", "is a minute to a day")),
    }
}

fn credentials(tokens: &Tokens, session: &Session) -> Result<wire::Credentials, Status> {
    let now = SystemTime::now();
    let (access, until) = tokens
        .access(session.account.0, session.id, now)
        .map_err(unsigned)?;
    Ok(wire::Credentials {
        access_token: access.expose_secret().to_owned(),
        access_token_expires_at: Some(machine_timestamp(until)),
        refresh_token: session.refresh_token.expose_secret().to_owned(),
        refresh_token_expires_at: Some(machine_timestamp(now + tokens.refresh_lifetime())),
    })
}

fn unsigned(cause: SignError) -> Status {
    error!(%cause, "a call failed");
    status::internal()
}

fn refused(cause: RefreshTokenError) -> Status {
    match cause {
        RefreshTokenError::Invalid => status::sign_in(
            Reason::RefreshTokenInvalid,
            "the refresh token is not accepted; begin anew and restore what was bought",
        ),
        RefreshTokenError::Linked => status::sign_in(
            Reason::IdentityLinked,
            "the user has signed in: use the signed-in credential",
        ),
        RefreshTokenError::TooMany(retry) => status::retryable(
            Reason::RateLimited,
            "this session was refreshed too often; the token stays good, try again",
            retry,
        ),
        RefreshTokenError::Storage(cause) => status::from_storage(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_lasts_a_minute_to_a_day_and_one_for_years_is_found() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for (asked, good) in [(None, 3_600), (seconds(60), 60), (seconds(86_400), 86_400)] {
            let lifetime = lifetime(asked).ok();
            assert_eq!(lifetime, Some(Duration::from_secs(good)), "{asked:?}");
        }
        for refused in [-1, 0, 59, 86_401] {
            assert!(lifetime(seconds(refused)).is_err(), "{refused}");
        }
        let years = planted::with(Bug::MintedForYears, || lifetime(seconds(86_401)));
        assert!(years.is_ok(), "the bug is seen");
    }
}
