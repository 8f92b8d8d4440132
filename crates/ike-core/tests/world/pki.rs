//! Certificates for tests.

use std::sync::Arc;

use ike_crypto::{CertificateChain, LocalCredential, PeerCredential, PrivateKey, TrustAnchors};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

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
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Trust in this authority.
    pub(crate) fn trust(&self) -> Arc<PeerCredential> {
        Arc::new(PeerCredential::trust_anchors(TrustAnchors::from_pem([self.pem.as_bytes()]).unwrap()))
    }

    /// A certificate for a name, valid in these years.
    pub(crate) fn issue(&self, name: &str, years: (i32, i32)) -> Arc<LocalCredential> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = CertificateChain::from_pem(certificate.pem().as_bytes()).unwrap();
        let key = PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
        Arc::new(LocalCredential::certificate(chain, key).unwrap())
    }
}
