//! Strangers against the API's listener (security's D1 to D14): who attacks is cut, or gets no more
//! than a share, and everybody else is served meanwhile.

mod floods;
mod raw;

use std::net::SocketAddr;
use std::time::Duration;

use entitled::app::{App, Roles};
use entitled::cli::client::Client;
use entitled::config::Config;
use raw::{End, frame, next_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{PATIENCE, World, assert_refused};

const GET: &str = "/entitled.v1.EntitlementService/GetEntitlements";
const WATCH: &str = "/entitled.v1.EntitlementService/WatchEntitlements";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const ENHANCE_YOUR_CALM: u32 = 11;
/// More than enough to be told in.
const FLOODED: Duration = Duration::from_secs(20);
const REFUSED_STREAM: [u8; 4] = 7_u32.to_be_bytes();

const SERVE: Roles = Roles {
    serve: true,
    webhooks: false,
    worker: false,
};

/// A door with limits of its own.
async fn door(world: &World, change: impl FnOnce(&mut Config)) -> App {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let changed = |config: &mut Config| {
        config.grpc.listen = any;
        config.admin.listen = any;
        change(config);
    };
    world.replica(SERVE, changed).await
}

fn address(app: &App) -> SocketAddr {
    let url = app.grpc_url().expect("an API");
    let (_, address) = url.split_once("://").expect("a URL");
    address.parse().expect("an address")
}

/// Whether whoever is at the other end closes within a while.
async fn closes(mut socket: TcpStream) -> bool {
    let end = async { while let Ok(1..) = socket.read(&mut [0; 256]).await {} };
    tokio::time::timeout(PATIENCE, end).await.is_ok()
}

/// D1 to D8: told that it is enough, while a client goes on over its own connection.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_and_others_go_on() {
    let world = World::start().await;
    let server = address(&world.stack.app);
    let mut alice = world.client("alice").await;
    alice.get().await.expect("served before");
    let bearer = format!("Bearer {}", world.token("mallory"));
    let mut others = Vec::new();
    for kind in floods::Kind::ALL {
        let mut flooder = floods::Flooder::new(kind, GET, Some(&bearer));
        let socket = raw::connect(server, None).await.expect("connects");
        let first = flooder.first();
        let flood = raw::flood(socket, &first, || flooder.next(), FLOODED);
        let (flood, served) = tokio::join!(flood, alice.get());
        served.expect("served meanwhile");
        if flood.end != End::GoAway(ENHANCE_YOUR_CALM) {
            others.push((kind, flood.end, flood.after, flood.sent));
        }
    }
    assert!(others.is_empty(), "not told that it is enough: {others:?}");
    alice.get().await.expect("served after");
    world.stop().await;
}

/// D9 and D10: half of TLS's first message, half of HTTP/2's first words, nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_greet_is_gone() {
    let world = World::start().await;
    let soon = |config: &mut Config| config.limits.greeting_seconds = 1;
    let plain = door(&world, soon).await;
    let tls = door(&world, |config| {
        soon(config);
        Certificate::make(&world, "greeted").serve(config);
    })
    .await;
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    for (app, said) in [
        (&plain, &raw::PREFACE[..7]),
        (&plain, b""),
        (&tls, &hello),
        (&tls, b""),
    ] {
        let mut socket = TcpStream::connect(address(app)).await.expect("connects");
        socket.write_all(said).await.expect("said");
        assert!(closes(socket).await, "{said:?}");
    }
    for app in [plain, tls] {
        app.stop().await;
    }
    world.stop().await;
}

/// By an address's share of connections, which a proxy names; and by nobody but a proxy.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_its_share_wherever_it_comes_from() {
    let world = World::start().await;
    let behind_proxy = |config: &mut Config| {
        config.grpc.trusted_proxies = vec!["127.0.0.1".to_owned()];
        config.grpc.proxy_protocol = true;
        config.limits.connections_per_address = 3;
    };
    let app = door(&world, behind_proxy).await;
    let server = address(&app);
    let (mallory, alice): (SocketAddr, SocketAddr) = (
        "203.0.113.7:1000".parse().expect("one"),
        "203.0.113.8:1000".parse().expect("one"),
    );
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(
            greeted(server, Some(mallory))
                .await
                .expect("one of its share"),
        );
    }
    assert!(
        greeted(server, Some(mallory)).await.is_none(),
        "one too many"
    );
    assert!(greeted(server, Some(alice)).await.is_some());
    assert!(greeted(server, None).await.is_none(), "who names nobody");
    // One that has left makes room; how many may come in a while is another share.
    drop(held.pop());
    app.stop().await;

    let stranger = door(&world, |config| {
        behind_proxy(config);
        config.grpc.trusted_proxies = vec!["10.0.0.1".to_owned()];
    })
    .await;
    let by_itself = greeted(address(&stranger), Some(alice)).await;
    assert!(by_itself.is_none(), "who is no proxy of ours");
    stranger.stop().await;
    world.stop().await;
}

/// A connection that the server has answered; none if it was closed.
async fn greeted(server: SocketAddr, client: Option<SocketAddr>) -> Option<TcpStream> {
    let mut socket = raw::connect(server, client).await.ok()?;
    socket.write_all(&raw::greeting(&[])).await.ok()?;
    next_frame(&mut socket).await.ok()?;
    Some(socket)
}

/// D11: as many streams as a connection may have, and as many as an account.
#[tokio::test(flavor = "multi_thread")]
async fn streams_end_where_their_number_does() {
    let world = World::start().await;
    let app = door(&world, |config| {
        config.limits.streams_per_connection = 100;
        config.limits.streams_per_account = 5;
    })
    .await;
    let mut socket = raw::connect(address(&app), None).await.expect("connects");
    let bearer = format!("Bearer {}", world.token("mallory"));
    let call = raw::call(WATCH, Some(&bearer));
    // The request's message stays away: each is under way for as long as it lives.
    let mut sent = raw::greeting(&[]);
    for number in 0..110_u32 {
        sent.extend(frame(raw::HEADERS, raw::END_HEADERS, 2 * number + 1, &call));
    }
    socket.write_all(&sent).await.expect("sent");
    let mut refused = 0;
    while refused < 10 {
        let (kind, _, _, payload) = next_frame(&mut socket).await.expect("a frame");
        if kind == raw::RST_STREAM {
            assert_eq!(payload, REFUSED_STREAM);
            refused += 1;
        }
    }

    let url = app.grpc_url().expect("an API");
    let mut client = Client::connect(&url, &world.token("alice"))
        .await
        .expect("connects");
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(client.watch().await.expect("one of its share"));
    }
    let status = client.watch().await.expect_err("one too many");
    assert_refused(&status, Code::ResourceExhausted, "TOO_MANY_STREAMS");
    assert!(status.get_details_retry_info().is_some());
    app.stop().await;
    world.stop().await;
}

/// D12: who asks on and on and reads nothing of the answers.
#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_is_cut() {
    let world = World::start().await;
    let app = door(&world, |config| config.limits.stalled_seconds = 1).await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("small");
    let mut socket = socket.connect(address(&app)).await.expect("connects");
    // The largest windows: nothing but the socket holds answers back.
    let widest = raw::greeting(&[(4, 0x7fff_ffff)]);
    let all = frame(raw::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    socket
        .write_all(&[widest, all].concat())
        .await
        .expect("greets");
    let call = raw::call(HEALTH, None);
    let mut stream = 1;
    let asks = async {
        loop {
            let mut sent = Vec::new();
            for _ in 0..64 {
                sent.extend(frame(raw::HEADERS, raw::END_HEADERS, stream, &call));
                let empty = raw::message(false, b"");
                sent.extend(frame(raw::DATA, raw::END_STREAM, stream, &empty));
                stream += 2;
            }
            if socket.write_all(&sent).await.is_err() {
                return;
            }
        }
    };
    let cut = tokio::time::timeout(PATIENCE, asks).await;
    assert!(cut.is_ok(), "it is still held");
    app.stop().await;
    world.stop().await;
}

/// D7 and D12: who reads, and opens no window for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_end_with_their_connection() {
    let world = World::start().await;
    let app = door(&world, |config| config.limits.stalled_seconds = 1).await;
    let mut socket = raw::connect(address(&app), None).await.expect("connects");
    let no_window = raw::greeting(&[(4, 0)]);
    let call = frame(raw::HEADERS, raw::END_HEADERS, 1, &raw::call(HEALTH, None));
    let asked = frame(raw::DATA, raw::END_STREAM, 1, &raw::message(false, b""));
    socket
        .write_all(&[no_window, call, asked].concat())
        .await
        .expect("asks");
    assert!(closes(socket).await);
    app.stop().await;
    world.stop().await;
}

/// D13: messages that say they are larger than any request, or that are packed.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_too_large_are_refused_unread() {
    let world = World::start().await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge();
    let client = client.build().expect("a client");
    let announced = [&[0, 4, 0, 0, 0][..], &[0; 100]].concat();
    let packed = raw::message(true, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0]);
    // OUT_OF_RANGE for 64 MiB; UNIMPLEMENTED: nothing is unpacked.
    for (said, encoding, status) in [
        (announced, "identity", "11"),
        (packed.clone(), "identity", "13"),
        (packed, "gzip", "12"),
    ] {
        let call = client
            .post(format!("{}{GET}", world.stack.address.server))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-encoding", encoding)
            .bearer_auth(world.token("mallory"));
        let answer = call.body(said).send().await.expect("an answer");
        let told = answer
            .headers()
            .get("grpc-status")
            .expect("refused at once");
        assert_eq!(told, status, "{encoding}: {answer:?}");
    }
    world.stop().await;
}

/// Calls beyond what the server can have under way are told to come back, and are served then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_at_once_is_told_to_come_back() {
    let world = World::start().await;
    let app = door(&world, |config| config.limits.calls = 2).await;
    let url = app.grpc_url().expect("an API");
    let mut alice = Client::connect(&url, &world.token("alice"))
        .await
        .expect("connects");
    alice.get().await.expect("served before");

    // Two calls whose messages stay away.
    let mut socket = raw::connect(address(&app), None).await.expect("connects");
    let bearer = format!("Bearer {}", world.token("mallory"));
    let call = raw::call(GET, Some(&bearer));
    let two = [1, 3].map(|stream| frame(raw::HEADERS, raw::END_HEADERS, stream, &call));
    socket
        .write_all(&[raw::greeting(&[]), two.concat()].concat())
        .await
        .expect("sent");
    let refused = async {
        loop {
            if let Err(status) = alice.products().await {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("refused");
    assert_refused(&status, Code::Unavailable, "OVERLOADED");
    assert!(status.get_details_retry_info().is_some());
    drop(socket);
    let served = async { while alice.products().await.is_err() {} };
    tokio::time::timeout(PATIENCE, served)
        .await
        .expect("served after");
    app.stop().await;
    world.stop().await;
}

/// A certificate in files.
struct Certificate {
    pem: String,
    key_pem: String,
    files: [std::path::PathBuf; 2],
}

impl Certificate {
    fn make(world: &World, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let dir = world.stack.address.config.parent().expect("a directory");
        let one = Self {
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            files: ["crt", "key"].map(|kind| dir.join(format!("{name}.{kind}"))),
        };
        one.write();
        one
    }

    fn write(&self) {
        let [pem, key] = &self.files;
        std::fs::write(key, &self.key_pem).expect("written");
        std::fs::write(pem, &self.pem).expect("written");
    }

    fn serve(&self, config: &mut Config) {
        let [pem, key] = self.files.clone();
        (config.grpc.tls_certificate, config.grpc.tls_key) = (Some(pem), Some(key));
    }

    fn client(&self) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.pem.as_bytes()).expect("a certificate");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        client.build().expect("a client")
    }
}

/// A certificate that is replaced serves whoever comes then; who is there already stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_and_old_connections_live_on() {
    let world = World::start().await;
    let old = Certificate::make(&world, "server");
    let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
        .expect("a handler before the first signal");
    let app = door(&world, |config| old.serve(config)).await;
    let url = format!("https://localhost:{}/v1/openapi.json", address(&app).port());
    let by_old = old.client();
    assert!(
        by_old
            .get(&url)
            .send()
            .await
            .expect("served")
            .status()
            .is_success()
    );

    let new = Certificate::make(&world, "server");
    let by_new = new.client();
    let taken_up = async {
        while by_new.get(&url).send().await.is_err() {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::HUP).expect("told");
            hangups.recv().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken_up)
        .await
        .expect("taken up");
    // The connection that it keeps has been there all the time.
    assert!(
        by_old
            .get(&url)
            .send()
            .await
            .expect("served")
            .status()
            .is_success()
    );
    let stranger = old.client().get(&url).send().await;
    assert!(stranger.is_err(), "nobody is shown the old one any more");
    app.stop().await;
    world.stop().await;
}
