//! The written files start, whatever was answered.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::config::tokens::AnonymousAccounts;

fn config_of(answers: &Answers) -> String {
    let (catalog, key) = ("/etc/entitled/catalog.toml", "/run/secrets/encryption.key");
    text::config(answers, Path::new(catalog), Path::new(key))
}

fn written(answers: &Answers) -> (String, String) {
    let catalog = text::catalog(answers);
    let config = config_of(answers);
    check(&config, &catalog).unwrap();
    (config, catalog)
}

fn full() -> Answers {
    Answers {
        bundle_id: Some("com.example.shop".into()),
        app_apple_id: Some(987_654_321),
        package_name: Some("com.example.shop".into()),
        identity: Some(Identity::of(
            PresetName::Firebase,
            Some("my-project".into()),
            vec![],
        )),
        database_url: Some("postgres://shop:se\"cret@db/shop".into()),
        public_url: Some("https://shop.example.com/".into()),
        port: 9000,
    }
}

#[test]
fn nothing_is_enough_to_begin_with() {
    let (config, catalog) = written(&Answers {
        port: 8080,
        ..Answers::default()
    });
    assert!(config.contains("# [[issuers]]") && config.contains("# [app_store]"));
    assert!(catalog.contains("bundle_id = \"com.example.app\""));
    assert!(catalog.contains("# app_apple_id"));
}

#[test]
fn what_is_known_is_written() {
    let (config, catalog) = written(&full());
    let parsed: Config = toml::from_str(&config).unwrap();
    assert_eq!(parsed.issuers.0.len(), 1);
    assert_eq!(parsed.grpc.listen.port(), 9000);
    assert_eq!(parsed.admin.listen.port(), 9002);
    for expected in [
        "issuer = \"https://securetoken.google.com/my-project\"",
        "public_url = \"https://shop.example.com/\"",
        "# audience = \"https://shop.example.com/webhooks/google-play\"",
    ] {
        assert!(config.contains(expected), "{expected}: {config}");
    }
    for expected in [
        "app_apple_id = 987654321",
        "product_id = \"com.example.shop.pro.yearly\"",
        "base_plan_id = \"pro-monthly\"",
    ] {
        assert!(catalog.contains(expected), "{expected}: {catalog}");
    }
}

/// What is offered as a comment starts, too, once its marks are gone.
#[test]
fn what_is_offered_starts_when_it_is_switched_on() {
    for answers in [full(), Answers::default()] {
        let (config, catalog) = written(&answers);
        let (before, offered) = config.split_once("# [tokens]\n").unwrap();
        let (offered, after) = offered.split_once("\n\n").unwrap();
        let offered: Vec<&str> = offered
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap())
            .collect();
        let on = format!("{before}[tokens]\n{}\n\n{after}", offered.join("\n"));
        check(&on, &catalog).unwrap();
        let parsed: Config = toml::from_str(&on).unwrap();
        let tokens = parsed.tokens.unwrap();
        assert_eq!(tokens.anonymous_accounts, AnonymousAccounts::Open);
        assert_eq!(tokens.namespaces, ["backend"]);
        assert!(!tokens.issuer.ends_with('/'), "{}", tokens.issuer);
        let next = text::next(&answers, "entitled.toml", "catalog.toml");
        assert!(next.contains("entitled key create ops --kind operator --role admin"));
    }
}

#[test]
fn one_store_alone_sells_nothing_at_the_other() {
    let (_, catalog) = written(&Answers {
        bundle_id: None,
        app_apple_id: None,
        ..full()
    });
    assert!(!catalog.contains("\napp_store"));
    let (_, catalog) = written(&Answers {
        package_name: None,
        ..full()
    });
    assert!(!catalog.contains("\ngoogle_play"));
}

#[test]
fn every_preset_starts_and_a_contradiction_is_told() {
    let one = |preset, issuer: &str, audience: &[&str]| {
        let audience = audience.iter().map(|one| (*one).to_owned()).collect();
        Answers {
            identity: Some(Identity::of(preset, Some(issuer.into()), audience)),
            ..full()
        }
    };
    for answers in [
        one(
            PresetName::Auth0,
            "https://shop.eu.auth0.com",
            &["https://api"],
        ),
        one(
            PresetName::Cognito,
            "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x",
            &["client"],
        ),
        one(PresetName::Supabase, "https://ref.supabase.co/auth/v1", &[]),
        one(PresetName::Clerk, "https://clerk.example.com", &[]),
        one(
            PresetName::Keycloak,
            "https://id.example.com/realms/shop",
            &["shop"],
        ),
        one(PresetName::Oidc, "https://id.example.com", &["shop"]),
    ] {
        written(&answers);
    }
    let wrong = one(PresetName::Supabase, "https://ref.supabase.co", &[]);
    let config = config_of(&wrong);
    let told = check(&config, &text::catalog(&wrong))
        .unwrap_err()
        .to_string();
    assert!(told.contains("/auth/v1"), "{told}");
}

#[test]
fn questions_are_asked_for_what_was_not_given() {
    let typed = "com.example.shop\nabc\n42\n\nnobody\nfirebase\nmy-project\n\nftp://x\nhttps://shop.example.com\n";
    let mut output = Vec::new();
    let answers = ask::ask(Answers::default(), &mut typed.as_bytes(), &mut output).unwrap();
    assert_eq!(answers.bundle_id.as_deref(), Some("com.example.shop"));
    assert_eq!(answers.app_apple_id, Some(42));
    assert_eq!(answers.package_name, None);
    assert_eq!(
        answers.identity.unwrap().issuer.unwrap(),
        "https://securetoken.google.com/my-project"
    );
    assert_eq!(answers.database_url, None);
    assert_eq!(
        answers.public_url.as_deref(),
        Some("https://shop.example.com")
    );
    let told = String::from_utf8(output).unwrap();
    assert!(
        told.contains("digits alone") && told.contains("one of these words"),
        "{told}"
    );
    let asked_nothing = ask::ask(full(), &mut "".as_bytes(), &mut Vec::new()).unwrap();
    assert_eq!(asked_nothing, full());
}
