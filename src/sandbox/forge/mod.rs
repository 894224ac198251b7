//! Forged App Store documents, for showing that a server refuses them. Each is wrong in one way
//! and right in all others, so that no check can hide behind another. Classes are those of
//! `docs/forgeries.md`.

mod apple;
mod push;
mod svix;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};

use super::Sandbox;
use super::certs::{
    AppleChain, Authority, DEVELOPER_OID, INTERMEDIATE_OID, Leaf, Profile, RECEIPT_SIGNING_OID,
    header,
};
use super::ecdsa::{Curve, EcKey};
use super::error::SandboxError;
use super::jws::{Algorithm, SigningKey, compact, encode};

pub use apple::{apple_corpus, apple_misplaced};
pub use push::push_corpus;
pub use svix::{SvixDelivery, svix_corpus};

/// A signed document, and whether it is to be believed.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// The class of attack that it is a case of, or whose genuine counterpart it is.
    pub class: &'static str,
    /// What is wrong with it, or what looks wrong and is not.
    pub name: String,
    /// The compact JWS.
    pub jws: String,
    /// Whether it must be accepted.
    pub genuine: bool,
}

type Forged = Result<Vec<Specimen>, SandboxError>;

/// Every way we know of getting a signature wrong, around a payload that would be accepted under
/// a genuine one. The payload should carry a `signedDate` between 2020 and 2045.
pub fn apple_variants(sandbox: &Sandbox, payload: &Value) -> Forged {
    let chain = &sandbox.inner.keys.apple;
    let mut all: Vec<Specimen> = of("A1", foreign_chains(chain, payload)?).collect();
    all.extend(of("A2", wrong_leaves(chain, payload)?));
    all.extend(of("A2", wrong_intermediates(chain, payload)?));
    all.extend(of("A2", wrong_lengths(chain, payload)?));
    all.extend(of("A3", wrong_algorithms(chain, payload)?));
    all.extend(of("A5", wrong_signatures(chain, payload)?));
    all.extend(of("A10", wrong_shapes(chain, payload)?));
    Ok(all)
}

/// A document with this header, signed by this leaf.
fn signed(leaf: &Leaf, header: &Value, payload: &Value) -> Result<String, SandboxError> {
    compact(header, payload, |message| leaf.key.sign(message))
}

/// A document with a good header over `chain`, signed by `leaf`.
fn chained(leaf: &Leaf, chain: &[&[u8]], payload: &Value) -> Result<String, SandboxError> {
    signed(leaf, &header("ES256", chain), payload)
}

/// An authority below `issuer`, with a key of its own.
fn authority(issuer: &Authority, profile: &Profile) -> Result<Authority, SandboxError> {
    issuer.issue_authority(profile, EcKey::random(Curve::P384)?)
}

/// An end certificate below `issuer`, with a key of its own.
fn leaf_of(issuer: &Authority, profile: &Profile) -> Result<Leaf, SandboxError> {
    issuer.issue_leaf(profile, EcKey::random(Curve::P256)?)
}

fn forgery(name: impl Into<String>, jws: String) -> Specimen {
    Specimen {
        class: "",
        name: name.into(),
        jws,
        genuine: false,
    }
}

fn genuine(name: impl Into<String>, jws: String) -> Specimen {
    Specimen {
        genuine: true,
        ..forgery(name, jws)
    }
}

/// Puts specimens into a class.
fn of(class: &'static str, specimens: Vec<Specimen>) -> impl Iterator<Item = Specimen> {
    let classed = move |specimen| Specimen { class, ..specimen };
    specimens.into_iter().map(classed)
}

/// Chains of an attacker who copied every name, extension and marker of the genuine one.
fn foreign_chains(genuine: &AppleChain, payload: &Value) -> Forged {
    let stranger = genuine.stranger()?;
    let x5c = stranger.x5c();
    let [leaf, intermediate, _] = x5c;
    let root = genuine.root.der.as_slice();
    let beneath = authority(&Authority::stranger()?, &genuine.intermediate_profile())?;
    let beneath_leaf = leaf_of(&beneath, &genuine.leaf_profile())?;
    Ok(vec![
        forgery("chain of a stranger", stranger.sign(payload)?),
        forgery(
            "chain of a stranger under the genuine root",
            chained(&stranger.leaf, &[leaf, intermediate, root], payload)?,
        ),
        forgery(
            "leaf of a stranger under the genuine intermediate",
            chained(
                &stranger.leaf,
                &[leaf, &genuine.intermediate.der, root],
                payload,
            )?,
        ),
        forgery(
            "intermediate of another root",
            chained(
                &beneath_leaf,
                &[&beneath_leaf.der, &beneath.der, root],
                payload,
            )?,
        ),
    ])
}

/// Leaves that the genuine intermediate has issued, but not for signing receipts, or not for now.
fn wrong_leaves(genuine: &AppleChain, payload: &Value) -> Forged {
    let forge = |name, profile: Profile| -> Result<Specimen, SandboxError> {
        let leaf = leaf_of(&genuine.intermediate, &profile)?;
        let chain = [
            leaf.der.as_slice(),
            &genuine.intermediate.der,
            &genuine.root.der,
        ];
        Ok(forgery(name, chained(&leaf, &chain, payload)?))
    };
    let marked = |markers: Vec<&'static [u64]>| Profile {
        markers,
        ..genuine.leaf_profile()
    };
    let lasting = |first, last| Profile {
        years: (first, last),
        ..genuine.leaf_profile()
    };
    let developer = Profile {
        extended: vec![ExtendedKeyUsagePurpose::CodeSigning],
        ..marked(vec![DEVELOPER_OID])
    };
    Ok(vec![
        forge("leaf without marker", marked(Vec::new()))?,
        forge(
            "leaf with the intermediate's marker",
            marked(vec![INTERMEDIATE_OID]),
        )?,
        forge("certificate of a developer", developer)?,
        forge("leaf that has expired", lasting(2014, 2016))?,
        forge("leaf that is not valid yet", lasting(2046, 2048))?,
    ])
}

/// Chains whose middle the genuine root has signed, or should have.
fn wrong_intermediates(genuine: &AppleChain, payload: &Value) -> Forged {
    let unmarked = authority(
        &genuine.root,
        &Profile {
            markers: Vec::new(),
            ..genuine.intermediate_profile()
        },
    )?;
    let expired = authority(
        &genuine.root,
        &Profile {
            years: (2014, 2016),
            ..genuine.intermediate_profile()
        },
    )?;
    // A genuine end certificate that plays authority: the hole of every chain check that forgets
    // the basic constraints.
    let end = authority(
        &genuine.root,
        &Profile {
            markers: vec![INTERMEDIATE_OID, RECEIPT_SIGNING_OID],
            ..genuine.leaf_profile()
        },
    )?;
    // An authority below the genuine intermediate, whose path length allows none.
    let below = authority(&genuine.intermediate, &genuine.intermediate_profile())?;
    let forge = |name, middle: &Authority| -> Result<Specimen, SandboxError> {
        let leaf = leaf_of(middle, &genuine.leaf_profile())?;
        let chain = [leaf.der.as_slice(), &middle.der, &genuine.root.der];
        Ok(forgery(name, chained(&leaf, &chain, payload)?))
    };
    let direct = leaf_of(&genuine.root, &genuine.leaf_profile())?;
    let chain = [
        direct.der.as_slice(),
        &genuine.intermediate.der,
        &genuine.root.der,
    ];
    Ok(vec![
        forge("intermediate without marker", &unmarked)?,
        forge("intermediate that has expired", &expired)?,
        forge("intermediate that is no authority", &end)?,
        forge("intermediate below the intermediate", &below)?,
        forgery(
            "leaf issued by the root itself",
            chained(&direct, &chain, payload)?,
        ),
    ])
}

/// Too few certificates, too many, none, or in the wrong order.
fn wrong_lengths(genuine: &AppleChain, payload: &Value) -> Forged {
    let [leaf, intermediate, root] = genuine.x5c();
    let forge = |name, chain: &[&[u8]]| -> Result<Specimen, SandboxError> {
        Ok(forgery(name, chained(&genuine.leaf, chain, payload)?))
    };
    Ok(vec![
        forge("no certificate", &[])?,
        forge("one certificate", &[leaf])?,
        forge("two certificates", &[leaf, intermediate])?,
        forge("four certificates", &[leaf, intermediate, root, root])?,
        forge("certificates in reverse order", &[root, intermediate, leaf])?,
        forge("leaf three times", &[leaf, leaf, leaf])?,
        forgery(
            "no x5c",
            signed(&genuine.leaf, &json!({"alg": "ES256"}), payload)?,
        ),
        forgery(
            "x5c that is no list",
            signed(
                &genuine.leaf,
                &json!({"alg": "ES256", "x5c": STANDARD.encode(leaf)}),
                payload,
            )?,
        ),
    ])
}

/// Headers that name another algorithm, with what a lax verifier would take for a signature.
fn wrong_algorithms(genuine: &AppleChain, payload: &Value) -> Forged {
    let x5c = genuine.x5c();
    let hmac = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        compact(&header("HS256", &x5c), payload, |message| {
            Ok(hmac::sign(&key, message).as_ref().to_vec())
        })
    };
    let rsa = SigningKey::generate(Algorithm::Rs256, String::new())?;
    let mut embedded = header("ES256", &x5c);
    let own = SigningKey::generate(Algorithm::Es256, "own".to_owned())?;
    embedded["jwk"] = own.jwk();
    Ok(vec![
        forgery(
            "algorithm none",
            compact(&header("none", &x5c), payload, |_| Ok(Vec::new()))?,
        ),
        forgery(
            "HS256 under the leaf's public key",
            hmac(genuine.leaf.key.public_bytes())?,
        ),
        forgery("HS256 under the leaf certificate", hmac(&genuine.leaf.der)?),
        forgery(
            "RS256",
            compact(&header("RS256", &x5c), payload, |message| rsa.sign(message))?,
        ),
        forgery(
            "ES384",
            signed(&genuine.leaf, &header("ES384", &x5c), payload)?,
        ),
        forgery(
            "es256 in lower case",
            signed(&genuine.leaf, &header("es256", &x5c), payload)?,
        ),
        forgery(
            "key of the forger in the header",
            compact(&embedded, payload, |message| own.sign(message))?,
        ),
    ])
}

/// Genuine headers whose signature does not belong to them.
fn wrong_signatures(genuine: &AppleChain, payload: &Value) -> Forged {
    let good = genuine.sign(payload)?;
    let own = SigningKey::generate(Algorithm::Es256, String::new())?;
    let header = header("ES256", &genuine.x5c());
    let (message, signature) = good.rsplit_once('.').unwrap_or_default();
    let (head, _) = message.split_once('.').unwrap_or_default();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let mut tampered = payload.clone();
    tampered["signedDate"] = json!(tampered["signedDate"].as_i64().unwrap_or_default() + 1);
    let tampered = encode(tampered.to_string());
    let der = der_signature(genuine, message)?;
    Ok(vec![
        forgery(
            "payload changed after signing",
            format!("{head}.{tampered}.{signature}"),
        ),
        forgery(
            "signed by a key of the forger",
            compact(&header, payload, |message| own.sign(message))?,
        ),
        forgery("signature in DER", format!("{message}.{}", encode(der))),
        forgery(
            "signature of zeros",
            compact(&header, payload, |_| Ok(vec![0; 64]))?,
        ),
        forgery(
            "signature cut short",
            format!("{message}.{}", encode(raw.get(..63).unwrap_or_default())),
        ),
        forgery("empty signature", format!("{message}.")),
    ])
}

/// The genuine key's signature in the encoding that certificates use, and JWS does not.
fn der_signature(genuine: &AppleChain, message: &str) -> Result<Vec<u8>, SandboxError> {
    let pkcs8 = genuine.leaf.key.pkcs8();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)?;
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes())?;
    Ok(signature.as_ref().to_vec())
}

/// Texts that are no compact JWS, or ask for an extension that nobody implements.
fn wrong_shapes(genuine: &AppleChain, payload: &Value) -> Forged {
    let good = genuine.sign(payload)?;
    let mut critical = header("ES256", &genuine.x5c());
    critical["crit"] = json!(["exp"]);
    critical["exp"] = json!(1);
    Ok(vec![
        forgery(
            "critical header unknown",
            signed(&genuine.leaf, &critical, payload)?,
        ),
        forgery("empty text", String::new()),
        forgery(
            "two parts",
            good.split('.').take(2).collect::<Vec<_>>().join("."),
        ),
        forgery("four parts", format!("{good}.AA")),
        forgery("bare payload", payload.to_string()),
        forgery("payload that is no JSON", {
            let head = header("ES256", &genuine.x5c()).to_string();
            let message = format!("{}.{}", encode(head), encode("not json"));
            let signature = genuine.leaf.key.sign(message.as_bytes())?;
            format!("{message}.{}", encode(signature))
        }),
    ])
}
