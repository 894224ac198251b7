//! Answers that a caller may keep: named by an `ETag`, and not sent again to whoever has them.
//!
//! By the convention of `proto/`: an RPC without side effects that is told a `known_revision` answers
//! with the `revision` of what it says. The name is a weak one (RFC 9110, 8.8.1): it holds as long as
//! what is said is the same, while the catalog's version beside it may have gone on.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};
use serde::Deserialize;
use tonic::body::Body;

/// Every answer needed a credential: only the caller's own cache keeps it, and asks each time whether
/// it still is what there is, so that a credential that has ended reads nothing.
pub(super) const CACHE_CONTROL: &str = "private, no-cache";

/// Whether answers of this RPC are named by a revision.
pub(super) fn is_kept(method: &MethodDescriptor) -> bool {
    let has_text = |message: MessageDescriptor, name| {
        let field = message.get_field_by_name(name);
        field.is_some_and(|field| field.kind() == Kind::String && !field.is_list())
    };
    super::routes::reads(method)
        && !method.is_server_streaming()
        && has_text(method.input(), "known_revision")
        && has_text(method.output(), "revision")
}

#[derive(Deserialize)]
struct Named {
    revision: String,
}

/// The answer with its name, or that the caller has it. `None`: it has no name.
pub(super) fn answer(json: &[u8], asked: &HeaderMap) -> Option<Response<Body>> {
    let Named { revision } = serde_json::from_slice(json).ok()?;
    let name = format!("\"{revision}\"");
    let mut response = match has(asked, &name) {
        true => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        false => super::document(super::JSON, Bytes::copy_from_slice(json)),
    };
    let headers = response.headers_mut();
    let name = HeaderValue::try_from(format!("W/{name}")).ok()?;
    headers.insert(header::ETAG, name);
    let kept = HeaderValue::from_static(CACHE_CONTROL);
    headers.insert(header::CACHE_CONTROL, kept);
    Some(response)
}

/// Whether `If-None-Match` names it, weakly or strongly. Our names hold no comma.
fn has(asked: &HeaderMap, name: &str) -> bool {
    let values = asked.get_all(header::IF_NONE_MATCH).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == name)
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::super::routes;
    use super::*;
    use crate::proto;

    fn asking(name: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, name.parse().expect("a header"));
        headers
    }

    #[test]
    fn whoever_names_the_answer_is_not_sent_it() {
        let json = br#"{"revision":"r"}"#;
        let first = answer(json, &HeaderMap::new()).expect("named");
        assert_eq!(first.status(), StatusCode::OK);
        let name = &first.headers()[header::ETAG];
        assert_eq!(name, "W/\"r\"");
        for known in [
            "W/\"r\"",
            "\"r\"",
            "\"x\", \"r\"",
            "\"x\" ,W/\"r\",\"y\"",
            "*",
        ] {
            let again = answer(json, &asking(known)).expect("named");
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[header::ETAG], name);
            assert_eq!(again.headers()[header::CACHE_CONTROL], CACHE_CONTROL);
            assert!(!again.headers().contains_key(header::CONTENT_TYPE));
        }
        for unknown in ["r", "\"x\"", "", "W/*", "\"R\""] {
            let again = answer(json, &asking(unknown)).expect("named");
            assert_eq!(again.status(), StatusCode::OK, "{unknown}");
        }
        assert!(answer(br#"{"other":1}"#, &HeaderMap::new()).is_none());
    }

    #[test]
    fn what_is_kept_is_what_is_sold_and_nothing_of_an_account() {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("descriptors");
        let kept: Vec<String> = routes::services(&pool)
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(is_kept)
            .map(|method| method.name().to_owned())
            .collect();
        assert_eq!(kept, ["ListProducts"]);
    }
}
