//! Tickets: what support asks through `SupportService`, and what it is told, end to end.

mod answers;
mod doors;
mod find;
mod golden;
pub(crate) mod over_api;
mod past;

use entitled::cli::client::Bearer;
use entitled::proto::purchase_service_client::PurchaseServiceClient;
use entitled::proto::support_service_client::SupportServiceClient;
use entitled::proto::{
    ExplainEntitlementRequest, ExplainEntitlementResponse, GetTimelineRequest, TimelineEntry,
    TimelineLayer, get_timeline_request,
};
use entitled::sandbox::IdentityToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::support::World;

/// A person who answers tickets.
pub struct Operator {
    pub support: SupportServiceClient<InterceptedService<Channel, Bearer>>,
    pub purchases: PurchaseServiceClient<InterceptedService<Channel, Bearer>>,
}

/// A token of the simulated identity provider with a scope.
pub fn token(world: &World, subject: &str, scope: &str) -> String {
    let mut token = IdentityToken::of(subject);
    token.claims.insert("scope".into(), scope.into());
    world.stores().identity_token(&token).expect("a token")
}

impl Operator {
    pub async fn of(world: &World) -> Self {
        Self::with(world, &token(world, "sue", "entitled.operator")).await
    }

    pub async fn with(world: &World, token: &str) -> Self {
        let channel = Endpoint::from_shared(world.stack.address.server.clone())
            .expect("a URL")
            .connect()
            .await
            .expect("a server");
        let bearer = Bearer::of(token).expect("a token");
        Self {
            support: SupportServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            purchases: PurchaseServiceClient::with_interceptor(channel, bearer),
        }
    }

    /// Why `pro_access` is as it is.
    pub async fn why(&mut self, account: &str) -> ExplainEntitlementResponse {
        let request = ExplainEntitlementRequest {
            account: account.into(),
            entitlement: "pro_access".into(),
            at: None,
        };
        let answer = self.support.explain_entitlement(request).await;
        answer.expect("an explanation").into_inner()
    }

    /// The whole story, by pages of three.
    pub async fn story(&mut self, account: &str, layers: &[TimelineLayer]) -> Vec<TimelineEntry> {
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = GetTimelineRequest {
                subject: Some(get_timeline_request::Subject::Account(account.into())),
                layers: layers.iter().map(|layer| i32::from(*layer)).collect(),
                page_size: 3,
                page_token,
                ..Default::default()
            };
            let page = self.support.get_timeline(request).await;
            let page = page.expect("a page").into_inner();
            assert!(page.entries.len() <= 3);
            entries.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return entries;
            }
        }
    }
}
