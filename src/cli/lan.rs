//! `dev --lan`: where phones and emulators find this computer, and what lets them speak plain HTTP.

use std::net::{IpAddr, UdpSocket};

/// An address for documentation: nothing is sent there, its route is asked for.
const ELSEWHERE: &str = "192.0.2.1:9";
/// Where Android's emulator has the computer it runs on.
const EMULATORS_HOST: &str = "10.0.2.2";

/// This computer's address on its network; none if it is on none.
pub(super) fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// How to reach the server from devices.
pub(super) fn introduction(address: Option<IpAddr>, port: u16) -> String {
    let phones = match address {
        Some(address) => format!("http://{address}:{port}   (on the same network)"),
        None => "this computer is on no network now".to_owned(),
    };
    let host = address.map_or_else(|| EMULATORS_HOST.to_owned(), |it| it.to_string());
    format!(
        "\nFrom devices (anybody on this network can reach it; a token is needed all the same):\n\
         \n  phones             {phones}\
         \n  Android emulator   http://{EMULATORS_HOST}:{port}\
         \n  iOS simulator      http://127.0.0.1:{port}\
         \n\nIt is plain HTTP, and an app must be allowed that, in its debug build alone.\n\
         \niOS, Info.plist (URLSession; gRPC over NIO or Network.framework only needs to be told \
         plaintext):\n\
         \n  <key>NSAppTransportSecurity</key>\
         \n  <dict>\
         \n    <key>NSAllowsLocalNetworking</key><true/>\
         \n    <key>NSExceptionDomains</key>\
         \n    <dict>\
         \n      <key>{host}</key>\
         \n      <dict><key>NSExceptionAllowsInsecureHTTPLoads</key><true/></dict>\
         \n    </dict>\
         \n  </dict>\
         \n  <key>NSLocalNetworkUsageDescription</key><string>The development server</string>\
         \n\nAndroid, src/debug/AndroidManifest.xml (and usePlaintext() on gRPC's channel builder):\n\
         \n  <manifest xmlns:android=\"http://schemas.android.com/apk/res/android\">\
         \n    <application android:usesCleartextTraffic=\"true\" />\
         \n  </manifest>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_device_is_told_its_address() {
        let text = introduction("192.168.1.23".parse().ok(), 8080);
        for address in ["192.168.1.23:8080", "10.0.2.2:8080", "127.0.0.1:8080"] {
            assert!(text.contains(&format!("http://{address}")), "{text}");
        }
        assert!(text.contains("<key>192.168.1.23</key>"), "{text}");
        assert!(introduction(None, 8080).contains("no network"));
    }
}
