//! A caller's connection up to its first words: the TLS handshake, and what is said first, within
//! bounds. What comes after is hyper's, which would wait for a part of a greeting without limit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::debug;

/// Every HTTP/2 connection begins with it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is spoken behind TLS: gRPC needs the first; JSON and gRPC-Web come by either, and many
/// clients without gRPC know the second alone.
const SPOKEN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Serves TLS with one certificate chain.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

impl Tls {
    /// A PEM certificate chain, the server's own first, and its PEM private key.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub(crate) fn new(certificates: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = SPOKEN.map(<[u8]>::to_vec).to_vec();
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// A connection whose other side has greeted.
pub(super) struct Socket {
    stream: Either<TcpStream, TlsStream<TcpStream>>,
    /// The greeting, not yet read by whoever serves the connection.
    greeting: Bytes,
}

impl Socket {
    /// Returns once the other side has sent a whole HTTP/2 preface, or the start of anything else;
    /// none if it leaves before, or fails at TLS. Takes as long as the other side does.
    pub(super) async fn open(socket: TcpStream, tls: Option<Tls>) -> Option<Self> {
        let _ = socket.set_nodelay(true);
        let mut stream = match tls {
            None => Either::Left(socket),
            Some(Tls(acceptor)) => {
                let accepted = acceptor.accept(socket).await;
                let told = accepted.inspect_err(|error| debug!(%error, "TLS failed"));
                Either::Right(told.ok()?)
            }
        };
        let mut greeting = BytesMut::with_capacity(PREFACE.len());
        while PREFACE.starts_with(&greeting) && greeting.len() < PREFACE.len() {
            if stream.read_buf(&mut greeting).await.ok()? == 0 {
                return None;
            }
        }
        let greeting = greeting.freeze();
        Some(Self { stream, greeting })
    }
}

impl Socket {
    /// Whether it began as every HTTP/2 connection does.
    pub(super) fn speaks_http2(&self) -> bool {
        self.greeting == PREFACE
    }
}

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match &self.stream {
            Either::Left(socket) => socket.connect_info(),
            Either::Right(tls) => tls.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let length = self.greeting.len().min(into.remaining());
        into.put_slice(&self.greeting.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// What a connection that sends these pieces and then ends reads as; none if it never opens.
    async fn served(pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let opened = tokio::spawn(Socket::open(socket, None));
        for piece in pieces {
            caller.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        caller.shutdown().await.unwrap();
        let mut socket = opened.await.unwrap()?;
        let mut read = Vec::new();
        socket.read_to_end(&mut read).await.unwrap();
        Some(read)
    }

    #[tokio::test]
    async fn a_greeting_is_read_again_by_whoever_serves_it_and_half_of_one_is_none() {
        let (first, rest) = PREFACE.split_at(7);
        let whole: Vec<u8> = [PREFACE, b"settings"].concat();
        let read = served(&[first, rest, b"settings"]).await;
        assert_eq!(read, Some(whole));
        let request = b"POST /v1/entitlement:getEntitlements HTTP/1.1\r\n";
        assert_eq!(served(&[request]).await, Some(request.to_vec()));
        assert_eq!(served(&[b"P", b"UT /"]).await, Some(b"PUT /".to_vec()));
        assert_eq!(served(&[first]).await, None);
        assert_eq!(served(&[]).await, None);
    }
}
