//! Who may prove to be whom: every kind of key, and each way to be refused.

use std::time::Duration;

use ike_crypto::{
    AuthError, CertificateChain, ChainError, CredentialError, Identity, LocalCredential, PeerCredential, Presented,
    PrfAlgorithm, PrivateKey, PrivateKeyError, ProofError, Revocations, SecretBytes, SignatureHashes, SignedOctets,
    TrustAnchors, Verdict,
};
use ike_wire::{AuthMethod, Authentication, CertEncoding, Certificate, IdKind, Identification};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SanType, SignatureAlgorithm,
    date_time_ymd,
};

/// 2026-06-01, within the validity of everything below that is not said to be invalid.
const NOW: Duration = Duration::from_secs(1_780_272_000);
const ALGORITHMS: [&SignatureAlgorithm; 4] =
    [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256];

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let pem = ca_params(name).self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(ca_params(name), key), pem }
}

fn edge_params() -> CertificateParams {
    let names = ["edge1.example.net", "192.0.2.1", "2001:db8::1"];
    let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
    params.subject_alt_names.push(SanType::Rfc822Name("ops@example.net".try_into().unwrap()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, "edge1");
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn credential(
    authority: &Authority,
    params: &CertificateParams,
    algorithm: &'static SignatureAlgorithm,
) -> LocalCredential {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let pem = params.signed_by(&key, &authority.issuer).unwrap().pem();
    let chain = CertificateChain::from_pem(pem.as_bytes()).unwrap();
    LocalCredential::certificate(chain, PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap()).unwrap()
}

fn trusting(authorities: &[&Authority]) -> PeerCredential {
    let files = authorities.iter().map(|authority| authority.pem.as_bytes());
    PeerCredential::trust_anchors(TrustAnchors::from_pem(files).unwrap())
}

fn edge1() -> Identity {
    "edge1.example.net".parse().unwrap()
}

fn sk_p() -> SecretBytes {
    SecretBytes::from(vec![5; 48])
}

fn octets<'a>(sk_p: &'a SecretBytes, id: &'a Identification) -> SignedOctets<'a> {
    SignedOctets {
        prf: PrfAlgorithm::HmacSha384,
        sk_p,
        message: b"IKE_SA_INIT",
        peer_nonce: &[6; 32],
        id,
        intermediate: &[],
    }
}

/// `local` proves to be `claim` to a peer that announced `hashes`; `remote` expects `expected`.
fn attempt(
    local: &LocalCredential,
    claim: &Identity,
    remote: &PeerCredential,
    expected: &Identity,
    hashes: SignatureHashes,
    now: Duration,
) -> Result<AuthMethod, AuthError> {
    let (sk_p, id) = (sk_p(), local.id_payload(claim));
    let octets = octets(&sk_p, &id);
    let auth = local.prove(&octets, hashes).unwrap();
    let certificates = local.cert_payloads();
    remote
        .check(expected, &Presented { auth: &auth, certificates: &certificates, octets }, now, &Revocations::default())
        .map(|_| auth.method)
}

fn refusal(local: &LocalCredential, remote: &PeerCredential) -> AuthError {
    attempt(local, &edge1(), remote, &edge1(), SignatureHashes::supported(), NOW).unwrap_err()
}

#[test]
fn every_kind_of_key_proves_itself_by_rfc_7427() {
    let ca = authority("Example CA");
    for algorithm in ALGORITHMS {
        let local = credential(&ca, &edge_params(), algorithm);
        let outcome = attempt(&local, &edge1(), &trusting(&[&ca]), &edge1(), SignatureHashes::supported(), NOW);
        assert_eq!(outcome, Ok(AuthMethod::DigitalSignature), "{algorithm:?}");
    }
}

#[test]
fn peers_from_before_rfc_7427_get_the_classic_methods() {
    let ca = authority("Example CA");
    let proof = |algorithm| {
        let local = credential(&ca, &edge_params(), algorithm);
        attempt(&local, &edge1(), &trusting(&[&ca]), &edge1(), SignatureHashes::none(), NOW)
    };
    assert_eq!(proof(&PKCS_ECDSA_P256_SHA256), Ok(AuthMethod::Ecdsa256));
    assert_eq!(proof(&PKCS_ECDSA_P384_SHA384), Ok(AuthMethod::Ecdsa384));
    assert_eq!(proof(&PKCS_RSA_SHA256), Ok(AuthMethod::RsaSignature));
    let ed25519 = credential(&ca, &edge_params(), &PKCS_ED25519);
    let (sk_p, id) = (sk_p(), edge1().payload());
    let refused = ed25519.prove(&octets(&sk_p, &id), SignatureHashes::parse(&[0, 2])).unwrap_err();
    assert!(matches!(refused, ProofError::Hash(_)), "{refused}");
    let text = "our Ed25519 key needs the \"identity\" hash (RFC 8420) in signatures, and the peer announced only hash \
                algorithms 2";
    assert_eq!(refused.to_string(), text);
}

#[test]
fn every_kind_of_name_in_the_certificate_can_be_claimed_and_no_other() {
    let ca = authority("Example CA");
    let local = credential(&ca, &edge_params(), &PKCS_ECDSA_P256_SHA256);
    let claim = |name: &str| {
        let name: Identity = name.parse().unwrap();
        attempt(&local, &name, &trusting(&[&ca]), &name, SignatureHashes::supported(), NOW)
    };
    for name in ["EDGE1.example.net", "192.0.2.1", "2001:db8::1", "ops@example.net", "cn=Edge1,o=example"] {
        assert_eq!(claim(name), Ok(AuthMethod::DigitalSignature), "{name}");
        assert_eq!(local.vouches_for(&name.parse().unwrap()), Ok(()));
    }
    for name in ["hub1.example.net", "net", "192.0.2.2", "a@example.net", "CN=edge1", "keyid:01"] {
        let refused = claim(name);
        assert!(matches!(refused, Err(AuthError::Certificate(ChainError::OtherIdentity { .. }))), "{refused:?}");
        let refused = local.vouches_for(&name.parse().unwrap());
        assert!(matches!(refused, Err(CredentialError::OtherIdentity { .. })), "{refused:?}");
    }
}

#[test]
fn a_distinguished_name_goes_out_as_the_certificate_has_it() {
    let ca = authority("Example CA");
    let local = credential(&ca, &edge_params(), &PKCS_ECDSA_P256_SHA256);
    let asked: Identity = "CN=EDGE1,O=example".parse().unwrap();
    assert_ne!(local.id_payload(&asked), asked.payload());
    assert_eq!(local.id_payload(&asked).to_string().len(), local.id_payload(&asked).data.len() * 2 + 15);
    assert!(asked.is_claimed_by(&local.id_payload(&asked)));
}

#[test]
fn a_wildcard_is_a_name_like_any_other() {
    let ca = authority("Example CA");
    let mut params = edge_params();
    params.subject_alt_names = CertificateParams::new(["*.example.net".to_owned()]).unwrap().subject_alt_names;
    let refused = refusal(&credential(&ca, &params, &PKCS_ECDSA_P256_SHA256), &trusting(&[&ca]));
    assert!(matches!(refused, AuthError::Certificate(ChainError::OtherIdentity { .. })), "{refused}");
}

#[test]
fn another_identity_than_expected_is_refused_before_anything_else() {
    let psk = || SecretBytes::from(b"secret".to_vec());
    let local = LocalCredential::pre_shared_key(psk()).unwrap();
    let remote = PeerCredential::pre_shared_key(psk()).unwrap();
    let hub: Identity = "hub1.example.net".parse().unwrap();
    let refused = attempt(&local, &edge1(), &remote, &hub, SignatureHashes::none(), NOW).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the peer claims to be edge1.example.net, expected hub1.example.net; check \"remote … id\" here and \"id\" there"
    );
}

#[test]
fn expired_and_future_certificates_say_by_how_much() {
    let ca = authority("Example CA");
    let local = credential(&ca, &edge_params(), &PKCS_ECDSA_P256_SHA256);
    let at = |now| attempt(&local, &edge1(), &trusting(&[&ca]), &edge1(), SignatureHashes::supported(), now);
    let days = |days: u64| Duration::from_secs(days * 86_400);
    // 2027-01-01 is day 20819 since 1970, 2026-01-01 day 20454.
    let expired = at(days(20_819 + 10)).unwrap_err().to_string();
    assert!(expired.contains("expired 10 days ago"), "{expired}");
    let future = at(days(20_454 - 10)).unwrap_err().to_string();
    assert!(future.contains("valid only in 10 days"), "{future}");
    assert_eq!(at(days(20_819 - 1)), Ok(AuthMethod::DigitalSignature));
}

#[test]
fn an_authority_nobody_trusts_is_named() {
    let (ca, other) = (authority("Example CA"), authority("Other CA"));
    let refused = refusal(&credential(&ca, &edge_params(), &PKCS_ED25519), &trusting(&[&other])).to_string();
    assert!(refused.contains("issued by \"CN=Example CA\""), "{refused}");
    assert!(refused.contains("(CN=Other CA)"), "{refused}");
    let local = credential(&ca, &edge_params(), &PKCS_ED25519);
    let both = attempt(&local, &edge1(), &trusting(&[&other, &ca]), &edge1(), SignatureHashes::supported(), NOW);
    assert_eq!(both, Ok(AuthMethod::DigitalSignature));
}

#[test]
fn an_impostor_authority_of_the_same_name_is_a_bad_signature() {
    let (ca, impostor) = (authority("Example CA"), authority("Example CA"));
    let refused = refusal(&credential(&impostor, &edge_params(), &PKCS_ED25519), &trusting(&[&ca]));
    let AuthError::Certificate(reason) = &refused else { panic!("{refused}") };
    assert!(matches!(reason, ChainError::ForgedCertificate { .. }), "{refused}");
}

#[test]
fn intermediate_certificates_are_sent_and_roots_are_not() {
    let root = authority("Example Root");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let intermediate = ca_params("Example Intermediate").signed_by(&key, &root.issuer).unwrap();
    let issuer = Issuer::new(ca_params("Example Intermediate"), key);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let own = edge_params().signed_by(&key, &issuer).unwrap();
    let chain = [own.pem(), intermediate.pem(), root.pem.clone()].concat();
    let chain = CertificateChain::from_pem(chain.as_bytes()).unwrap();
    let local =
        LocalCredential::certificate(chain, PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap()).unwrap();
    assert_eq!(local.cert_payloads().len(), 2);
    let proof = attempt(&local, &edge1(), &trusting(&[&root]), &edge1(), SignatureHashes::supported(), NOW);
    assert_eq!(proof, Ok(AuthMethod::DigitalSignature));

    let alone = CertificateChain::from_pem(own.pem().as_bytes()).unwrap();
    let alone =
        LocalCredential::certificate(alone, PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap()).unwrap();
    let refused = refusal(&alone, &trusting(&[&root]));
    assert!(matches!(refused, AuthError::Certificate(ChainError::UntrustedIssuer { .. })), "{refused}");
}

#[test]
fn extended_key_usage_follows_rfc_4945() {
    let ca = authority("Example CA");
    let outcome = |purposes: &[ExtendedKeyUsagePurpose]| {
        let mut params = edge_params();
        params.extended_key_usages = purposes.to_vec();
        let local = credential(&ca, &params, &PKCS_ECDSA_P256_SHA256);
        attempt(&local, &edge1(), &trusting(&[&ca]), &edge1(), SignatureHashes::supported(), NOW)
    };
    let ipsec_ike = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17]);
    for good in [
        &[][..],
        std::slice::from_ref(&ipsec_ike),
        &[ExtendedKeyUsagePurpose::Any],
        &[ExtendedKeyUsagePurpose::ServerAuth],
        &[ExtendedKeyUsagePurpose::CodeSigning, ipsec_ike.clone()],
    ] {
        assert_eq!(outcome(good), Ok(AuthMethod::DigitalSignature), "{good:?}");
    }
    let refused = outcome(&[ExtendedKeyUsagePurpose::CodeSigning]).unwrap_err();
    assert!(matches!(refused, AuthError::Certificate(ChainError::ExtendedKeyUsage { .. })), "{refused}");
}

#[test]
fn a_key_that_may_not_sign_and_an_authority_as_peer_are_refused() {
    let ca = authority("Example CA");
    let mut params = edge_params();
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let refused = refusal(&credential(&ca, &params, &PKCS_ECDSA_P256_SHA256), &trusting(&[&ca]));
    assert!(matches!(refused, AuthError::Certificate(ChainError::KeyUsage { .. })), "{refused}");
    let mut params = edge_params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let refused = refusal(&credential(&ca, &params, &PKCS_ECDSA_P256_SHA256), &trusting(&[&ca]));
    assert!(matches!(refused, AuthError::Certificate(ChainError::Refused { .. })), "{refused}");
}

#[test]
fn signatures_over_anything_else_are_refused() {
    let ca = authority("Example CA");
    let remote = trusting(&[&ca]);
    for algorithm in ALGORITHMS {
        for hashes in [SignatureHashes::supported(), SignatureHashes::none()] {
            let local = credential(&ca, &edge_params(), algorithm);
            let (key, id) = (sk_p(), edge1().payload());
            let Ok(auth) = local.prove(&octets(&key, &id), hashes) else { continue };
            let certificates = local.cert_payloads();
            let check = |auth: &Authentication, octets: SignedOctets<'_>| {
                remote.check(
                    &edge1(),
                    &Presented { auth, certificates: &certificates, octets },
                    NOW,
                    &Revocations::default(),
                )
            };
            assert_eq!(check(&auth, octets(&key, &id)), Ok(Verdict::Accepted { ask: None }));
            let bad = Err(AuthError::BadSignature("edge1.example.net".to_owned()));
            assert_eq!(check(&auth, SignedOctets { message: b"other", ..octets(&key, &id) }), bad);
            assert_eq!(check(&auth, SignedOctets { peer_nonce: b"other", ..octets(&key, &id) }), bad);
            assert_eq!(check(&auth, SignedOctets { intermediate: b"other", ..octets(&key, &id) }), bad);
            let other_key = SecretBytes::from(vec![6; 48]);
            assert_eq!(check(&auth, octets(&other_key, &id)), bad);
            let mut flipped = auth.clone();
            *flipped.data.last_mut().unwrap() ^= 1;
            assert_eq!(check(&flipped, octets(&key, &id)), bad);
            let reserved = Identification { reserved: [0, 0, 1], ..id.clone() };
            assert_eq!(check(&auth, octets(&key, &reserved)), bad, "reserved octets are covered too");
        }
    }
}

#[test]
fn broken_auth_payloads_are_refused() {
    let ca = authority("Example CA");
    let local = credential(&ca, &edge_params(), &PKCS_ECDSA_P256_SHA256);
    let (key, id, certificates) = (sk_p(), edge1().payload(), local.cert_payloads());
    let check = |method: AuthMethod, data: &[u8], certificates: &[Certificate]| {
        let auth = Authentication { method, data: data.to_vec() };
        trusting(&[&ca]).check(
            &edge1(),
            &Presented { auth: &auth, certificates, octets: octets(&key, &id) },
            NOW,
            &Revocations::default(),
        )
    };
    for data in [&[][..], &[200, 1], &[0], &[2, 0x30, 0x00, 9]] {
        let refused = check(AuthMethod::DigitalSignature, data, &certificates);
        assert!(matches!(refused, Err(AuthError::SignatureAlgorithm { .. })), "{refused:?}");
    }
    for method in [AuthMethod::Ecdsa256, AuthMethod::Ecdsa384, AuthMethod::RsaSignature] {
        assert!(matches!(check(method, &[1; 64], &certificates), Err(AuthError::BadSignature(_))));
    }
    for method in [AuthMethod::Null, AuthMethod::Dss, AuthMethod::Other(200)] {
        assert!(matches!(check(method, &[], &certificates), Err(AuthError::SignatureAlgorithm { .. })));
    }
    assert!(matches!(check(AuthMethod::SharedKey, &[], &certificates), Err(AuthError::Method { .. })));
    let missing = Err(AuthError::Certificate(ChainError::Missing));
    assert_eq!(check(AuthMethod::Ecdsa256, &[], &[]), missing);
    let url = Certificate { encoding: CertEncoding::HashUrl, data: certificates[0].data.clone() };
    assert_eq!(check(AuthMethod::Ecdsa256, &[], &[url]), missing);
    let rubbish = Certificate { encoding: CertEncoding::X509Signature, data: vec![0x30, 0x82, 0xff] };
    let refused = check(AuthMethod::Ecdsa256, &[], &[rubbish]);
    assert!(matches!(refused, Err(AuthError::Certificate(ChainError::Unreadable(_)))), "{refused:?}");
}

#[test]
fn pre_shared_keys_have_to_be_the_same() {
    let local = |key: &str| LocalCredential::pre_shared_key(SecretBytes::from(key.as_bytes().to_vec())).unwrap();
    let remote = PeerCredential::pre_shared_key(SecretBytes::from(b"correct".to_vec())).unwrap();
    let attempt = |key| attempt(&local(key), &edge1(), &remote, &edge1(), SignatureHashes::none(), NOW);
    assert_eq!(attempt("correct"), Ok(AuthMethod::SharedKey));
    assert_eq!(attempt("wrong"), Err(AuthError::WrongPreSharedKey("edge1.example.net".to_owned())));
    assert_eq!(LocalCredential::pre_shared_key(SecretBytes::from(vec![])), Err(CredentialError::EmptyKey));
    let ca = authority("Example CA");
    let signs = credential(&ca, &edge_params(), &PKCS_ED25519);
    assert_eq!(
        refusal(&signs, &remote).to_string(),
        "the peer authenticates by digital signature, expected a pre-shared key"
    );
    assert_eq!(
        refusal(&local("correct"), &trusting(&[&ca])).to_string(),
        "the peer authenticates by PSK, expected a certificate"
    );
}

#[test]
fn a_key_belongs_to_its_certificate() {
    let ca = authority("Example CA");
    for algorithm in ALGORITHMS {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = edge_params().signed_by(&key, &ca.issuer).unwrap().pem();
        let chain = CertificateChain::from_pem(pem.as_bytes()).unwrap();
        let other = KeyPair::generate_for(algorithm).unwrap().serialize_pem();
        let refused = LocalCredential::certificate(chain, PrivateKey::from_pem(other.as_bytes()).unwrap()).unwrap_err();
        assert!(matches!(refused, CredentialError::KeyMismatch(_)), "{refused}");
    }
}

#[test]
fn files_without_what_they_should_hold_are_refused() {
    let ca = authority("Example CA");
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    assert!(CertificateChain::from_pem(key.as_bytes()).is_err());
    assert!(CertificateChain::from_pem(b"").is_err());
    assert!(TrustAnchors::from_pem([ca.pem.as_bytes(), b"-----BEGIN CERTIFICATE-----\nAAAA\n"]).is_err());
    assert_eq!(PrivateKey::from_pem(ca.pem.as_bytes()).unwrap_err(), PrivateKeyError::Pem);
    let empty = b"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    assert_eq!(PrivateKey::from_pem(empty).unwrap_err(), PrivateKeyError::Unsupported);
}

#[test]
fn nothing_secret_is_printed() {
    let ca = authority("Example CA");
    let local = credential(&ca, &edge_params(), &PKCS_ECDSA_P256_SHA256);
    assert!(format!("{local:?}").contains("PrivateKey(ECDSA P-256)"), "{local:?}");
    let psk = LocalCredential::pre_shared_key(SecretBytes::from(b"hunter2".to_vec())).unwrap();
    assert_eq!(format!("{psk:?}"), "PreSharedKey");
}

#[test]
fn certificate_requests_name_authorities_by_their_keys() {
    let (one, two) = (authority("One"), authority("Two"));
    let request = trusting(&[&one, &two]).cert_request().unwrap();
    assert_eq!(request.encoding, CertEncoding::X509Signature);
    assert_eq!(request.hashes().count(), 2);
    let spki = rcgen::PublicKeyData::subject_public_key_info(one.issuer.key());
    let sha1 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &spki);
    assert_eq!(request.hashes().next(), Some(sha1.as_ref()));
    assert_eq!(edge1().payload().kind, IdKind::Fqdn);
}
