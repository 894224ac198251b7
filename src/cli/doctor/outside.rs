//! What can be seen from outside the database: the public address, and what the server turned away.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::CALL_TIMEOUT;
use crate::config::Config;
use crate::domain::guide::Step;
use crate::flows::examine::{Finding, Health};
use crate::http::{Answer, HttpClient};

/// Who sends to which path.
const PATHS: [(&str, &str); 2] = [("app_store", "app-store"), ("google_play", "google-play")];

/// Knocks where the stores will: whether it is this server that answers, over a connection whose
/// certificate holds.
pub(super) async fn address(config: &Config) -> Vec<Finding> {
    let step = Step::ADDRESS;
    let Some(base) = &config.webhooks.public_url else {
        return vec![Finding::of(
            step,
            Health::Warn,
            "unknown",
            "set webhooks.public_url to where the stores reach the server: then it is tried",
        )];
    };
    let Ok(http) = HttpClient::new(CALL_TIMEOUT) else {
        return Vec::new();
    };
    let wanted = PATHS.into_iter().filter(|(source, _)| match *source {
        "app_store" => config.app_store.is_some(),
        _ => config.google_play.is_some(),
    });
    let mut findings = Vec::new();
    for (_, path) in wanted {
        let url = format!("{}/webhooks/{path}", base.trim_end_matches('/'));
        findings.push(knock(&http, &url).await);
    }
    if findings.is_empty() {
        findings.push(Finding::of(
            step,
            Health::Ok,
            format!("{base}; no store is configured yet"),
            "",
        ));
    }
    findings
}

async fn knock(http: &HttpClient, url: &str) -> Finding {
    let step = Step::ADDRESS;
    let Ok(parsed) = url.parse() else {
        return Finding::of(step, Health::Fail, url, "webhooks.public_url is not a URL");
    };
    let empty = Some(Bytes::new());
    match http
        .send(Method::POST, parsed, HeaderMap::new(), empty)
        .await
    {
        Ok(answer) if is_ours(&answer) => {
            let found = format!("{url}: this server answers");
            Finding::of(step, Health::Ok, found, "")
        }
        Ok(answer) => Finding::of(
            step,
            Health::Fail,
            format!("{url}: something else answers, with {}", answer.status),
            "have what stands in front pass /webhooks/… on to webhooks.listen, unchanged",
        ),
        Err(error) => Finding::of(
            step,
            Health::Fail,
            format!("{url}: {error}"),
            "does the webhook role run? check name, certificate (a public authority's, with its \
             chain) and firewall; from inside a network its own address may not be reachable",
        ),
    }
}

/// The webhook listener turns an empty message away in words of its own.
fn is_ours(answer: &Answer) -> bool {
    let refused = matches!(
        answer.status,
        StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE
    );
    let problem: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let title = problem
        .as_ref()
        .and_then(|problem| problem["title"].as_str());
    refused && matches!(title, Some("NOT_AUTHENTIC" | "TRY_AGAIN"))
}

/// What the server on this machine counted as forged: a wrong identity of pushes shows nowhere else.
pub(super) async fn refused(config: &Config) -> Vec<Finding> {
    let Ok(http) = HttpClient::new(CALL_TIMEOUT) else {
        return Vec::new();
    };
    let Ok(url) = format!("http://{}/metrics", here(config.admin.listen)).parse() else {
        return Vec::new();
    };
    // Another machine, another role, or not started: there is nothing to read then.
    let Ok(answer) = http.get(url).await else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&answer.body);
    let counted = PATHS.into_iter().filter_map(|(source, _)| {
        let count = rejected(&text, source)?;
        let (step, next) = match source {
            "google_play" => (
                Step::GOOGLE_PUSH,
                "if they are yours: audience, email and subscription of [google_play.push] must be \
                 those of the push subscription, to the letter",
            ),
            _ => (
                Step::APPLE_NOTIFICATIONS,
                "if they are Apple's: App Store Connect must say Version 2, and nothing in front \
                 may change the body",
            ),
        };
        Some(Finding::of(
            step,
            Health::Warn,
            format!("{count} messages were turned away as not authentic since the server started"),
            next,
        ))
    });
    counted.collect()
}

/// Where a listener of this machine is reached from this machine.
fn here(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

/// `entitled_notifications_rejected_total{provider="…",why="forged"} 3`; nothing if none.
fn rejected(metrics: &str, source: &str) -> Option<u64> {
    let provider = format!("provider=\"{source}\"");
    let lines = metrics.lines().filter(|line| {
        line.starts_with("entitled_notifications_rejected_total{")
            && line.contains(&provider)
            && line.contains("why=\"forged\"")
    });
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    let sum: f64 = counts.sum();
    (sum >= 1.0).then_some(sum as u64)
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_turned_away_is_read_from_the_metrics() {
        let text = "# TYPE entitled_notifications_rejected_total counter\n\
            entitled_notifications_rejected_total{provider=\"google_play\",why=\"forged\"} 3\n\
            entitled_notifications_rejected_total{provider=\"google_play\",why=\"unavailable\"} 9\n";
        assert_eq!(rejected(text, "google_play"), Some(3));
        assert_eq!(rejected(text, "app_store"), None);
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_this_machine() {
        for (listens, reached) in [
            ("0.0.0.0:8082", "127.0.0.1:8082"),
            ("[::]:8082", "[::1]:8082"),
            ("10.0.0.7:8082", "10.0.0.7:8082"),
        ] {
            let listens: SocketAddr = listens.parse().expect("an address");
            assert_eq!(here(listens).to_string(), reached);
        }
    }

    #[test]
    fn only_our_own_refusal_is_ours() {
        let answer = |status: u16, body: &'static str| Answer {
            status: StatusCode::from_u16(status).unwrap_or_default(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        assert!(is_ours(&answer(401, r#"{"title": "NOT_AUTHENTIC"}"#)));
        assert!(is_ours(&answer(503, r#"{"title": "TRY_AGAIN"}"#)));
        assert!(!is_ours(&answer(401, "")));
        assert!(!is_ours(&answer(200, r#"{"title": "NOT_AUTHENTIC"}"#)));
        assert!(!is_ours(&answer(404, "<html>")));
    }
}
