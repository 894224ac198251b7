//! Every reason that is sent is explained.

use super::*;

#[test]
fn every_reason_is_explained_in_the_docs() {
    let docs = include_str!("../../docs/errors.md");
    let ours = Reason::ALL.map(Reason::as_str);
    let credentials = crate::grpc::auth::REASONS;
    let http = crate::grpc::transcode::REASONS;
    let others = credentials.iter().chain(http).copied();
    for reason in ours.into_iter().chain(others) {
        assert!(
            docs.contains(&format!("## `{reason}`")),
            "docs/errors.md does not explain {reason}"
        );
    }
    let explained = docs.lines().filter(|line| line.starts_with("## `")).count();
    assert_eq!(
        explained,
        ours.len() + credentials.len() + http.len(),
        "docs/errors.md explains what is never sent"
    );
}
