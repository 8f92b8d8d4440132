//! What a peer, a list server or a responder may send: certificates, revocation lists, OCSP answers. Read or refused; nothing
//! is accepted that was not signed.
//!
//! The first octet says which; certificates have two octets of length before each.
#![no_main]

use std::{sync::OnceLock, time::Duration};

use ike_crypto::{
    CertificateChain, Identity, PeerCredential, PeerPolicy, RevocationPolicy, Revocations, StatusQuery, TrustAnchors,
    pki::{CertificateNames, RevocationList},
};
use ike_wire::{CertEncoding, Certificate};

const AUTHORITY: &[u8] = include_bytes!("../../crates/ike-crypto/tests/testdata/exponent3-ca.pem");
const EDGE: &[u8] = include_bytes!("../../crates/ike-crypto/tests/testdata/exponent3-leaf.pem");
/// 2027-01-15.
const NOW: Duration = Duration::from_secs(1_800_000_000);

struct Fixed {
    credential: PeerCredential,
    peer: Identity,
    genuine: Vec<Certificate>,
    query: StatusQuery,
}

fn fixed() -> &'static Fixed {
    static FIXED: OnceLock<Fixed> = OnceLock::new();
    FIXED.get_or_init(|| {
        let anchors = TrustAnchors::from_pem([AUTHORITY]).expect("an authority");
        let credential = PeerCredential::certificates(PeerPolicy {
            revocation: RevocationPolicy::Strict,
            responder: Some("http://192.0.2.1/".into()),
            ..PeerPolicy::trusting(anchors)
        });
        let genuine = CertificateChain::from_pem(EDGE).expect("a certificate").payloads();
        let peer = "edge1.example.net".parse().expect("a name");
        let query = credential.examine(&peer, &genuine, NOW, &Revocations::default());
        let query = query.expect("a good certificate").expect("a question");
        Fixed { credential, peer, genuine, query }
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, mut rest)) = data.split_first() else { return };
    let Fixed { credential, peer, genuine, query } = fixed();
    match kind % 3 {
        0 => {
            let mut sent = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk::<2>() {
                let (one, after) = after.split_at(after.len().min(u16::from_be_bytes(*length).into()));
                sent.push(Certificate { encoding: CertEncoding::X509Signature, data: one.to_vec() });
                let _ = CertificateNames::read(one).map(|names| names.to_string());
                rest = after;
            }
            let accepted = credential.examine(peer, &sent, NOW, &Revocations::default()).is_ok();
            assert!(!accepted || sent.first().is_some_and(|own| own.data == genuine[0].data), "a forgery was accepted");
        }
        1 => {
            let Ok(list) = RevocationList::read(rest) else { return };
            let _ = (list.issuer().to_string(), list.number(), list.revoked());
            let known = Revocations::new(vec![list], Default::default());
            // By another key: it changes nothing.
            assert_eq!(credential.examine(peer, genuine, NOW, &known), Ok(Some(query.clone())));
        }
        _ => assert!(query.read(rest, NOW).is_err(), "nobody here has the key"),
    }
});
