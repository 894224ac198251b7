//! Genuine documents and tokens hold, forged ones do not: judged by a verifier of the test's own.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::certs::{INTERMEDIATE_OID, RECEIPT_SIGNING_OID};
use super::super::jws::{Opened, SigningKey};
use super::*;

fn marked(certificate: &X509Certificate<'_>, oid: &[u64]) -> bool {
    certificate.extensions().iter().any(|e| {
        e.oid
            .iter()
            .is_some_and(|parts| parts.eq(oid.iter().copied()))
            && e.value == [5, 0]
    })
}

/// Apple's rules, from the facts alone; `None` for a document to be refused.
fn verify(jws: &str, root_der: &[u8]) -> Option<Value> {
    let parts: Vec<&str> = jws.split('.').collect();
    let [header, body, signature] = parts[..] else {
        return None;
    };
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (head, claims) = (json(header)?, json(body)?);
    if head["alg"] != "ES256" || !head["crit"].is_null() {
        return None;
    }
    let chain: Vec<Vec<u8>> = head["x5c"]
        .as_array()?
        .iter()
        .map(|cert| STANDARD.decode(cert.as_str()?).ok())
        .collect::<Option<_>>()?;
    let [leaf_der, intermediate_der, _] = &chain[..] else {
        return None;
    };
    let root = CertificateDer::from(root_der);
    let anchor = anchor_from_trusted_cert(&root).ok()?;
    let leaf_cert = CertificateDer::from(leaf_der.as_slice());
    let millis = u64::try_from(claims["signedDate"].as_i64()?).ok()?;
    let intermediate_cert = [CertificateDer::from(intermediate_der.as_slice())];
    let end = EndEntityCert::try_from(&leaf_cert).ok()?;
    let anchors = [anchor];
    let path = end
        .verify_for_usage(
            &[webpki::aws_lc_rs::ECDSA_P384_SHA384],
            &anchors,
            &intermediate_cert,
            UnixTime::since_unix_epoch(Duration::from_millis(millis)),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .ok()?;
    // A path that leaves the intermediate out would leave its marker unproven.
    if path.intermediate_certificates().count() != 1 {
        return None;
    }
    let (_, leaf) = X509Certificate::from_der(leaf_der).ok()?;
    let (_, intermediate) = X509Certificate::from_der(intermediate_der).ok()?;
    if !marked(&leaf, RECEIPT_SIGNING_OID) || !marked(&intermediate, INTERMEDIATE_OID) {
        return None;
    }
    let key = UnparsedPublicKey::new(
        &ECDSA_P256_SHA256_FIXED,
        leaf.public_key().subject_public_key.data.clone(),
    );
    let message = format!("{header}.{body}");
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    key.verify(message.as_bytes(), &signature).ok()?;
    Some(claims)
}

#[tokio::test]
async fn genuine_documents_verify_and_every_forgery_is_refused() {
    let rig = Rig::start().await;
    let root = STANDARD
        .decode(rig.sandbox.manifest().apple_root_cert_der)
        .unwrap();
    let bought = rig.buy_apple("alice", MONTHLY).await;
    let genuine = verify(&bought.signed_transaction, &root).expect("genuine");
    let body: Value = serde_json::from_str(&rig.sandbox.notifications()[0].body).unwrap();
    let outer = verify(body["signedPayload"].as_str().unwrap(), &root).expect("notification");
    for inner in ["signedTransactionInfo", "signedRenewalInfo"] {
        let inner = outer["data"][inner].as_str().unwrap();
        assert_eq!(
            verify(inner, &root).unwrap()["originalTransactionId"],
            genuine["transactionId"]
        );
    }
    assert!(verify(&rig.sandbox.sign_apple(&genuine).unwrap(), &root).is_some());

    let forgeries = forge::apple_variants(&rig.sandbox, &genuine).unwrap();
    assert!(forgeries.len() > 35);
    for forgery in forgeries {
        assert!(verify(&forgery.jws, &root).is_none(), "{}", forgery.name);
    }
    let other = Rig::seeded(1).await;
    let other_root = STANDARD
        .decode(other.sandbox.manifest().apple_root_cert_der)
        .unwrap();
    assert!(verify(&bought.signed_transaction, &other_root).is_none());
}

#[tokio::test]
async fn the_chain_has_the_shape_of_apples() {
    let rig = Rig::start().await;
    let bought = rig.buy_apple("alice", LIFETIME).await;
    let header = bought.signed_transaction.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header.as_object().unwrap().len(), 2);
    let ders: Vec<Vec<u8>> = header["x5c"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cert| STANDARD.decode(cert.as_str().unwrap()).unwrap())
        .collect();
    let certs: Vec<_> = ders
        .iter()
        .map(|der| X509Certificate::from_der(der).unwrap().1)
        .collect();
    let constraints = |index: usize| {
        let found: &X509Certificate<'_> = &certs[index];
        let found = found.basic_constraints().unwrap().unwrap().value;
        (found.ca, found.path_len_constraint)
    };
    assert_eq!(constraints(0), (false, None));
    assert_eq!(constraints(1), (true, Some(0)));
    assert_eq!(constraints(2), (true, None));
    for cert in &certs {
        let ids: Vec<String> = cert
            .extensions()
            .iter()
            .map(|e| e.oid.to_id_string())
            .collect();
        // Subject and authority key identifiers, for strict verifiers.
        assert!(ids.contains(&"2.5.29.14".to_owned()) && ids.contains(&"2.5.29.35".to_owned()));
    }
}

#[tokio::test]
async fn identity_tokens_verify_by_the_published_keys_and_rotation_retires_them() {
    let rig = Rig::start().await;
    let manifest = rig.sandbox.manifest();
    let discovery = format!(
        "{}/.well-known/openid-configuration",
        manifest.identity.issuer
    );
    let (_, discovery) = answer_of(rig.http.get(discovery)).await;
    assert_eq!(discovery["jwks_uri"], manifest.identity.jwks_url);
    let published = async |kid: &Value| {
        let (_, keys) = answer_of(rig.http.get(&manifest.identity.jwks_url)).await;
        keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|key| key["kid"] == *kid)
            .cloned()
    };
    let mut kids = Vec::new();
    for (algorithm, kty) in [
        (Algorithm::Es256, "EC"),
        (Algorithm::Rs256, "RSA"),
        (Algorithm::EdDsa, "OKP"),
    ] {
        let mut wish = IdentityToken::of("alice");
        wish.algorithm = algorithm;
        wish.ttl_seconds = -10;
        wish.claims = json!({"email": "a@example.com", "aud": null})
            .as_object()
            .unwrap()
            .clone();
        let token = rig.sandbox.identity_token(&wish).unwrap();
        let opened = Opened::parse(&token).unwrap();
        assert_eq!(opened.claims["sub"], "alice");
        assert_eq!(opened.claims["iss"], manifest.identity.issuer);
        assert!(opened.claims["aud"].is_null() && opened.claims["email"].is_string());
        assert!(opened.claims["exp"].as_i64().unwrap() < machine_seconds());
        let kid = opened.header["kid"].clone();
        assert_eq!(published(&kid).await.unwrap()["kty"], kty);
        // The published key is enough to verify: an independent library takes it.
        let jwk = serde_json::from_value(published(&kid).await.unwrap()).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let named = algorithm.as_str().parse().unwrap();
        let mut rules = jsonwebtoken::Validation::new(named);
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap();
        kids.push(kid);
    }
    rig.sandbox.rotate_identity_keys().unwrap();
    assert!(published(&kids[0]).await.is_some());
    rig.sandbox.rotate_identity_keys().unwrap();
    assert!(published(&kids[0]).await.is_none());
    assert!(rig.sandbox.store_calls()[&Endpoint::IdentityKeys] > 0);
}

#[tokio::test]
async fn push_tokens_are_genuine_unless_asked_otherwise() {
    let rig = Rig::start().await;
    let push = &rig.sandbox.inner.keys.push;
    let good = rig.sandbox.push_token(&PushToken::default()).unwrap();
    assert!(Opened::parse(&good).unwrap().signed_by(push));
    let (_, keys) = answer_of(rig.http.get(rig.sandbox.manifest().push.jwks_url)).await;
    assert_eq!(keys["keys"][0], SigningKey::jwk(push));
    let wish = PushToken {
        by_stranger: true,
        claims: json!({"email": "mallory@example.com"})
            .as_object()
            .unwrap()
            .clone(),
    };
    let bad = rig.sandbox.push_token(&wish).unwrap();
    let bad = Opened::parse(&bad).unwrap();
    assert_eq!(bad.claims["email"], "mallory@example.com");
    assert_eq!(bad.header["kid"], push.kid);
    assert!(!bad.signed_by(push));
}
