//! Where strangers' connections come in: accepted, named by address, greeted in time, counted by
//! address, and cut when what they send is of no use to anybody.
//!
//! Nothing of this knows what is served behind it. How the limits were chosen stands in decision
//! 0019 and in `docs/operations.md`.

mod accept;
mod address;
mod frames;
mod places;
mod proxy_protocol;
mod socket;
mod tls;

pub(crate) use accept::Edge;
pub(crate) use address::{AddressClass, TrustedProxies};
pub(crate) use socket::Socket;
pub(crate) use tls::Tls;
