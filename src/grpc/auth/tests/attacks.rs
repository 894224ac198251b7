//! The table of attacks: each token differs from a genuine one in one thing only.

use super::support::{Time, present};
use super::world::{Case, World};
use super::{forged, malformed};

#[tokio::test]
async fn attacks_are_refused_for_their_own_reason() {
    let world = World::open().await;
    let groups: [fn(&World) -> Vec<Case>; 7] = [
        forged::algorithms,
        forged::keys,
        forged::headers,
        forged::signatures,
        malformed::shapes,
        malformed::times,
        malformed::claims,
    ];
    let cases: Vec<Case> = groups.iter().flat_map(|group| group(&world)).collect();
    assert!(cases.len() >= 250, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (name, token, expected) in cases {
        // Twice: a refusal must not be remembered as anything else.
        for round in 0..2 {
            match present(&world.auth, &token, Time::start()).await {
                Err(cause) if cause == expected => {}
                other => wrong.push(format!("{name} ({round}): {other:?}, not {expected:?}")),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(world.auth.verified.len(), 0, "a refused token was kept");
    assert_eq!(world.site.requests(), 1, "a token made us fetch something");
}
