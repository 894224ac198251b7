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
use crate::flows::limits::take_shared;
use crate::grpc::address::{AddressClass, TrustedProxies};
use crate::grpc::auth::CallerKind;
use crate::grpc::door::Door;
use crate::grpc::guard;
use crate::grpc::status::{self, Reason};

const WINDOW: Duration = Duration::from_secs(60);
const ADDRESSES_MAX: u64 = 200_000;
/// The bucket that all replicas share.
const BUCKET: &str = "anonymous_accounts";

pub(super) struct Admission {
    proxies: TrustedProxies,
    /// Accounts made from each address, within a window that starts with the first.
    made: Cache<AddressClass, Arc<AtomicU32>>,
    per_address_max: u32,
}

impl Admission {
    pub(super) fn new(tokens: Option<&Tokens>, proxies: TrustedProxies) -> Self {
        Self {
            proxies,
            made: Cache::builder()
                .max_capacity(ADDRESSES_MAX)
                .time_to_live(WINDOW)
                .build(),
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
        CallerKind::Service => Ok(()),
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
