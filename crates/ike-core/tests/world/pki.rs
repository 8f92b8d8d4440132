//! Certificates for tests.

use std::sync::Arc;

use ike_crypto::{
    CertificateChain, LocalCredential, PeerCredential, PeerPolicy, PrivateKey, RevocationPolicy, TrustAnchors,
    pki::RevocationList,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Trust in this authority.
    pub(crate) fn trust(&self) -> Arc<PeerCredential> {
        Arc::new(PeerCredential::trust_anchors(TrustAnchors::from_pem([self.pem.as_bytes()]).unwrap()))
    }

    /// The same with a policy; the responder answers only what the test makes it answer.
    pub(crate) fn trust_under(&self, revocation: RevocationPolicy, responder: bool) -> Arc<PeerCredential> {
        let anchors = TrustAnchors::from_pem([self.pem.as_bytes()]).unwrap();
        let responder = responder.then(|| "http://192.0.2.9/".into());
        Arc::new(PeerCredential::certificates(PeerPolicy { revocation, responder, ..PeerPolicy::trusting(anchors) }))
    }

    /// A list that takes back certificates with these serial numbers.
    pub(crate) fn list(&self, revoked: &[u64]) -> RevocationList {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 2, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2030, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        RevocationList::read(params.signed_by(&self.issuer).unwrap().der()).unwrap()
    }

    /// A certificate for a name, valid in these years.
    pub(crate) fn issue(&self, name: &str, years: (i32, i32)) -> Arc<LocalCredential> {
        self.issue_numbered(name, years, 1)
    }

    /// The same, with a serial number.
    pub(crate) fn issue_numbered(&self, name: &str, years: (i32, i32), serial: u64) -> Arc<LocalCredential> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = CertificateChain::from_pem(certificate.pem().as_bytes()).unwrap();
        let key = PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
        Arc::new(LocalCredential::certificate(chain, key).unwrap())
    }
}
