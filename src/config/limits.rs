//! `[limits]`: what strangers may take of the gRPC listener. Why each is what it is stands in
//! `docs/operations.md`.

use serde::Deserialize;

/// The header in which a proxy says whose request it passes on. One alone is believed: a proxy
/// passes on what callers write into the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ForwardedBy {
    /// Addresses, the last one by the last proxy.
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// RFC 7239.
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections at once; default 0: as many as the process may have descriptors, but 512.
    pub connections: u32,
    /// Connections of one public address (an IPv4 address, or 64 bits of IPv6) at once; default
    /// 1,024.
    pub connections_per_address: u32,
    /// How many it may open each second, once it has opened as many as it may hold; default 64.
    pub connections_per_address_per_second: u32,
    /// Seconds for the PROXY protocol's header, TLS and the start of HTTP together; default 8.
    pub greeting_seconds: u32,
    /// Seconds for which the other side may take nothing of what is written to it; default 10.
    pub stalled_seconds: u32,
    /// Requests and streams of one connection at once; default 256.
    pub streams_per_connection: u32,
    /// Streams of one account at once, on this replica; default 64.
    pub streams_per_account: u32,
    /// Seconds that a call may take, streams excepted; default 30.
    pub request_seconds: u32,
    /// Calls at once, open streams excepted; beyond it calls are told to come back. Default 2,048.
    pub calls: u32,
    /// Binds and refreshes of one account in a minute, on this replica; default 60. A bind takes
    /// one, a refresh as much as six.
    pub account_calls_per_minute: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 0,
            connections_per_address: 1_024,
            connections_per_address_per_second: 64,
            greeting_seconds: 8,
            stalled_seconds: 10,
            streams_per_connection: 256,
            streams_per_account: 64,
            request_seconds: 30,
            calls: 2_048,
            account_calls_per_minute: 60,
        }
    }
}

impl LimitsConfig {
    pub(super) fn validate(&self) -> Vec<String> {
        let least = [
            ("connections_per_address", self.connections_per_address, 1),
            (
                "connections_per_address_per_second",
                self.connections_per_address_per_second,
                1,
            ),
            ("greeting_seconds", self.greeting_seconds, 1),
            ("stalled_seconds", self.stalled_seconds, 1),
            // RFC 9113 6.5.2 recommends no fewer.
            ("streams_per_connection", self.streams_per_connection, 100),
            ("streams_per_account", self.streams_per_account, 1),
            // A bind waits for its store as long as 10 s.
            ("request_seconds", self.request_seconds, 15),
            ("calls", self.calls, 1),
            // One refresh takes six.
            ("account_calls_per_minute", self.account_calls_per_minute, 6),
        ];
        least
            .into_iter()
            .filter(|(_, value, least)| value < least)
            .map(|(name, value, least)| format!("limits.{name} is {value}; give {least} or more"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_shut_everybody_out_is_refused() {
        assert_eq!(LimitsConfig::default().validate(), Vec::<String>::new());
        let limits = LimitsConfig {
            streams_per_connection: 10,
            calls: 0,
            ..LimitsConfig::default()
        };
        assert_eq!(
            limits.validate(),
            [
                "limits.streams_per_connection is 10; give 100 or more",
                "limits.calls is 0; give 1 or more",
            ]
        );
    }
}
