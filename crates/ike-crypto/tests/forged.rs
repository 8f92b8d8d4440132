//! Certificates that somebody tampered with, or that were never meant for this: each class of mistake that other IKE daemons
//! have been caught with.

use std::time::Duration;

use ike_crypto::{CertificateChain, ChainError, PeerCredential, Revocations, TrustAnchors};
use ike_wire::{CertEncoding, Certificate};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};

/// 2027-01-15.
const NOW: Duration = Duration::from_secs(1_800_000_000);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

impl Authority {
    fn root(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params("Example CA", IsCa::Ca(BasicConstraints::Unconstrained));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn below(&self, name: &str, is_ca: IsCa) -> Self {
        let params = params(name, is_ca);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn edge(&self, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut edge = CertificateParams::new(names).unwrap();
        edge.not_before = date_time_ymd(2020, 1, 1);
        edge.not_after = date_time_ymd(2040, 1, 1);
        edge.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().pem()
    }
}

fn sent(pems: &[&str]) -> Vec<Certificate> {
    let read = |pem: &&str| CertificateChain::from_pem(pem.as_bytes()).unwrap().payloads().remove(0);
    pems.iter().map(read).collect()
}

fn judge(trusted: &str, sent: &[Certificate]) -> Result<(), ChainError> {
    let credential = PeerCredential::trust_anchors(TrustAnchors::from_pem([trusted.as_bytes()]).unwrap());
    credential.examine(&"edge1.example.net".parse().unwrap(), sent, NOW, &Revocations::default()).map(|_| ())
}

/// Bleichenbacher's forgery of 2006, against which daemons with RSA parsers of their own have failed as late as 2018: below
/// exponent 3 the cube root of a number that begins like a padded hash is a "signature", if what follows the hash is not
/// looked at. The files: a real authority with exponent 3, a certificate it signed, and one with the cube root instead.
#[test]
fn a_cube_root_is_no_signature() {
    let [authority, genuine, forged] = [
        include_str!("testdata/exponent3-ca.pem"),
        include_str!("testdata/exponent3-leaf.pem"),
        include_str!("testdata/exponent3-forged.pem"),
    ];
    assert_eq!(judge(authority, &sent(&[genuine])), Ok(()), "or the test would show nothing");
    let refused = judge(authority, &sent(&[forged])).unwrap_err();
    assert!(matches!(refused, ChainError::ForgedCertificate { .. }), "{refused}");
}

#[test]
fn a_site_cannot_vouch_for_another() {
    let root = Authority::root(|_| {});
    // Its certificate says so, or says nothing of it.
    for is_ca in [IsCa::ExplicitNoCa, IsCa::NoCa] {
        let site = root.below("edge2", is_ca);
        let edge = site.edge(&["edge1.example.net"]);
        assert!(judge(&root.pem, &sent(&[&edge, &site.pem])).is_err());
    }
    let middle = root.below("Issuing CA", IsCa::Ca(BasicConstraints::Unconstrained));
    let edge = middle.edge(&["edge1.example.net"]);
    assert_eq!(judge(&root.pem, &sent(&[&edge, &middle.pem])), Ok(()));
    assert!(matches!(judge(&root.pem, &sent(&[&edge])), Err(ChainError::UntrustedIssuer { .. })));
}

#[test]
fn an_authority_keeps_to_its_depth_its_use_and_its_names() {
    let root = Authority::root(|_| {});
    let shallow = root.below("Shallow CA", IsCa::Ca(BasicConstraints::Constrained(0)));
    let deeper = shallow.below("Deeper CA", IsCa::Ca(BasicConstraints::Unconstrained));
    let edge = deeper.edge(&["edge1.example.net"]);
    assert!(judge(&root.pem, &sent(&[&edge, &deeper.pem, &shallow.pem])).is_err(), "path length");

    let named = |permitted: &[&str], excluded: &[&str]| {
        let subtrees = |names: &[&str]| names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
        let constraints =
            NameConstraints { permitted_subtrees: subtrees(permitted), excluded_subtrees: subtrees(excluded) };
        Authority::root(|params| {
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.name_constraints = Some(constraints);
        })
    };
    let within = named(&["example.net"], &[]);
    assert_eq!(judge(&within.pem, &sent(&[&within.edge(&["edge1.example.net"])])), Ok(()));
    for (authority, names) in [
        (named(&["example.org"], &[]), &["edge1.example.net"][..]),
        (named(&["example.net"], &[]), &["edge1.example.net", "edge1.example.org"]),
        (named(&[], &["edge1.example.net"]), &["edge1.example.net"]),
    ] {
        let refused = judge(&authority.pem, &sent(&[&authority.edge(names)]));
        assert!(matches!(refused, Err(ChainError::Refused { .. })), "{refused:?}");
    }
}

/// Authorities of one name that have all signed each other: a path through them can be looked for without end.
#[test]
fn a_maze_of_authorities_ends() {
    let outside = Authority::root(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Outside");
    });
    let rooms: Vec<_> = (0..15).map(|_| outside.below("Room", IsCa::Ca(BasicConstraints::Unconstrained))).collect();
    let first = rooms.first().unwrap();
    let crossed: Vec<_> = rooms
        .iter()
        .map(|room| {
            let room =
                params("Room", IsCa::Ca(BasicConstraints::Unconstrained)).signed_by(room.issuer.key(), &first.issuer);
            room.unwrap().pem()
        })
        .collect();
    let edge = first.edge(&["edge1.example.net"]);
    let all: Vec<&str> = [edge.as_str()].into_iter().chain(crossed.iter().map(String::as_str)).collect();
    let root = Authority::root(|_| {});
    assert!(judge(&root.pem, &sent(&all)).is_err());
}

/// RFC 7296 §3.6 lets a peer send a URL in the place of a certificate. Nothing is fetched for a stranger.
#[test]
fn only_certificates_themselves_count() {
    let root = Authority::root(|_| {});
    let data = [&[7; 20][..], b"http://192.0.2.1/cert"].concat();
    for encoding in (0..=255).map(CertEncoding::from) {
        if encoding != CertEncoding::X509Signature {
            assert_eq!(judge(&root.pem, &[Certificate { encoding, data: data.clone() }]), Err(ChainError::Missing));
        }
    }
    assert_eq!(judge(&root.pem, &[]), Err(ChainError::Missing));
}

#[test]
fn what_is_cut_or_changed_is_refused() {
    let root = Authority::root(|_| {});
    let whole = sent(&[&root.edge(&["edge1.example.net"])]).remove(0);
    assert_eq!(judge(&root.pem, std::slice::from_ref(&whole)), Ok(()));
    for at in 0..whole.data.len() {
        let cut = Certificate { data: whole.data[..at].to_vec(), ..whole.clone() };
        assert!(judge(&root.pem, &[cut]).is_err(), "cut at {at}");
        for bit in [0x01, 0x80] {
            let mut changed = whole.clone();
            changed.data[at] ^= bit;
            assert!(judge(&root.pem, &[changed]).is_err(), "octet {at} changed by {bit:#04x}");
        }
    }
}
