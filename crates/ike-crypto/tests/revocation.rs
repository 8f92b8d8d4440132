//! Certificates that were taken back: by lists, by responders, and what each policy makes of what is not known.

use std::{collections::BTreeMap, time::Duration};

use der07::{Decode, Encode};
use ike_crypto::{
    CertificateChain, ChainError, Identity, PeerCredential, PeerPolicy, RevocationPolicy, Revocations, StatusQuery,
    TrustAnchors,
    pki::{CertificateStatus, Fingerprint, Heard, Requirements, RevocationList, RevocationListError, StatusError},
};
use ike_wire::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams, SerialNumber, SigningKey,
    date_time_ymd,
};
use x509_ocsp::{
    BasicOcspResponse, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, ResponderId, ResponseData,
    RevokedInfo, SingleResponse, Version,
};

/// 2026-06-01.
const NOW: Duration = Duration::from_secs(1_780_272_000);
const DAY: Duration = Duration::from_secs(86_400);
const SERIAL: u64 = 0x00a1_b2c3_d4e5_f607;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        params
    }

    fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = Self::params(name).self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(Self::params(name), key), pem }
    }

    fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = Self::params(name);
        params.serial_number = Some(SerialNumber::from(SERIAL));
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn edge(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, KeyPair) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(["edge1.example.net".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationalUnitName, "Edges");
        params.distinguished_name.push(DnType::CommonName, "edge1");
        params.serial_number = Some(SerialNumber::from(SERIAL));
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key)
    }

    /// A list that takes back these serial numbers, in force until a year.
    fn list(&self, revoked: &[u64], until_year: i32) -> RevocationList {
        let revoked_certs = revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2026, 2, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(until_year, 1, 1),
            crl_number: SerialNumber::from(7u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        let by_pem = RevocationList::read(list.pem().unwrap().as_bytes()).unwrap();
        let by_der = RevocationList::read(list.der()).unwrap();
        assert_eq!((by_pem.issuer(), by_pem.number()), (by_der.issuer(), Some(7)));
        assert_eq!((by_der.revoked(), by_der.next_update()), (revoked.len(), by_pem.next_update()));
        by_der
    }
}

fn sent(pems: &[&str]) -> Vec<Certificate> {
    CertificateChain::from_pem(pems.concat().as_bytes()).unwrap().payloads()
}

fn edge1() -> Identity {
    "edge1.example.net".parse().unwrap()
}

fn policy(root: &Authority, revocation: RevocationPolicy, responder: bool) -> PeerPolicy {
    let anchors = TrustAnchors::from_pem([root.pem.as_bytes()]).unwrap();
    let responder = responder.then(|| "http://192.0.2.9/ocsp".into());
    PeerPolicy { revocation, responder, ..PeerPolicy::trusting(anchors) }
}

fn judge(policy: &PeerPolicy, sent: &[Certificate], known: &Revocations) -> Result<Option<StatusQuery>, ChainError> {
    PeerCredential::certificates(policy.clone()).examine(&edge1(), sent, NOW, known)
}

fn lists(lists: Vec<RevocationList>) -> Revocations {
    Revocations::new(lists, BTreeMap::new())
}

#[test]
fn a_list_takes_a_certificate_back_under_either_policy() {
    let root = Authority::root("Example CA");
    let (edge, _) = root.edge(|_| {});
    for revocation in [RevocationPolicy::Relaxed, RevocationPolicy::Strict] {
        let policy = policy(&root, revocation, false);
        let refused = judge(&policy, &sent(&[&edge]), &lists(vec![root.list(&[1, SERIAL], 2027)])).unwrap_err();
        assert!(matches!(refused, ChainError::Revoked { .. }), "{refused}");
        assert_eq!(judge(&policy, &sent(&[&edge]), &lists(vec![root.list(&[1, 2], 2027)])), Ok(None));
    }
}

#[test]
fn what_is_not_known_hinders_only_under_the_strict_policy() {
    let (root, other) = (Authority::root("Example CA"), Authority::root("Other CA"));
    let (edge, _) = root.edge(|_| {});
    let nothing = [Revocations::default(), lists(vec![other.list(&[], 2027)]), lists(vec![root.list(&[], 2026)])];
    for known in nothing {
        let relaxed = policy(&root, RevocationPolicy::Relaxed, false);
        assert_eq!(judge(&relaxed, &sent(&[&edge]), &known), Ok(None));
        let refused = judge(&policy(&root, RevocationPolicy::Strict, false), &sent(&[&edge]), &known).unwrap_err();
        assert!(matches!(refused, ChainError::StatusUnknown { .. }), "{refused}");
    }
    // An old list still tells who was revoked.
    let relaxed = policy(&root, RevocationPolicy::Relaxed, false);
    let refused = judge(&relaxed, &sent(&[&edge]), &lists(vec![root.list(&[SERIAL], 2026)])).unwrap_err();
    assert!(matches!(refused, ChainError::Revoked { .. }), "{refused}");
}

#[test]
fn authorities_in_between_can_be_taken_back_and_have_to_be_known() {
    let root = Authority::root("Example CA");
    let middle = root.below("Example Issuing CA");
    let (edge, _) = middle.edge(|_| {});
    let sent = sent(&[&edge, &middle.pem]);
    let strict = policy(&root, RevocationPolicy::Strict, false);
    let (of_root, of_middle) = (|revoked: &[u64]| root.list(revoked, 2027), middle.list(&[], 2027));
    assert_eq!(judge(&strict, &sent, &lists(vec![of_root(&[]), of_middle.clone()])), Ok(None));
    let refused = judge(&strict, &sent, &lists(vec![of_middle.clone()])).unwrap_err();
    assert!(matches!(refused, ChainError::StatusUnknown { .. }), "{refused}");
    let refused = judge(&strict, &sent, &lists(vec![of_root(&[SERIAL]), of_middle])).unwrap_err();
    assert!(matches!(refused, ChainError::Revoked { .. }), "{refused}");
}

#[test]
fn a_list_by_another_key_of_the_same_name_says_nothing() {
    let (root, namesake) = (Authority::root("Example CA"), Authority::root("Example CA"));
    let (edge, _) = root.edge(|_| {});
    let forged = namesake.list(&[SERIAL], 2027);
    let relaxed = policy(&root, RevocationPolicy::Relaxed, false);
    assert_eq!(judge(&relaxed, &sent(&[&edge]), &lists(vec![forged.clone()])), Ok(None));
    // Nor does it hide the true one that stands behind it.
    let refused = judge(&relaxed, &sent(&[&edge]), &lists(vec![forged, root.list(&[SERIAL], 2027)])).unwrap_err();
    assert!(matches!(refused, ChainError::Revoked { .. }), "{refused}");
}

#[test]
fn what_is_no_list_is_refused_with_words() {
    assert!(matches!(RevocationList::read(b"nonsense"), Err(RevocationListError::Unreadable(_))));
    assert!(matches!(RevocationList::read(&[0x30, 0x82, 0xff, 0xff, 1]), Err(RevocationListError::Unreadable(_))));
}

#[test]
fn requirements_narrow_what_an_authority_vouches_for() {
    let root = Authority::root("Example CA");
    let (edge, _) = root.edge(|_| {});
    let sent = sent(&[&edge]);
    let own = Fingerprint::of(&sent[0].data);
    let judge_by = |requirements: Requirements| {
        let policy = PeerPolicy { requirements, ..policy(&root, RevocationPolicy::Relaxed, false) };
        judge(&policy, &sent, &Revocations::default())
    };
    let name = |text: &str| Requirements { names: vec![text.parse().unwrap()], ..Requirements::default() };
    let unit = |text: &str| Requirements { units: vec![text.to_owned()], ..Requirements::default() };
    let pin = |pins: &[Fingerprint]| Requirements { fingerprints: pins.to_vec(), ..Requirements::default() };
    for met in [name("EDGE1.example.net"), unit("edges"), pin(&[Fingerprint([0; 32]), own])] {
        assert_eq!(judge_by(met), Ok(None));
    }
    for (missing, words) in [
        (name("hub.example.net"), "lacks what the tunnel demands: the name hub.example.net"),
        (unit("Hubs"), "the organizational unit \"Hubs\""),
        (pin(&[Fingerprint([0; 32])]), "one of the configured fingerprints"),
    ] {
        let refused = judge_by(missing).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
}

// --- responders ---

/// What a responder says, and how.
struct Answer<'a> {
    status: CertStatus,
    this_update: i64,
    next_update: Option<i64>,
    /// Whose key signs, and what goes along to prove that it may.
    signer: &'a KeyPair,
    certificates: &'a [String],
}

fn time(days_from_now: i64) -> OcspGeneralizedTime {
    let seconds = NOW.as_secs().checked_add_signed(days_from_now * 86_400).unwrap();
    let time = der07::asn1::GeneralizedTime::from_unix_duration(Duration::from_secs(seconds)).unwrap();
    OcspGeneralizedTime(time)
}

fn respond(query: &StatusQuery, answer: &Answer<'_>) -> Vec<u8> {
    let request = OcspRequest::from_der(query.request()).unwrap();
    let asked = &request.tbs_request.request_list[0];
    let single = SingleResponse {
        cert_id: asked.req_cert.clone(),
        cert_status: answer.status,
        this_update: time(answer.this_update),
        next_update: answer.next_update.map(time),
        single_extensions: None,
    };
    let hash = asked.req_cert.issuer_key_hash.clone();
    let data = ResponseData {
        version: Version::V1,
        responder_id: ResponderId::ByKey(hash),
        produced_at: time(0),
        responses: vec![single],
        response_extensions: None,
    };
    let signature = answer.signer.sign(&data.to_der().unwrap()).unwrap();
    let ecdsa_with_sha256 = der07::asn1::ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    let certs = answer.certificates.iter().map(|pem| {
        let der = pem_der(pem);
        x509_cert_02::Certificate::from_der(&der).unwrap()
    });
    let certs: Vec<_> = certs.collect();
    let basic = BasicOcspResponse {
        tbs_response_data: data,
        signature_algorithm: x509_cert_02::spki::AlgorithmIdentifier { oid: ecdsa_with_sha256, parameters: None },
        signature: der07::asn1::BitString::from_bytes(&signature).unwrap(),
        certs: (!certs.is_empty()).then_some(certs),
    };
    OcspResponse::successful(basic).unwrap().to_der().unwrap()
}

fn pem_der(pem: &str) -> Vec<u8> {
    CertificateChain::from_pem(pem.as_bytes()).unwrap().payloads()[0].data.clone()
}

fn good<'a>(signer: &'a KeyPair, certificates: &'a [String]) -> Answer<'a> {
    Answer { status: CertStatus::good(), this_update: -1, next_update: Some(1), signer, certificates }
}

fn revoked() -> CertStatus {
    CertStatus::revoked(RevokedInfo { revocation_time: time(-3), revocation_reason: None })
}

fn question(root: &Authority, edge: &str) -> StatusQuery {
    let policy = policy(root, RevocationPolicy::Strict, true);
    judge(&policy, &sent(&[edge]), &Revocations::default()).unwrap().expect("the responder has to be asked")
}

fn heard(query: &StatusQuery, heard: Heard) -> Revocations {
    Revocations::new(Vec::new(), BTreeMap::from([(query.key(), heard)]))
}

#[test]
fn a_responder_decides_and_its_answer_is_not_asked_for_again() {
    let root = Authority::root("Example CA");
    let (edge, _) = root.edge(|_| {});
    let query = question(&root, &edge);
    assert_eq!(query.responder(), "http://192.0.2.9/ocsp");
    let answer = query.read(&respond(&query, &good(root.issuer.key(), &[])), NOW).unwrap();
    assert_eq!((answer.status, answer.next_update), (CertificateStatus::Good, NOW + DAY));
    let taken_back = Answer { status: revoked(), ..good(root.issuer.key(), &[]) };
    let revoked = query.read(&respond(&query, &taken_back), NOW).unwrap();
    assert_eq!(revoked.status, CertificateStatus::Revoked { at: NOW - 3 * DAY });
    for revocation in [RevocationPolicy::Relaxed, RevocationPolicy::Strict] {
        let policy = policy(&root, revocation, true);
        let judge = |known| judge(&policy, &sent(&[&edge]), &heard(&query, known));
        assert_eq!(judge(Heard::Answer(answer)), Ok(None));
        assert!(matches!(judge(Heard::Answer(revoked)), Err(ChainError::Revoked { .. })));
        let silent = judge(Heard::Nothing { until: NOW + DAY });
        match revocation {
            RevocationPolicy::Relaxed => assert_eq!(silent, Ok(None)),
            RevocationPolicy::Strict => assert!(matches!(silent, Err(ChainError::StatusUnknown { .. })), "{silent:?}"),
        }
        // What has run out is asked again.
        assert_eq!(judge(Heard::Nothing { until: NOW }), Ok(Some(query.clone())));
        let old = ike_crypto::pki::StatusAnswer { next_update: NOW, ..answer };
        assert_eq!(judge(Heard::Answer(old)), Ok(Some(query.clone())));
    }
}

#[test]
fn a_list_answers_where_a_responder_does_not() {
    let root = Authority::root("Example CA");
    let (edge, _) = root.edge(|_| {});
    let query = question(&root, &edge);
    let silent = BTreeMap::from([(query.key(), Heard::Nothing { until: NOW + DAY })]);
    let known = Revocations::new(vec![root.list(&[], 2027)], silent);
    assert_eq!(judge(&policy(&root, RevocationPolicy::Strict, true), &sent(&[&edge]), &known), Ok(None));
}

#[test]
fn only_the_issuer_and_whom_it_lets_may_answer() {
    let (root, other) = (Authority::root("Example CA"), Authority::root("Example CA"));
    let (edge, edge_key) = root.edge(|_| {});
    let query = question(&root, &edge);
    let signing = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    };
    let (delegate, delegate_key) = root.edge(signing);
    let (stranger, stranger_key) = other.edge(signing);
    let (old, old_key) = root.edge(|params| {
        signing(params);
        params.not_after = date_time_ymd(2026, 2, 1);
    });
    let read =
        |signer: &KeyPair, certificates: &[String]| query.read(&respond(&query, &good(signer, certificates)), NOW);
    assert!(read(&delegate_key, std::slice::from_ref(&delegate)).is_ok());
    assert!(read(&delegate_key, &[edge.clone(), delegate.clone()]).is_ok());
    for (signer, certificates) in [
        (other.issuer.key(), vec![]),
        (other.issuer.key(), vec![other.pem.clone()]),
        (&edge_key, vec![edge.clone()]), // a certificate, but not for answering
        (&stranger_key, vec![stranger]),
        (&old_key, vec![old]),
        (&delegate_key, vec![]),
        (&stranger_key, vec![delegate]),
    ] {
        assert_eq!(read(signer, &certificates), Err(StatusError::Forged));
    }
}

#[test]
fn answers_that_are_old_or_early_or_of_others_or_broken_are_not_believed() {
    let root = Authority::root("Example CA");
    let (edge, _) = root.edge(|_| {});
    let query = question(&root, &edge);
    let key = root.issuer.key();
    let read = |answer: &Answer<'_>| query.read(&respond(&query, answer), NOW);
    assert_eq!(read(&Answer { next_update: Some(-1), ..good(key, &[]) }), Err(StatusError::NotCurrent));
    assert_eq!(read(&Answer { next_update: None, ..good(key, &[]) }), Err(StatusError::NotCurrent));
    assert_eq!(read(&Answer { this_update: 1, ..good(key, &[]) }), Err(StatusError::NotCurrent));
    let (another, _) = root.edge(|params| params.serial_number = Some(SerialNumber::from(99u64)));
    let about_another = question(&root, &another);
    assert_ne!(about_another.key(), query.key());
    let mixed_up = query.read(&respond(&about_another, &good(key, &[])), NOW);
    assert_eq!(mixed_up, Err(StatusError::OtherCertificate));
    let refused = OcspResponse::unauthorized().to_der().unwrap();
    assert!(matches!(query.read(&refused, NOW), Err(StatusError::Refused(_))));
    // Whatever is changed or cut, nothing else is believed.
    let true_answer = respond(&query, &good(key, &[]));
    for at in 0..true_answer.len() {
        let mut changed = true_answer.clone();
        changed[at] ^= 0x10;
        let outcome = query.read(&changed, NOW);
        assert!(outcome.is_err() || outcome == query.read(&true_answer, NOW), "octet {at}: {outcome:?}");
        assert!(query.read(&true_answer[..at], NOW).is_err());
    }
}
