//! The public listener: which services it has, behind which layers, and how it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower::{BoxError, Layer as _, ServiceBuilder, ServiceExt};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use super::accept::accept;
use super::accounts::{Accounts, Tokens};
use super::auth::Authenticator;
use super::catalog::Catalogs;
use super::connection::Connections;
use super::door::Door;
use super::entry::{Entry, only_grpc};
use super::guard::GuardLayer;
use super::keys::Keys;
use super::leases::Leases;
use super::published::PublishedKeys;
use super::purchases::Purchases;
use super::request_size::LargerFor;
use super::restore;
use super::service::Service;
use super::shed::ShedLayer;
use super::streams::StreamLimits;
use super::support::Support;
use super::threads::ConnectionThreads;
use super::transcode::TranscodeLayer;
use super::warm::WarmReads;
use super::wire::account_service_server::AccountServiceServer;
use super::wire::catalog_service_server::CatalogServiceServer;
use super::wire::entitlement_service_server::EntitlementServiceServer;
use super::wire::key_service_server::KeyServiceServer;
use super::wire::purchase_service_server::PurchaseServiceServer;
use super::wire::support_service_server::SupportServiceServer;
use crate::config::limits::LimitsConfig;
use crate::edge::{Edge, TrustedProxies};
use crate::flows::Core;
use crate::proto;
use crate::watch::Feeds;

/// Requests are small: a signed transaction is about 4 KiB.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// A catalog file is larger.
const CATALOG_BYTES_MAX: usize = 1024 * 1024;
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a browser may remember that a call is allowed.
const PREFLIGHT_AGE: Duration = Duration::from_secs(60 * 60);
/// What has not ended by then, once told to, is cut.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What the door is built from.
pub(crate) struct ServeOptions {
    pub(crate) core: Arc<Core>,
    pub(crate) authenticator: Arc<Authenticator>,
    /// None: no tokens of our own.
    pub(crate) tokens: Option<Arc<Tokens>>,
    pub(crate) proxies: TrustedProxies,
    pub(crate) limits: LimitsConfig,
    pub(crate) edge: Arc<Edge>,
    pub(crate) reflection: bool,
    /// Whether operators are served here, too.
    pub(crate) operators: bool,
    /// They serve the connections.
    pub(crate) threads: Arc<ConnectionThreads>,
    /// Ends streams first, then the listener.
    pub(crate) stop: CancellationToken,
}

/// Serves until stopped; streams are told to come back elsewhere before the listener closes.
pub(crate) async fn serve(listener: TcpListener, options: ServeOptions) -> anyhow::Result<()> {
    let ServeOptions {
        core,
        authenticator,
        tokens,
        proxies,
        limits,
        edge,
        reflection,
        operators,
        threads,
        stop,
    } = options;
    let taken_within = Duration::from_secs(u64::from(limits.stalled_seconds));
    let request_max = Duration::from_secs(u64::from(limits.request_seconds));
    let guard = GuardLayer::credentials(Arc::clone(&authenticator));
    let door = Door {
        core,
        authenticator,
    };
    let published = PublishedKeys(tokens.as_ref().map(|tokens| tokens.key_set()));
    let leases = Leases::new(&door.core, tokens.as_ref());
    let accounts = Accounts::new(door.clone(), tokens, proxies);
    let mut services = services(&door, accounts, leases, &limits, &stop);
    if operators {
        services = with_operators(services, &door);
    }
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_serving::<EntitlementServiceServer<Service>>()
        .await;
    health.set_serving::<AccountServiceServer<Accounts>>().await;
    health
        .set_serving::<PurchaseServiceServer<Purchases>>()
        .await;
    health.set_serving::<SupportServiceServer<Support>>().await;
    health.set_serving::<CatalogServiceServer<Catalogs>>().await;
    health.set_serving::<KeyServiceServer<Keys>>().await;
    // Browsers: gRPC-Web needs cross-origin calls and its trailers exposed. No cookies are used,
    // so any origin may call; the credential is the bearer token.
    let cors = CorsLayer::new()
        .allow_origin(Any)
        // `*` does not cover `authorization`, the one header that every call needs.
        .allow_headers(AllowHeaders::mirror_request())
        .allow_methods(Any)
        .expose_headers(Any)
        .max_age(PREFLIGHT_AGE);
    services = services.add_service(health_service);
    if reflection {
        services = with_reflection(services)?;
    }
    let native = ShedLayer::new(limits.calls).layer(guard.layer(services.prepare()));
    let grpc = native.clone();
    let all = ServiceBuilder::new()
        .layer(cors)
        .layer(published)
        // Outside of gRPC-Web, which refuses whatever else comes by HTTP/1.1.
        .layer(TranscodeLayer::new(guard, request_bytes_max, request_max)?)
        .layer(GrpcWebLayer::new())
        .service(tower::service_fn(move |call| only_grpc(grpc.clone(), call)));
    let entry = Entry {
        warm: WarmReads::new(door),
        native: BoxCloneSyncService::new(native),
        all: BoxCloneSyncService::new(all),
        handlers: threads.main().clone(),
        time_max: request_max,
    };
    let connections = Connections::new(entry, limits.streams_per_connection, taken_within);
    let connections = Arc::new(connections);
    let _cut = connections.cut_on_drop();
    let drained = {
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            health
                .set_not_serving::<EntitlementServiceServer<Service>>()
                .await;
            health
                .set_not_serving::<AccountServiceServer<Accounts>>()
                .await;
            health
                .set_not_serving::<PurchaseServiceServer<Purchases>>()
                .await;
            health
                .set_not_serving::<SupportServiceServer<Support>>()
                .await;
            health
                .set_not_serving::<CatalogServiceServer<Catalogs>>()
                .await;
            health.set_not_serving::<KeyServiceServer<Keys>>().await;
            // Streams end by themselves on the same token; unary calls get a moment.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // Health and reflection streams would hold the door open for ever.
    let overdue = async move {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    let served = async {
        tokio::select! {
            () = accept(listener, &edge, &threads, Arc::clone(&connections)) => {}
            () = drained => {}
        }
        connections.drained().await;
    };
    tokio::select! {
        () = served => {}
        () = overdue => {}
    }
    Ok(())
}

/// How much one request of this path may hold, as JSON; `services` has the same for gRPC.
fn request_bytes_max(path: &str) -> usize {
    let of_catalogs = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(CatalogServiceServer::<Catalogs>::NAME))
        .is_some_and(|rpc| rpc.starts_with('/'));
    match path {
        restore::PATH => restore::REQUEST_BYTES_MAX,
        _ if of_catalogs => CATALOG_BYTES_MAX,
        _ => REQUEST_BYTES_MAX,
    }
}

/// The services of the API but those of operators, without their guard.
fn services(
    door: &Door,
    accounts: Accounts,
    leases: Option<Leases>,
    limits: &LimitsConfig,
    stop: &CancellationToken,
) -> Routes {
    let accounts = AccountServiceServer::new(accounts)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let entitlements = EntitlementServiceServer::new(Service {
        door: door.clone(),
        streams: StreamLimits::new(limits.streams_per_account),
        feeds: Feeds::new(door.core.hub.clone()),
        drain: stop.clone(),
        leases,
    })
    .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let entitlements = LargerFor {
        path: restore::PATH,
        usual: entitlements
            .clone()
            .max_decoding_message_size(REQUEST_BYTES_MAX),
        larger: entitlements.max_decoding_message_size(restore::REQUEST_BYTES_MAX),
    };
    let purchases = PurchaseServiceServer::new(Purchases { door: door.clone() })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    Routes::new(entitlements)
        .add_service(accounts)
        .add_service(purchases)
}

/// The services of operators beside others, without their guard.
fn with_operators(services: Routes, door: &Door) -> Routes {
    let catalogs = CatalogServiceServer::new(Catalogs::new(door.clone()))
        .max_decoding_message_size(CATALOG_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let support = SupportServiceServer::new(Support { door: door.clone() })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    let keys = KeyServiceServer::new(Keys { door: door.clone() })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(RESPONSE_BYTES_MAX);
    services
        .add_service(support)
        .add_service(catalogs)
        .add_service(keys)
}

fn with_reflection(services: Routes) -> anyhow::Result<Routes> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(services.add_service(reflection))
}

/// What operators reach on a listener of their own: their services behind the same guard, and the
/// schema.
///
/// # Errors
/// The schema cannot be read, which a test would have found.
pub(crate) fn for_operators(
    core: Arc<Core>,
    authenticator: Arc<Authenticator>,
) -> anyhow::Result<OperatorApi> {
    let guard = GuardLayer::credentials(Arc::clone(&authenticator));
    let door = Door {
        core,
        authenticator,
    };
    let services = with_operators(Routes::default(), &door);
    let services = guard.layer(with_reflection(services)?.prepare());
    Ok(BoxCloneSyncService::new(services))
}

/// Answers operators' calls.
pub(crate) type OperatorApi =
    BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// Carries calls to a server, or to the same handlers in this process.
pub(crate) type Carrier = BoxCloneService<http::Request<Body>, http::Response<Body>, BoxError>;

/// The API within this process, for commands on the database host: same table, same handlers, no
/// socket. Every call is `actor`'s, an admin.
pub(crate) fn in_process(
    core: Arc<Core>,
    authenticator: Arc<Authenticator>,
    actor: &str,
) -> Carrier {
    let door = Door {
        core,
        authenticator,
    };
    // Nobody signs in from here: no tokens of ours, nobody's address.
    let accounts = Accounts::new(door.clone(), None, TrustedProxies::default());
    let stop = CancellationToken::new();
    let services = services(&door, accounts, None, &LimitsConfig::default(), &stop);
    let services = with_operators(services, &door);
    let guarded = GuardLayer::host(actor).layer(services);
    let carried = ServiceExt::<http::Request<Body>>::map_err(guarded, BoxError::from);
    BoxCloneService::new(carried)
}
