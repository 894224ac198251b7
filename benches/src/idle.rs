//! What an idle stream costs the server in memory: one connection for each device, the same over
//! TLS, many streams on a connection; and etcd's watchers in the same run.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use entitled::cli::stack::ServedCertificate;
use entitled::sandbox::IdentityToken;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Streaming};

use crate::machine::{self, Pinning};
use crate::raw::RawCodec;
use crate::servers::Part;
use crate::world::World;

const WATCH: &str = "/entitled.v1.EntitlementService/WatchEntitlements";
const ETCD_WATCH: &str = "/etcdserverpb.Watch/Watch";
/// Connections that are opened at once.
const AT_ONCE: usize = 32;
/// What every process needs whoever is connected is in memory by then.
const WARM: usize = 200;
/// Longer than the pause between two heartbeats.
const SETTLED_AFTER: Duration = Duration::from_secs(25);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const ETCD: &str = "/usr/bin/etcd";

#[derive(Args)]
pub(crate) struct IdleArgs {
    /// Devices with a connection each: a process has 20,000 descriptors here
    #[arg(long, default_value_t = 18_000)]
    devices: usize,
    /// Streams that share connections
    #[arg(long, default_value_t = 50_000)]
    multiplexed: usize,
    /// Streams on one connection of these
    #[arg(long, default_value_t = 100)]
    on_each: usize,
}

impl Default for IdleArgs {
    fn default() -> Self {
        Self {
            devices: 18_000,
            multiplexed: 50_000,
            on_each: 100,
        }
    }
}

/// One way to be connected.
struct Case {
    name: &'static str,
    streams: usize,
    on_each: usize,
    server: Server,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Plain,
    Tls,
    Etcd,
}

/// Resident memory of the server before and with the streams.
struct Measured {
    streams: usize,
    /// KiB for each stream, at a third of the streams and at all of them.
    early: f64,
    all: f64,
    /// Streams that ended while it was measured.
    lost: usize,
}

pub(crate) async fn run(args: &IdleArgs) -> anyhow::Result<Value> {
    let third = args.devices / 3;
    let cases = [
        ("plain", args.devices, 1, Server::Plain),
        ("etcd, plain", args.devices, 1, Server::Etcd),
        ("TLS", args.devices, 1, Server::Tls),
        ("multiplexed", args.multiplexed, args.on_each, Server::Plain),
        (
            "etcd, multiplexed",
            args.multiplexed,
            args.on_each,
            Server::Etcd,
        ),
    ];
    println!(
        "idle streams: {} with a connection each (first {third}), {} with {} to a connection; {}",
        args.devices,
        args.multiplexed,
        args.on_each,
        Pinning::detect().describe()
    );
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "KiB of server memory per stream",
        "streams",
        "at a third",
        "at all",
        "ended meanwhile",
    ]);
    let mut figures = serde_json::Map::new();
    for (name, streams, on_each, server) in cases {
        let case = Case {
            name,
            streams,
            on_each,
            server,
        };
        let measured = match server {
            Server::Plain | Server::Tls => ours(&case).await?,
            Server::Etcd => etcd_watchers(&case).await?,
        };
        println!(
            "{name}: {:.1} KiB at a third, {:.1} KiB at all {} streams",
            measured.early, measured.all, measured.streams
        );
        table.add_row([
            name.to_owned(),
            measured.streams.to_string(),
            format!("{:.1}", measured.early),
            format!("{:.1}", measured.all),
            measured.lost.to_string(),
        ]);
        figures.insert(
            name.into(),
            json!({
                "streams": measured.streams,
                "kib_per_stream_at_a_third": measured.early,
                "kib_per_stream": measured.all,
                "ended": measured.lost,
            }),
        );
    }
    println!("{table}\n");
    Ok(Value::Object(figures))
}

/// The real server; every stream has a user, an account and a credential of its own.
async fn ours(case: &Case) -> anyhow::Result<Measured> {
    let certificate = (case.server == Server::Tls).then(make_certificate);
    let certificate = certificate.transpose()?;
    let served = certificate.as_ref().map(|made| made.served.clone());
    let world = World::with(|options| options.tls = served).await?;
    let server = world.serve(Part::Serve).await?;
    let mut endpoint = Endpoint::from_shared(server.grpc()?.to_owned())?.tcp_nodelay(true);
    if let Some(made) = &certificate {
        let trusted = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&made.pem))
            .domain_name("localhost");
        endpoint = endpoint.tls_config(trusted)?;
    }
    let stores = &world.stack.sandbox;
    let open = async |channel: Channel, number: usize| {
        let token = stores.identity_token(&IdentityToken::of(&format!("device-{number}")))?;
        let credential: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
        let mut request = Request::new(Bytes::new());
        request.metadata_mut().insert("authorization", credential);
        let mut grpc = Grpc::new(channel);
        grpc.ready().await?;
        let path = PathAndQuery::from_static(WATCH);
        let answer = grpc.server_streaming(request, path, RawCodec).await?;
        anyhow::Ok(answer.into_inner())
    };
    let measured = measure(case, server.pid(), &endpoint, &open).await?;
    server.stop().await?;
    world.stop().await?;
    Ok(measured)
}

/// etcd with a watcher on a key of its own for each stream.
async fn etcd_watchers(case: &Case) -> anyhow::Result<Measured> {
    ensure!(
        std::path::Path::new(ETCD).exists(),
        "etcd is compared: apt install etcd-server"
    );
    let dir = std::env::temp_dir().join(format!("entitled-bench-etcd-{}", std::process::id()));
    let [clients, peers] = [free_port()?, free_port()?];
    let (clients, peers) = (
        format!("http://127.0.0.1:{clients}"),
        format!("http://127.0.0.1:{peers}"),
    );
    let mut command = Pinning::detect().server(std::path::Path::new(ETCD));
    command
        .arg("--data-dir")
        .arg(&dir)
        .args(["--listen-client-urls", &clients])
        .args(["--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers])
        .args(["--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        .args(["--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().context("etcd cannot be started")?;
    let pid = child.id().context("etcd has ended")?;
    let endpoint = Endpoint::from_shared(clients)?.tcp_nodelay(true);
    let up = async {
        while endpoint.connect().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(ANSWER_WITHIN, up).await.context("etcd is not up")?;
    let open = async |channel: Channel, number: usize| {
        let create = WatchRequest {
            create: Some(WatchCreate {
                key: format!("device-{number}").into_bytes(),
            }),
        };
        let wanted = stream::iter([Bytes::from(create.encode_to_vec())]).chain(stream::pending());
        let mut grpc = Grpc::new(channel);
        grpc.ready().await?;
        let path = PathAndQuery::from_static(ETCD_WATCH);
        let answer = grpc.streaming(Request::new(wanted), path, RawCodec).await?;
        anyhow::Ok(answer.into_inner())
    };
    let measured = measure(case, pid, &endpoint, &open).await;
    child.kill().await?;
    let _ = std::fs::remove_dir_all(&dir);
    measured
}

/// Opens the streams in two steps and looks at the server's memory after each.
async fn measure(
    case: &Case,
    pid: u32,
    endpoint: &Endpoint,
    open: &impl AsyncFn(Channel, usize) -> anyhow::Result<Streaming<Bytes>>,
) -> anyhow::Result<Measured> {
    let mut opened = connect(case, endpoint, open, 0, WARM).await?;
    sleep(Duration::from_secs(5)).await;
    let before = machine::resident_kib(pid)?;
    let mut per_stream = [0.0; 2];
    for (step, until) in [case.streams / 3, case.streams].into_iter().enumerate() {
        let from = opened.len();
        opened.extend(connect(case, endpoint, open, from, until.saturating_sub(from)).await?);
        sleep(SETTLED_AFTER).await;
        let grown = machine::resident_kib(pid)?.saturating_sub(before);
        per_stream[step] = grown as f64 / (opened.len() - WARM) as f64;
    }
    let mut lost = 0;
    for stream in &mut opened {
        // What has come meanwhile is taken; what has ended says so.
        while let Ok(next) = timeout(Duration::ZERO, stream.message()).await {
            if !matches!(next, Ok(Some(_))) {
                lost += 1;
                break;
            }
        }
    }
    ensure!(lost == 0, "{}: {lost} streams have ended", case.name);
    Ok(Measured {
        streams: opened.len(),
        early: per_stream[0],
        all: per_stream[1],
        lost,
    })
}

/// Opens `count` more streams; each has heard its first message.
async fn connect(
    case: &Case,
    endpoint: &Endpoint,
    open: &impl AsyncFn(Channel, usize) -> anyhow::Result<Streaming<Bytes>>,
    from: usize,
    count: usize,
) -> anyhow::Result<Vec<Streaming<Bytes>>> {
    let firsts = (from..from + count).step_by(case.on_each);
    let groups: Vec<Vec<Streaming<Bytes>>> = stream::iter(firsts)
        .map(async |first| {
            let channel = endpoint.connect().await?;
            let mut streams = Vec::with_capacity(case.on_each);
            for number in first..(first + case.on_each).min(from + count) {
                let mut stream = open(channel.clone(), number).await?;
                let first = timeout(ANSWER_WITHIN, stream.message()).await??;
                first.context("a stream ended at once")?;
                streams.push(stream);
            }
            anyhow::Ok(streams)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(groups.into_iter().flatten().collect())
}

/// `etcdserverpb.WatchRequest`, as far as it is needed.
#[derive(Clone, PartialEq, prost::Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create: Option<WatchCreate>,
}

/// `etcdserverpb.WatchCreateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct WatchCreate {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

struct Made {
    served: ServedCertificate,
    pem: String,
    _dir: tempdir::Dir,
}

fn make_certificate() -> anyhow::Result<Made> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let dir = tempdir::Dir::new()?;
    let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = dir.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let pem = made.cert.pem();
    let served = ServedCertificate {
        authority: file("authority.pem", &pem)?,
        certificate: file("certificate.pem", &pem)?,
        key: file("key.pem", &made.signing_key.serialize_pem())?,
    };
    Ok(Made {
        served,
        pem,
        _dir: dir,
    })
}

fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

mod tempdir {
    use std::path::PathBuf;

    /// Gone with its value.
    pub(super) struct Dir(pub(super) PathBuf);

    impl Dir {
        pub(super) fn new() -> anyhow::Result<Self> {
            let name = format!("entitled-bench-tls-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path)?;
            Ok(Self(path))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
