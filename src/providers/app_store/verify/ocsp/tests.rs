//! OCSP answers signed in the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair};
use der::asn1::{BitString, GeneralizedTime, Null, OctetString};
use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::CertificateDer;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{OcspGeneralizedTime, ResponseData, RevokedInfo, Version};

use super::super::request::{body, responder};
use super::*;
use crate::providers::app_store::tests::support::{Certified, Profile, Signer};

const DAY: Duration = Duration::from_secs(86_400);
const ID_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

fn moment(time: SystemTime) -> OcspGeneralizedTime {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap();
    OcspGeneralizedTime(GeneralizedTime::from_unix_duration(since_1970).unwrap())
}

/// An answer about the chain's leaf by `signer`, current from `from` until `until`.
fn answer(
    chain: &Signer,
    signer: &Certified,
    status: CertStatus,
    from: SystemTime,
    until: SystemTime,
) -> Vec<u8> {
    let certificate = |one: &Certified| Certificate::from_der(&one.der).unwrap();
    let by = certificate(signer);
    let data = ResponseData {
        version: Version::V1,
        responder_id: ResponderId::ByName(by.tbs_certificate.subject.clone()),
        produced_at: moment(from),
        responses: vec![SingleResponse {
            cert_id: cert_id(
                ID_SHA256,
                &certificate(&chain.leaf),
                &certificate(&chain.intermediate),
            )
            .unwrap(),
            cert_status: status,
            this_update: moment(from),
            next_update: Some(moment(until)),
            single_extensions: None,
        }],
        response_extensions: None,
    };
    let pkcs8 = signer.key().serialize_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &pkcs8).unwrap();
    let signature = key
        .sign(&SystemRandom::new(), &data.to_der().unwrap())
        .unwrap();
    let basic = BasicOcspResponse {
        tbs_response_data: data,
        signature_algorithm: AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA384,
            parameters: None,
        },
        signature: BitString::from_bytes(signature.as_ref()).unwrap(),
        certs: Some(vec![by]),
    };
    OcspResponse::successful(basic).unwrap().to_der().unwrap()
}

fn verdict(chain: &Signer, body: &[u8]) -> Result<(), OcspError> {
    let der = |one: &Certified| CertificateDer::from(one.der.clone());
    judge(
        body,
        &der(&chain.leaf),
        &der(&chain.intermediate),
        SystemTime::now(),
    )
}

/// A certificate of the issuer for somebody else who may, or may not, answer for it.
fn delegate(chain: &Signer, purposes: Vec<ExtendedKeyUsagePurpose>) -> Certified {
    let profile = Profile {
        name: "Responder",
        marker: None,
        p384: true,
        ..Profile::leaf()
    };
    let mut params = profile.params();
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY).into();
    params.extended_key_usages = purposes;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    chain.intermediate.issue_params(params, key)
}

fn times() -> (SystemTime, SystemTime) {
    (SystemTime::now() - DAY, SystemTime::now() + DAY)
}

#[test]
fn the_issuer_or_its_delegate_may_say_that_a_certificate_is_good() {
    let chain = Signer::genuine();
    let (from, until) = times();
    let good = |signer: &Certified| {
        verdict(
            &chain,
            &answer(&chain, signer, CertStatus::good(), from, until),
        )
    };
    assert_eq!(good(&chain.intermediate), Ok(()));
    assert_eq!(
        good(&delegate(
            &chain,
            vec![ExtendedKeyUsagePurpose::OcspSigning]
        )),
        Ok(())
    );
    let unavailable = |result| matches!(result, Err(OcspError::Unavailable(_)));
    assert!(unavailable(good(&delegate(
        &chain,
        vec![ExtendedKeyUsagePurpose::ServerAuth]
    ))));
    assert!(unavailable(good(&delegate(&chain, Vec::new()))));
    assert!(unavailable(good(&Signer::genuine().intermediate)));
    assert!(unavailable(good(&chain.root)));
}

#[test]
fn an_authentic_no_refuses_and_anything_else_is_trouble_of_the_moment() {
    let chain = Signer::genuine();
    let (from, until) = times();
    let by_issuer = |status, from, until| {
        verdict(
            &chain,
            &answer(&chain, &chain.intermediate, status, from, until),
        )
    };
    let revoked = RevokedInfo {
        revocation_time: moment(from),
        revocation_reason: None,
    };
    let refused = |result| matches!(result, Err(OcspError::Refused(_)));
    assert!(refused(by_issuer(
        CertStatus::revoked(revoked),
        from,
        until
    )));
    assert!(refused(by_issuer(CertStatus::unknown(), from, until)));

    let unavailable = |result| matches!(result, Err(OcspError::Unavailable(_)));
    let good = CertStatus::good;
    assert!(unavailable(by_issuer(good(), from - DAY, from)));
    assert!(unavailable(by_issuer(good(), until, until + DAY)));
    let mut tampered = answer(&chain, &chain.intermediate, good(), from, until);
    *tampered.last_mut().unwrap() ^= 1;
    let middle = tampered.len() / 3;
    assert!(
        verdict(&chain, &tampered).is_ok(),
        "only the attached certificate is changed"
    );
    tampered[middle] ^= 1;
    assert!(unavailable(verdict(&chain, &tampered)));
    let later = OcspResponse::try_later().to_der().unwrap();
    for body in [&b""[..], b"<html>", &later] {
        assert!(unavailable(verdict(&chain, body)));
    }
    let other = Signer::genuine();
    let about_other = answer(&other, &chain.intermediate, good(), from, until);
    assert!(unavailable(verdict(&chain, &about_other)));
}

#[test]
fn the_question_names_the_certificate_and_goes_where_it_says() {
    const LEAF: &[u8] = include_bytes!("../../testdata/apple_receipt_signing_2025.cer");
    const INTERMEDIATE: &[u8] = include_bytes!("../../testdata/apple_wwdr_g6.cer");
    let url = responder(LEAF).unwrap();
    assert_eq!(url.as_str(), "http://ocsp.apple.com/ocsp03-wwdrg602");
    let url = responder(INTERMEDIATE).unwrap();
    assert_eq!(url.as_str(), "http://ocsp.apple.com/ocsp03-applerootcag3");
    let request = x509_ocsp::OcspRequest::from_der(&body(LEAF, INTERMEDIATE).unwrap()).unwrap();
    let asked = &request.tbs_request.request_list[0].req_cert;
    assert_eq!(asked.hash_algorithm.parameters, Some(Null.into()));
    let name = &parse(INTERMEDIATE).unwrap().tbs_certificate.subject;
    let hash = digest::digest(&digest::SHA256, &name.to_der().unwrap());
    assert_eq!(
        asked.issuer_name_hash,
        OctetString::new(hash.as_ref()).unwrap()
    );
    assert!(responder(&Signer::genuine().leaf.der).is_err());
}
