//! Who may make an account that nobody has signed in to: by configuration, and within limits.
//!
//! Where a device is to be attested first, a backend does it and asks as a service
//! (`anonymous_accounts = "services"`): nothing here takes a claim of a device about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::Tokens;
use crate::config::tokens::AnonymousAccounts;
use crate::edge::{AddressClass, TrustedProxies};
use crate::flows::limits::take_shared;
use crate::grpc::auth::CallerKind;
use crate::grpc::door::Door;
use crate::grpc::guard;
use crate::grpc::status::{self, Reason};

const WINDOW: Duration = Duration::from_secs(60);
const ADDRESSES_MAX: u64 = 200_000;
/// For each account that an address may make in a minute, it may refresh so many: accounts stay, and
/// whole networks share an address.
const REFRESHES_PER_ACCOUNT: u32 = 20;
/// The bucket that all replicas share.
const BUCKET: &str = "anonymous_accounts";

pub(super) struct Admission {
    proxies: TrustedProxies,
    /// Accounts made from each address, within a window that starts with the first.
    made: Cache<AddressClass, Arc<AtomicU32>>,
    per_address_max: u32,
    /// Refresh tokens shown from each address, good or not.
    refreshed: Cache<AddressClass, Arc<AtomicU32>>,
}

impl Admission {
    pub(super) fn new(tokens: Option<&Tokens>, proxies: TrustedProxies) -> Self {
        let counts = || {
            Cache::builder()
                .max_capacity(ADDRESSES_MAX)
                .time_to_live(WINDOW)
                .build()
        };
        Self {
            proxies,
            made: counts(),
            refreshed: counts(),
            per_address_max: tokens.map_or(0, |tokens| tokens.per_address_per_minute),
        }
    }

    /// Lets a caller make one account, or says why not.
    pub(super) async fn admit<T>(
        &self,
        door: &Door,
        tokens: &Tokens,
        request: &Request<T>,
    ) -> Result<(), Status> {
        match tokens.anonymous {
            AnonymousAccounts::Off => return Err(off()),
            AnonymousAccounts::Open => self.take_of_address(request)?,
            AnonymousAccounts::Services => is_service(door, request.metadata()).await?,
        }
        match take_shared(&door.core, BUCKET, tokens.per_second).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(too_many()),
            Err(error) => Err(status::from_storage(error)),
        }
    }

    /// Lets a caller try one refresh token: junk costs the database nothing for long.
    pub(super) fn admit_refresh<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let address = self.proxies.caller_of(request);
        let tried = self.refreshed.get_with(address, Default::default);
        let max = self.per_address_max.saturating_mul(REFRESHES_PER_ACCOUNT);
        if tried.fetch_add(1, Ordering::Relaxed) < max {
            Ok(())
        } else {
            Err(status::retryable(
                Reason::RateLimited,
                "too many refresh tokens from one address; try again",
                WINDOW,
            ))
        }
    }

    fn take_of_address<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let address = self.proxies.caller_of(request);
        let made = self.made.get_with(address, Default::default);
        if made.fetch_add(1, Ordering::Relaxed) < self.per_address_max {
            Ok(())
        } else {
            Err(too_many())
        }
    }
}

pub(super) fn off() -> Status {
    status::status(
        Reason::AnonymousAccountsOff,
        "this server makes no accounts without a sign-in",
    )
}

/// The authorisation table lets everyone in: this is the server's own choice.
async fn is_service(door: &Door, metadata: &MetadataMap) -> Result<(), Status> {
    let caller = guard::caller(&door.authenticator, metadata.as_ref()).await?;
    match caller.kind {
        // It makes credentials for every app.
        CallerKind::Service => guard::for_all_apps(&caller),
        CallerKind::User | CallerKind::Operator(_) => Err(status::status(
            Reason::ServiceRequired,
            "only services may do this",
        )),
    }
}

fn too_many() -> Status {
    metrics::counter!("entitled_anonymous_accounts_refused_total").increment(1);
    status::retryable(
        Reason::RateLimited,
        "too many accounts at once; try again",
        WINDOW,
    )
}
