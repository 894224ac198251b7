//! `AccountService`: accounts without a sign-in, tokens for apps that know only their backend, names
//! that the stores know already.

mod jwks;
pub mod linking;
mod minted;
mod sessions;
pub mod store_tokens;
mod unused;

use entitled::cli::client::{Bearer, Client};
use entitled::proto::account_service_client::AccountServiceClient;
use entitled::proto::{
    CreateAnonymousRequest, CreateAnonymousResponse, Credentials, RefreshTokenRequest,
};
use tonic::Status;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::scene::{Person, now};
use crate::support::World;

/// Calls that need no credential.
pub async fn open(world: &World) -> AccountServiceClient<Channel> {
    AccountServiceClient::new(channel(&world.stack.address.server).await)
}

/// The same with one.
pub async fn with(
    world: &World,
    token: &str,
) -> AccountServiceClient<InterceptedService<Channel, Bearer>> {
    let bearer = Bearer::of(token).expect("a token");
    let channel = channel(&world.stack.address.server).await;
    AccountServiceClient::with_interceptor(channel, bearer)
}

async fn channel(server: &str) -> Channel {
    let endpoint = Endpoint::from_shared(server.to_owned()).expect("a URL");
    endpoint.connect().await.expect("a server")
}

pub async fn create(world: &World) -> Result<CreateAnonymousResponse, Status> {
    let answer = open(world)
        .await
        .create_anonymous(CreateAnonymousRequest {})
        .await?;
    Ok(answer.into_inner())
}

pub async fn refresh(world: &World, token: &str) -> Result<Credentials, Status> {
    refresh_at(&world.stack.address.server, token).await
}

pub async fn refresh_at(server: &str, token: &str) -> Result<Credentials, Status> {
    let request = RefreshTokenRequest {
        refresh_token: token.into(),
    };
    let mut client = AccountServiceClient::new(channel(server).await);
    let answer = client.refresh_token(request).await?;
    Ok(answer.into_inner().credentials.expect("credentials"))
}

/// An app without a sign-in, as it is after its first start.
pub struct Phone {
    pub person: Person,
    pub credentials: Credentials,
}

impl Phone {
    pub async fn first_start(world: &World) -> Self {
        let made = create(world).await.expect("an account");
        let credentials = made.credentials.expect("credentials");
        let client = client(world, &credentials).await;
        let account = now(&client).await.account.expect("an account");
        assert_eq!(Some(&account), made.account.as_ref(), "it is that one");
        Self {
            person: Person {
                name: format!("entitled:{}", account.id),
                client,
                store_token: account.store_token,
                account: account.id,
            },
            credentials,
        }
    }
}

pub async fn client(world: &World, credentials: &Credentials) -> Client {
    world.client_with_token(&credentials.access_token).await
}

/// What a read with that access token is refused with.
pub async fn refused(world: &World, token: &str) -> Status {
    let mut client = world.client_with_token(token).await;
    client.get().await.expect_err("it is refused")
}
