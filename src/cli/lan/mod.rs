//! `dev --lan`: where phones and emulators find this computer, and what lets them speak to it: an
//! exception for plain HTTP, or a certificate that they trust.

mod authority;
mod offer;

use std::net::{IpAddr, UdpSocket};

pub(super) use authority::{Kept, keep, sound_name};
pub(super) use offer::Offer;

/// An address for documentation: nothing is sent there, its route is asked for.
const ELSEWHERE: &str = "192.0.2.1:9";
/// Where Android's emulator has the computer it runs on.
const EMULATORS_HOST: &str = "10.0.2.2";
/// This computer for itself, and for the iOS simulator.
const HERE: &str = "127.0.0.1";
/// How far behind the API's port the authority's certificate is offered.
pub(super) const OFFER_AFTER: u16 = 4;

/// This computer's address on its network; none if it is on none.
pub(super) fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// Everything that devices may call this computer by; `others` are the user's own.
pub(super) fn names(address: Option<IpAddr>, others: &[String]) -> Vec<String> {
    let fixed = ["localhost", HERE, EMULATORS_HOST].map(str::to_owned);
    let mut names: Vec<String> = fixed
        .into_iter()
        .chain(address.map(|address| address.to_string()))
        .chain(others.iter().cloned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// How to reach the server from devices.
pub(super) fn introduction(address: Option<IpAddr>, port: u16, kept: Option<&Kept>) -> String {
    let scheme = if kept.is_some() { "https" } else { "http" };
    let phones = match address {
        Some(address) => format!("{scheme}://{address}:{port}   (on the same network)"),
        None => "this computer is on no network now".to_owned(),
    };
    let host = address.map_or_else(|| EMULATORS_HOST.to_owned(), |it| it.to_string());
    let how = match kept {
        Some(kept) => by_certificate(&host, port, kept),
        None => by_exception(&host),
    };
    format!(
        "\nFrom devices. Anybody on this network can reach it, and make an account without a sign-in, \
         as your app can; everything else needs a token.\n\
         \n  phones             {phones}\
         \n  Android emulator   {scheme}://{EMULATORS_HOST}:{port}\
         \n  iOS simulator      {scheme}://{HERE}:{port}\
         \n{how}"
    )
}

/// What an app must be allowed.
fn by_exception(host: &str) -> String {
    format!(
        "\nIt is plain HTTP, and an app must be allowed that, in its debug build alone; with --tls \
         it is not.\n\
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

/// What a device must trust.
fn by_certificate(host: &str, port: u16, kept: &Kept) -> String {
    let Kept {
        files,
        name,
        fingerprint,
        ..
    } = kept;
    let file = files.authority.display();
    let offer = port + OFFER_AFTER;
    format!(
        "\nThe certificate is of \"{name}\", an authority of this directory alone, good for private \
         addresses, .local names and what --tls-name says. Devices are told once to trust it:\n\
         \n  from a device      http://{host}:{offer}\
         \n  on this computer   {file}\
         \n  its SHA-256        {fingerprint}\n\
         \niPhone, iPad: open the first in Safari and allow the profile; install it in Settings → \
         General → VPN & Device Management; turn it on in Settings → General → About → Certificate \
         Trust Settings.\n\
         \niOS simulator:\n\
         \n  xcrun simctl keychain booted add-root-cert {file}\n\
         \nInfo.plist then needs no exception, on a phone only\n\
         \n  <key>NSLocalNetworkUsageDescription</key><string>The development server</string>\n\
         \nAndroid, phones and the emulator: nothing is installed, the debug build alone brings it \
         along. Copy the file to src/debug/res/raw/entitled_dev.crt;\
         \nsrc/debug/AndroidManifest.xml:\n\
         \n  <manifest xmlns:android=\"http://schemas.android.com/apk/res/android\">\
         \n    <application android:networkSecurityConfig=\"@xml/entitled_dev\" />\
         \n  </manifest>\n\
         \nsrc/debug/res/xml/entitled_dev.xml:\n\
         \n  <network-security-config>\
         \n    <debug-overrides>\
         \n      <trust-anchors><certificates src=\"@raw/entitled_dev\" /></trust-anchors>\
         \n    </debug-overrides>\
         \n  </network-security-config>\n\
         \nHere: curl --cacert {file} https://{HERE}:{port}/v1/openapi.json"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn every_kind_of_device_is_told_its_address() {
        let address = "192.168.1.23".parse().ok();
        let plain = introduction(address, 8080, None);
        for address in ["192.168.1.23:8080", "10.0.2.2:8080", "127.0.0.1:8080"] {
            assert!(plain.contains(&format!("http://{address}")), "{plain}");
        }
        assert!(plain.contains("<key>192.168.1.23</key>"), "{plain}");
        assert!(introduction(None, 8080, None).contains("no network"));

        let dir = std::env::temp_dir().join(format!("entitled-lan-{}", uuid::Uuid::new_v4()));
        let kept = keep(&dir, &names(address, &[]), Clock::System.now()).unwrap();
        let _ = std::fs::remove_dir_all(&dir);
        let trusted = introduction(address, 8080, Some(&kept));
        for address in ["192.168.1.23:8080", "10.0.2.2:8080", "127.0.0.1:8080"] {
            assert!(trusted.contains(&format!("https://{address}")), "{trusted}");
        }
        assert!(trusted.contains("http://192.168.1.23:8084"), "{trusted}");
        assert!(trusted.contains(&kept.fingerprint), "{trusted}");
        assert!(!trusted.contains("NSExceptionDomains"), "{trusted}");
        assert!(!trusted.contains("usesCleartextTraffic"), "{trusted}");
    }

    #[test]
    fn each_name_is_in_the_certificate_once() {
        let others = ["studio.local".to_owned(), HERE.to_owned()];
        let names = names("192.168.1.23".parse().ok(), &others);
        assert_eq!(
            names,
            [
                "10.0.2.2",
                HERE,
                "192.168.1.23",
                "localhost",
                "studio.local"
            ]
        );
    }
}
