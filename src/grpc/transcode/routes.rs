//! The paths of the JSON API: one rule for every RPC of the descriptor set.
//!
//! `EntitlementService.GetEntitlements` is `/v1/entitlement:getEntitlements`: the service without
//! `Service` in kebab case, a colon, the RPC in lower camel case. The rule loses nothing, so two
//! RPCs never share a path and a path never changes when an RPC is added.

use std::collections::HashMap;
use std::sync::Arc;

use http::uri::PathAndQuery;
use prost_reflect::prost_types::method_options::IdempotencyLevel;
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};

use super::kept;

/// The package whose services are carried, and the first segment of their paths.
const PACKAGE: &str = "entitled.v1";
pub(super) const PREFIX: &str = "/v1/";

/// One RPC as HTTP carries it.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: MethodDescriptor,
    /// Where gRPC has it.
    pub(super) grpc: PathAndQuery,
    /// It has no side effects: GET carries it too.
    pub(super) reads: bool,
    /// A GET's answer has a name, and is not sent to whoever has it.
    pub(super) kept: bool,
}

impl Route {
    pub(super) fn streams(&self) -> bool {
        self.method.is_server_streaming()
    }
}

/// All routes, by path.
#[derive(Debug, Default)]
pub(super) struct Routes(HashMap<String, Arc<Route>>);

impl Routes {
    pub(super) fn of(pool: &DescriptorPool) -> Result<Self, http::uri::InvalidUri> {
        let mut routes = HashMap::new();
        for service in services(pool) {
            for method in service.methods().filter(|it| !it.is_client_streaming()) {
                let grpc = format!("/{}/{}", service.full_name(), method.name());
                let route = Route {
                    grpc: grpc.try_into()?,
                    reads: reads(&method),
                    kept: kept::is_kept(&method),
                    method,
                };
                routes.insert(path(&service, &route.method), Arc::new(route));
            }
        }
        Ok(Self(routes))
    }

    pub(super) fn get(&self, path: &str) -> Option<&Arc<Route>> {
        self.0.get(path)
    }
}

/// The services that are carried, in the order of their files.
pub(super) fn services(pool: &DescriptorPool) -> impl Iterator<Item = ServiceDescriptor> + '_ {
    pool.services().filter(|it| it.package_name() == PACKAGE)
}

pub(super) fn reads(method: &MethodDescriptor) -> bool {
    let descriptor = method.method_descriptor_proto();
    let options = descriptor.options.as_ref();
    options.is_some_and(|it| it.idempotency_level() == IdempotencyLevel::NoSideEffects)
}

pub(super) fn path(service: &ServiceDescriptor, method: &MethodDescriptor) -> String {
    format!("{PREFIX}{}:{}", area(service), lower_camel(method.name()))
}

/// The service's part of its paths.
pub(super) fn area(service: &ServiceDescriptor) -> String {
    let name = service.name();
    kebab(name.strip_suffix("Service").unwrap_or(name))
}

fn kebab(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('-');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn lower_camel(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_has_a_path_of_its_own() {
        let pool = DescriptorPool::decode(crate::proto::DESCRIPTORS).expect("descriptors");
        let routes = Routes::of(&pool).expect("paths");
        let rpcs: usize = services(&pool).map(|it| it.methods().count()).sum();
        assert_eq!(routes.0.len(), rpcs, "an RPC is not carried");
        let known = [
            ("/v1/entitlement:getEntitlements", true),
            ("/v1/entitlement:bindPurchase", false),
            ("/v1/purchase:listTransactions", true),
            ("/v1/support:resync", false),
        ];
        for (path, reads) in known {
            let route = routes.get(path).expect(path);
            assert_eq!(route.reads, reads, "{path}");
        }
        let watch = routes
            .get("/v1/entitlement:watchEntitlements")
            .expect("watch");
        assert!(watch.streams() && watch.reads);
    }

    #[test]
    fn names_are_turned_word_by_word() {
        assert_eq!(kebab("StoreAccount"), "store-account");
        assert_eq!(lower_camel("GetEntitlements"), "getEntitlements");
    }
}
