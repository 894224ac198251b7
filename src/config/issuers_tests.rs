//! What is told of `[[issuers]]` that contradict themselves.

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    issuers: Issuers,
}

fn problems(toml: &str, production: bool) -> Vec<String> {
    let file: File = toml::from_str(toml).expect("readable");
    file.issuers.validate(production)
}

const GOOD: &[&str] = &[
    r#"preset = "firebase"
       issuer = "https://securetoken.google.com/my-project""#,
    r#"preset = "auth0"
       issuer = "https://t.eu.auth0.com/"
       audience = ["https://api"]"#,
    r#"preset = "cognito"
       issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A"
       audience = ["client"]
       token_use = "id""#,
    r#"preset = "supabase"
       issuer = "https://ref.supabase.co/auth/v1""#,
    r#"preset = "clerk"
       issuer = "https://clerk.example.com""#,
    r#"preset = "keycloak"
       issuer = "https://id.example.com/realms/r"
       authorized_parties = ["app"]"#,
    r#"preset = "apple"
       audience = ["com.example.app"]"#,
    r#"preset = "oidc"
       issuer = "https://id.example.com"
       audience = ["api"]
       algorithms = ["PS256", "ES384"]"#,
];

#[test]
fn plain_http_is_for_development() {
    let text = r#"
        name = "app"
        preset = "oidc"
        issuer = "http://localhost:8080"
        audience = ["api"]"#;
    let config: IssuerConfig = toml::from_str(text).expect("parses");
    assert_eq!(config.validate(false), Vec::<String>::new());
    assert_eq!(config.validate(true).len(), 1);
}

#[test]
fn every_preset_has_a_valid_shape_in_production() {
    for body in GOOD {
        let toml = format!("[[issuers]]\nname = \"app\"\n{body}");
        assert_eq!(problems(&toml, true), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn contradictions_are_told_in_a_sentence() {
    let cases: &[(&str, &str)] = &[
        (
            "preset = \"oidc\"\nissuer = \"https://i\"",
            "audience is missing",
        ),
        (
            "preset = \"auth0\"\nissuer = \"https://i/\"",
            "audience is missing",
        ),
        ("preset = \"apple\"", "bundle ids"),
        (
            "preset = \"cognito\"\nissuer = \"https://c/p\"",
            "app clients",
        ),
        (
            "preset = \"keycloak\"\nissuer = \"https://k/realms/r\"",
            "authorized_parties",
        ),
        (
            "preset = \"auth0\"\nissuer = \"https://i\"\naudience = [\"a\"]",
            "slash at its end",
        ),
        (
            "preset = \"firebase\"\nissuer = \"https://i\"",
            "project id",
        ),
        (
            "preset = \"keycloak\"\nissuer = \"https://k\"\naudience = [\"a\"]",
            "realms",
        ),
        ("preset = \"supabase\"\nissuer = \"https://s\"", "auth/v1"),
        (
            "preset = \"clerk\"\nissuer = \"https://s/\"",
            "without a slash",
        ),
        (
            "preset = \"apple\"\nissuer = \"https://a\"\naudience = [\"a\"]",
            "appleid",
        ),
        (
            "preset = \"oidc\"\nissuer = \"http://i\"\naudience = [\"a\"]",
            "must use https",
        ),
        (
            "preset = \"oidc\"\nissuer = \"http://localhost.evil\"\naudience = [\"a\"]",
            "https",
        ),
        (
            "preset = \"oidc\"\nissuer = \"ftp://i\"\naudience = [\"a\"]",
            "must use https",
        ),
        (
            "preset = \"oidc\"\nissuer = \"i\"\naudience = [\"a\"]",
            "absolute URL",
        ),
        (
            "preset = \"oidc\"\nissuer = \"https://u@i\"\naudience = [\"a\"]",
            "user name",
        ),
        ("preset = \"oidc\"\naudience = [\"a\"]", "issuer is missing"),
        (
            "issuer = \"https://i\"\naudience = [\"a\"]",
            "preset is missing",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\njwks_url = \"http://keys.example\"",
            "jwks_url must use https",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\ntoken_use = \"id\"",
            "cognito",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\nalgorithms = []",
            "algorithms is empty",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\nservice_scope = \"a b\"",
            "one scope",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\noperator_scope = \"\"",
            "operator_scope must be one scope",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\nservice_scope = \"a\"\noperator_scope = \"a\"",
            "must differ",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\naudience = [\"\"]",
            "empty values",
        ),
        (
            "preset = \"clerk\"\nissuer = \"https://i\"\nsubject_claim = \"\"",
            "subject_claim",
        ),
        ("shared_secret = \"short\"", "at least 32 bytes"),
    ];
    for (body, expected) in cases {
        let found = problems(&format!("[[issuers]]\nname = \"app\"\n{body}"), false);
        assert_eq!(found.len(), 1, "{body}: {found:?}");
        assert!(found[0].contains(expected), "{body}: {found:?}");
    }
    for name in ["", "App", "a b", "a/b", "entitled", &"a".repeat(33)] {
        let toml = format!("[[issuers]]\nname = \"{name}\"\n{}", GOOD[0]);
        assert_eq!(problems(&toml, false).len(), 1, "{name}");
    }
}

#[test]
fn names_and_issuers_are_unique() {
    let toml = format!(
        "[[issuers]]\nname = \"a\"\n{}\n[[issuers]]\nname = \"a\"\n{}",
        GOOD[0], GOOD[1]
    );
    assert_eq!(problems(&toml, true).len(), 1);
    let toml = format!(
        "[[issuers]]\nname = \"a\"\n{}\n[[issuers]]\nname = \"b\"\n{}",
        GOOD[0], GOOD[0]
    );
    assert_eq!(problems(&toml, true).len(), 1);
}

#[test]
fn a_shared_secret_is_for_development_and_never_printed() {
    let secret = "0123456789abcdef0123456789abcdef";
    let toml = format!("[[issuers]]\nname = \"dev\"\nshared_secret = \"{secret}\"");
    assert_eq!(problems(&toml, false), Vec::<String>::new());
    assert_eq!(problems(&toml, true).len(), 1);
    let file: File = toml::from_str(&toml).unwrap();
    assert_eq!(file.issuers.0[0].issuer_value(), Some("dev"));
    assert!(!format!("{:?}", file.issuers).contains(secret));
}

#[test]
fn unknown_fields_and_symmetric_algorithms_are_refused() {
    for line in [
        "audiences = [\"a\"]",
        "algorithms = [\"HS256\"]",
        "algorithms = [\"none\"]",
    ] {
        let toml = format!("[[issuers]]\nname = \"a\"\n{}\n{line}", GOOD[0]);
        assert!(toml::from_str::<File>(&toml).is_err(), "{line}");
    }
}
