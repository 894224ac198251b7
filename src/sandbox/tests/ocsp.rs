//! The certificates' own story: their responders, their moves to another address, their sameness.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use der::asn1::{Null, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::ext::pkix::AuthorityInfoAccessSyntax;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspRequest, OcspResponse, OcspResponseStatus, Request,
    ResponderId, TbsRequest,
};

use super::*;

const SHA1_OID: &str = "1.3.14.3.2.26";
const SHA256_OID: &str = "2.16.840.1.101.3.4.2.1";
/// `id-kp-OCSPSigning` as DER content.
const OCSP_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09];

fn chain(jws: &str) -> Vec<Vec<u8>> {
    let header = URL_SAFE_NO_PAD
        .decode(jws.split('.').next().unwrap())
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    let x5c = header["x5c"].as_array().unwrap().iter();
    x5c.map(|cert| STANDARD.decode(cert.as_str().unwrap()).unwrap())
        .collect()
}

fn ocsp_url(der: &[u8]) -> String {
    let certificate = Certificate::from_der(der).unwrap().tbs_certificate;
    let (_, access) = certificate
        .get::<AuthorityInfoAccessSyntax>()
        .unwrap()
        .unwrap();
    let GeneralName::UniformResourceIdentifier(url) = &access.0[0].access_location else {
        panic!("no URL")
    };
    url.to_string()
}

fn request(algorithm: &str, certificate: &[u8], issuer: &[u8]) -> Vec<u8> {
    let issuer = Certificate::from_der(issuer).unwrap().tbs_certificate;
    let certificate = Certificate::from_der(certificate).unwrap().tbs_certificate;
    let hash = |bytes: &[u8]| {
        let hash = match algorithm {
            SHA1_OID => digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes),
            _ => digest::digest(&SHA256, bytes),
        };
        OctetString::new(hash.as_ref()).unwrap()
    };
    let key = issuer.subject_public_key_info.subject_public_key;
    let asked = CertId {
        hash_algorithm: AlgorithmIdentifierOwned {
            oid: ObjectIdentifier::new_unwrap(algorithm),
            parameters: Some(Null.into()),
        },
        issuer_name_hash: hash(&issuer.subject.to_der().unwrap()),
        issuer_key_hash: hash(key.raw_bytes()),
        serial_number: certificate.serial_number,
    };
    let tbs_request = TbsRequest {
        request_list: vec![Request {
            req_cert: asked,
            single_request_extensions: None,
        }],
        ..TbsRequest::default()
    };
    let request = OcspRequest {
        tbs_request,
        optional_signature: None,
    };
    request.to_der().unwrap()
}

/// What a response says, once its signature is proven to be by a delegate of the issuer.
fn judge(body: &[u8], issuer: &[u8]) -> Result<CertStatus, OcspResponseStatus> {
    let response = OcspResponse::from_der(body).unwrap();
    let Some(bytes) = response.response_bytes else {
        return Err(response.response_status);
    };
    let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).unwrap();
    let delegate = basic.certs.unwrap().remove(0);
    let key = &delegate.tbs_certificate.subject_public_key_info;
    let key = key.subject_public_key.raw_bytes();
    let hash = digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, key);
    let ResponderId::ByKey(named) = &basic.tbs_response_data.responder_id else {
        panic!("named otherwise")
    };
    assert_eq!(named.as_bytes(), hash.as_ref());
    let delegate = CertificateDer::from(delegate.to_der().unwrap());
    let issuer = CertificateDer::from(issuer);
    let anchors = [anchor_from_trusted_cert(&issuer).unwrap()];
    let delegate = EndEntityCert::try_from(&delegate).unwrap();
    let now = Duration::from_secs(machine_seconds().try_into().unwrap());
    delegate
        .verify_for_usage(
            &[webpki::aws_lc_rs::ECDSA_P384_SHA384],
            &anchors,
            &[],
            UnixTime::since_unix_epoch(now),
            KeyUsage::required(OCSP_SIGNING),
            None,
            None,
        )
        .unwrap();
    let data = basic.tbs_response_data;
    delegate
        .verify_signature(
            webpki::aws_lc_rs::ECDSA_P256_SHA256,
            &data.to_der().unwrap(),
            basic.signature.raw_bytes(),
        )
        .unwrap();
    let single = &data.responses[0];
    assert!(single.this_update.0.to_unix_duration() <= now);
    assert!(single.next_update.unwrap().0.to_unix_duration() > now);
    Ok(single.cert_status)
}

#[tokio::test]
async fn the_responders_that_certificates_name_vouch_for_them() {
    let rig = Rig::start().await;
    let bought = rig.buy_apple("alice", LIFETIME).await;
    let chain = chain(&bought.signed_transaction);
    let ask = async |url: String, body: Vec<u8>| {
        let answer = rig.http.post(url).body(body).send().await.unwrap();
        let kind = answer.headers()["content-type"].clone();
        assert_eq!(
            (answer.status(), kind.to_str().unwrap()),
            (StatusCode::OK, "application/ocsp-response")
        );
        answer.bytes().await.unwrap()
    };
    for pair in chain.windows(2) {
        let url = ocsp_url(&pair[0]);
        assert!(url.starts_with(&rig.sandbox.manifest().apple_ocsp_url));
        for algorithm in [SHA1_OID, SHA256_OID] {
            let request = request(algorithm, &pair[0], &pair[1]);
            let answer = ask(url.clone(), request.clone()).await;
            assert_eq!(judge(&answer, &pair[1]), Ok(CertStatus::good()));
            let encoded = STANDARD.encode(&request).replace('/', "%2F");
            let encoded = encoded.replace('+', "%2B").replace('=', "%3D");
            let answer = rig.http.get(format!("{url}/{encoded}")).send().await;
            let answer = answer.unwrap().bytes().await.unwrap();
            assert_eq!(judge(&answer, &pair[1]), Ok(CertStatus::good()));
        }
    }
    // Neither a stranger's certificate nor another issuer's is known.
    let request = |certificate: usize, issuer: usize| {
        request(SHA256_OID, &chain[certificate], &chain[issuer])
    };
    let url = ocsp_url(&chain[0]);
    for (certificate, issuer) in [(1, 1), (0, 2)] {
        let answer = ask(url.clone(), request(certificate, issuer)).await;
        assert_eq!(judge(&answer, &chain[1]), Ok(CertStatus::unknown()));
    }
    let answer = ask(url.clone(), b"no request".to_vec()).await;
    assert_eq!(
        judge(&answer, &chain[1]),
        Err(OcspResponseStatus::MalformedRequest)
    );
    assert!(rig.sandbox.store_calls()[&Endpoint::AppleOcsp] > 8);

    let control = format!("{}/control/ocsp", rig.sandbox.base_url());
    let wish = rig.http.post(&control).json(&json!({"answer": "revoked"}));
    assert_eq!(answer_of(wish).await.0, 204);
    let told = answer_of(rig.http.get(&control)).await;
    assert_eq!(told, (200, json!({"answer": "revoked"})));
    let answer = ask(url.clone(), request(0, 1)).await;
    assert!(matches!(
        judge(&answer, &chain[1]),
        Ok(CertStatus::Revoked(_))
    ));
    let answer = ask(ocsp_url(&chain[1]), request(1, 2)).await;
    assert_eq!(judge(&answer, &chain[2]), Ok(CertStatus::good()));
    rig.sandbox.set_ocsp(OcspAnswer::TryLater);
    let answer = ask(url.clone(), request(0, 1)).await;
    assert_eq!(judge(&answer, &chain[1]), Err(OcspResponseStatus::TryLater));
    rig.sandbox.set_ocsp(OcspAnswer::Down);
    let answer = rig
        .http
        .post(&url)
        .body(request(0, 1))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    rig.sandbox.set_ocsp(OcspAnswer::Good);
    let elsewhere = format!("{}/elsewhere", rig.sandbox.manifest().apple_ocsp_url);
    let answer = rig.http.post(elsewhere).body(request(0, 1)).send().await;
    assert_eq!(answer.unwrap().status(), 404);
}

#[tokio::test]
async fn certificates_follow_the_simulator_to_another_address_under_the_same_root() {
    let dir = std::env::temp_dir().join(format!("sandbox-{}", uuid::Uuid::new_v4()));
    let first = Rig::with(Environment::Production, Some(dir.clone())).await;
    let before = first.buy_apple("alice", LIFETIME).await.signed_transaction;
    first.sandbox.shutdown().await;
    let second = Rig::with(Environment::Production, Some(dir.clone())).await;
    let after = second.buy_apple("bob", LIFETIME).await.signed_transaction;
    let (before, after) = (chain(&before), chain(&after));
    assert_eq!(before[2], after[2]);
    for index in [0, 1] {
        let key = |der: &[u8]| {
            let certificate = Certificate::from_der(der).unwrap().tbs_certificate;
            certificate.subject_public_key_info
        };
        assert_eq!(key(&before[index]), key(&after[index]));
        assert!(ocsp_url(&before[index]).starts_with(first.sandbox.base_url()));
        assert!(ocsp_url(&after[index]).starts_with(second.sandbox.base_url()));
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn the_same_seed_signs_the_same_bytes_at_the_same_address() {
    let mut told = Vec::new();
    let mut port = 0;
    for _ in 0..2 {
        let mut options = options(Environment::Production);
        options.port = port;
        let sandbox = Sandbox::start(options).await.unwrap();
        port = sandbox
            .base_url()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let buy = AppStoreBuy {
            customer: "alice".to_owned(),
            product_id: MONTHLY.to_owned(),
            ..AppStoreBuy::default()
        };
        let bought = sandbox.buy_app_store(&buy).await.unwrap();
        sandbox.advance(Period::months(2)).await.unwrap();
        let bodies: Vec<String> = sandbox
            .notifications()
            .into_iter()
            .map(|r| r.body)
            .collect();
        let manifest = sandbox.manifest();
        told.push((
            bought.signed_transaction,
            bodies,
            manifest.apple_private_key_pem,
            manifest.apple_key_id,
            manifest.apple_issuer_id,
        ));
        sandbox.shutdown().await;
    }
    assert!(told[0].1.len() > 2);
    assert_eq!(told[0], told[1]);
}
