//! The two servers as processes of their own: the real one, and the bare tonic that it is held
//! against. Each prints one JSON line with its addresses and ends when its standard input does.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use entitled::app::{App, Roles};
use entitled::clock::Clock;
use entitled::config::Config;
use futures::future::Either;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::bare;
use crate::raw::RawCodec;

#[derive(Args)]
pub(crate) struct OursArgs {
    #[arg(long)]
    config: PathBuf,
    #[arg(long, value_enum)]
    roles: Part,
    /// Follow the clock that the configuration names
    #[arg(long)]
    follow: bool,
}

/// Which part of the server a process plays.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Part {
    /// API, webhooks and worker.
    All,
    /// The API alone.
    Serve,
    /// Webhooks and worker.
    Ingest,
    /// Webhooks alone.
    Webhooks,
}

impl Part {
    fn roles(self) -> Roles {
        match self {
            Self::All => Roles::ALL,
            Self::Serve => Roles {
                serve: true,
                webhooks: false,
                worker: false,
            },
            Self::Ingest => Roles {
                serve: false,
                webhooks: true,
                worker: true,
            },
            Self::Webhooks => Roles {
                serve: false,
                webhooks: true,
                worker: false,
            },
        }
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// The server as `entitled start` runs it.
pub(crate) async fn ours(args: OursArgs) -> anyhow::Result<()> {
    let config = Config::load(Some(&args.config)).map_err(anyhow::Error::msg)?;
    let clock = (!args.follow).then_some(Clock::System);
    let app = App::start(config, args.roles.roles(), clock).await?;
    announce(&json!({
        "grpc": app.grpc_url(),
        "webhooks": app.webhooks_url(),
        "admin": app.admin_url(),
    }));
    input_ends().await;
    app.stop().await;
    Ok(())
}

#[derive(Args)]
pub(crate) struct EchoArgs {
    /// Answers to give in turn, each behind its length as four bytes, big-endian
    #[arg(long)]
    answers: PathBuf,
    /// What carries them
    #[arg(long, value_enum)]
    carrier: Carrier,
    /// One prepared query of this database for each answer
    #[arg(long)]
    database: Option<String>,
}

/// A server that judges nothing.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Carrier {
    /// tonic with its defaults, on tokio's multi-thread runtime.
    Multi,
    /// The same on a current-thread runtime.
    Current,
    /// hyper's HTTP/2 as entitled sets it up, on a current-thread runtime.
    Hyper,
}

impl Carrier {
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Reads request and headers, gives prepared bytes back.
pub(crate) async fn echo(args: EchoArgs) -> anyhow::Result<()> {
    match args.carrier {
        Carrier::Multi => echo_on_this_runtime(args).await,
        Carrier::Current | Carrier::Hyper => {
            let apart = tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(echo_on_this_runtime(args))
            });
            apart.await?
        }
    }
}

async fn echo_on_this_runtime(args: EchoArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answers = unpack(std::fs::read(&args.answers)?.into());
    let echo = Echo {
        answers: answers.into(),
        next: Arc::default(),
        accounts: match &args.database {
            Some(url) => Some(Accounts::open(url).await?),
            None => None,
        },
    };
    announce(&json!({ "grpc": format!("http://{address}") }));
    if matches!(args.carrier, Carrier::Hyper) {
        return tokio::select! {
            served = bare::serve(listener, echo.answers) => served,
            () = input_ends() => Ok(()),
        };
    }
    // Without this, Nagle's algorithm and delayed acknowledgements cost the echo 40 ms a request.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(echo)
        .serve_with_incoming_shutdown(incoming, input_ends())
        .await?;
    Ok(())
}

/// What a read costs that asks the database: one row by its primary key.
#[derive(Clone)]
struct Accounts {
    pool: PgPool,
    ids: Arc<[Uuid]>,
}

impl Accounts {
    async fn open(url: &str) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .test_before_acquire(false);
        let pool = pool.connect(url).await?;
        let ids = sqlx::query_scalar("select account_id from bench_answers");
        let ids: Vec<Uuid> = ids.fetch_all(&pool).await?;
        Ok(Self {
            pool,
            ids: ids.into(),
        })
    }

    async fn answer(&self, turn: usize) -> Result<Bytes, Status> {
        let id = self.ids[turn % self.ids.len()];
        let row = sqlx::query_scalar("select answer from bench_answers where account_id = $1");
        let row: Result<Vec<u8>, _> = row.bind(id).fetch_one(&self.pool).await;
        row.map(Bytes::from)
            .map_err(|error| Status::unavailable(error.to_string()))
    }
}

pub(crate) fn pack(answers: &[Bytes]) -> Vec<u8> {
    let mut packed = Vec::new();
    for answer in answers {
        packed.extend_from_slice(
            &u32::try_from(answer.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        packed.extend_from_slice(answer);
    }
    packed
}

fn unpack(mut packed: Bytes) -> Vec<Bytes> {
    use bytes::Buf as _;
    let mut answers = Vec::new();
    while packed.remaining() >= 4 {
        let length = packed.get_u32() as usize;
        answers.push(packed.split_to(length));
    }
    answers
}

#[expect(clippy::print_stdout, reason = "the parent reads this line")]
fn announce(addresses: &serde_json::Value) {
    println!("{addresses}");
}

/// The parent holds the other end; whatever ends it closes the pipe.
async fn input_ends() {
    let mut rest = Vec::new();
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}

#[derive(Clone)]
struct Echo {
    answers: Arc<[Bytes]>,
    next: Arc<AtomicUsize>,
    accounts: Option<Accounts>,
}

impl NamedService for Echo {
    const NAME: &'static str = "entitled.v1.EntitlementService";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move { Ok(Grpc::new(RawCodec).unary(echo, request).await) })
    }
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future =
        Either<Ready<Result<Response<Bytes>, Status>>, BoxFuture<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        // Touched, not judged: the headers have been decoded, as for the other server.
        if !request.metadata().contains_key("authorization") {
            return Either::Left(ready(Err(Status::unauthenticated("no credential"))));
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(accounts) = &self.accounts {
            let accounts = accounts.clone();
            let answer = async move { accounts.answer(turn).await.map(Response::new) };
            return Either::Right(Box::pin(answer));
        }
        let answer = self.answers.get(turn % self.answers.len().max(1)).cloned();
        Either::Left(ready(Ok(Response::new(answer.unwrap_or_default()))))
    }
}
