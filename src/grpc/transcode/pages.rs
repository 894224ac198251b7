//! What the JSON API says about itself: its description, and what each reason means.

use std::collections::HashMap;

use bytes::Bytes;
use http::Response;
use prost_reflect::DescriptorPool;
use tonic::body::Body;

use super::openapi as description;
use super::routes::PREFIX;
use crate::proto;

const ERRORS: &str = include_str!("../../../docs/errors.md");
const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// Documents that need no credential, by path.
#[derive(Debug)]
pub(super) struct Pages(HashMap<String, (&'static str, Bytes)>);

impl Pages {
    pub(super) fn of(pool: &DescriptorPool) -> serde_json::Result<Self> {
        let mut pages = HashMap::new();
        let description = serde_json::to_vec(&description::document(pool))?;
        let path = format!("{PREFIX}openapi.json");
        pages.insert(path, (super::JSON, description.into()));
        for section in ERRORS.split("\n## `").skip(1) {
            if let Some((reason, _)) = section.split_once('`') {
                // The last reason is followed by a chapter that is none.
                let section = section.split("\n## ").next().unwrap_or(section);
                let text = format!("# `{}\n", section.trim_end());
                let path = format!("{PREFIX}errors/{reason}");
                pages.insert(path, (MARKDOWN, text.into()));
            }
        }
        Ok(Self(pages))
    }

    pub(super) fn get(&self, path: &str) -> Option<Response<Body>> {
        let (media_type, bytes) = self.0.get(path)?;
        Some(super::document(media_type, bytes.clone()))
    }
}

/// The description of the JSON API, for people to read.
///
/// # Errors
/// The descriptors cannot be read: a fault of the build.
pub(crate) fn openapi() -> anyhow::Result<String> {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS)?;
    Ok(serde_json::to_string_pretty(&description::document(&pool))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_page_of_its_own() {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("descriptors");
        let pages = Pages::of(&pool).expect("pages").0;
        let reasons = crate::grpc::status::Reason::ALL.map(|it| it.as_str());
        for reason in reasons.iter().chain(super::super::REASONS) {
            let page = pages.get(&format!("/v1/errors/{reason}"));
            let (_, text) = page.expect(reason);
            let text = std::str::from_utf8(text).expect("UTF-8");
            assert!(text.starts_with(&format!("# `{reason}`\n")), "{text}");
            assert!(!text.contains("\n## "), "{text}");
        }
    }
}
