//! The PROXY protocol, version 2: in front of everything else, a proxy says whose connection it
//! passes on.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Signature, version, family, and the length of what follows.
const FIXED_BYTES: usize = 16;
/// Of what follows: two addresses, and what proxies add to them (TLS, an endpoint's name).
const REST_BYTES_MAX: usize = 1_024;

/// The client that a proxy names; none if the connection is the proxy's own (a health check).
///
/// # Errors
/// It is no header of version 2, or larger than any proxy's; nothing more is to be read.
pub(super) async fn client(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > REST_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    header.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await?;
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1: false,
        allow_v2: true,
    };
    let (parsed, _) = ProxyHeader::parse(&header, config).map_err(io::Error::other)?;
    Ok(parsed.proxied_address().map(|named| named.source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// What is read of these bytes, and what is left for whoever reads on.
    async fn read(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut rest = bytes;
        let named = client(&mut rest).await;
        (named, rest.len())
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn a_proxy_names_its_client_and_not_a_byte_more_is_read() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x15, 0xb3, 0x01, 0xbb];
        let (named, left) = read(&[&header(0x21, 0x11, &v4)[..], b"PRI"].concat()).await;
        assert_eq!(named.unwrap(), Some("203.0.113.7:5555".parse().unwrap()));
        assert_eq!(left, 3);

        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 1;
        v6[32..34].copy_from_slice(&5_555_u16.to_be_bytes());
        // With what a proxy adds behind the addresses.
        let rest = [&v6[..], &[0x04, 0, 2, b'h', b'i']].concat();
        let (named, left) = read(&header(0x21, 0x21, &rest)).await;
        assert_eq!(named.unwrap(), Some("[2001:db8::1]:5555".parse().unwrap()));
        assert_eq!(left, 0);

        let (named, _) = read(&header(0x20, 0x00, &[])).await;
        assert_eq!(named.unwrap(), None, "a health check of the proxy's own");
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let short = header(0x21, 0x11, &[203, 0, 113, 7]);
        let large = header(0x21, 0x11, &[0; 2_000]);
        for bytes in [
            &b"PROXY TCP4 203.0.113.7 10.0.0.1 5555 443\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &header(0x31, 0x11, &[0; 12]),
            &header(0x22, 0x11, &[0; 12]),
            &short,
            &large,
            &SIGNATURE[..5],
            b"",
        ] {
            assert!(read(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
