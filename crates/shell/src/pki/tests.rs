//! An authority's life, checked with the verification that ipsecd accepts peers by.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use clap::Parser;
use ike_crypto::{
    CertificateChain, ChainError, LocalCredential, PeerCredential, PeerPolicy, PrivateKey, RevocationPolicy,
    Revocations, TrustAnchors, pki::RevocationList,
};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// 2026-06-01.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_272_000)
}

/// Runs a line as an operator types it, in a folder.
fn pki(at: &Path, line: &str, when: SystemTime) -> Result<String, String> {
    let here = at.display().to_string();
    let words = line.split_whitespace().map(|word| word.replace("HERE", &here).replace('_', " "));
    let line = Line::try_parse_from(["pki".to_owned()].into_iter().chain(words)).map_err(|error| error.to_string())?;
    carry_out(line.command, when).map_err(|error| error.to_string())
}

/// Whether a peer with this certificate is accepted as edge1, by somebody who has the authority's certificate and list.
fn accepted(at: &Path, certificate: &str, when: SystemTime) -> Result<(), ChainError> {
    let read = |name: &str| fs::read(at.join(name)).unwrap();
    let anchors = TrustAnchors::from_pem([&read("ca/ca.pem")[..]]).unwrap();
    let policy = PeerPolicy { revocation: RevocationPolicy::Strict, ..PeerPolicy::trusting(anchors) };
    let chain = CertificateChain::from_pem(&read(certificate)).unwrap();
    let lists = vec![RevocationList::read(&read("ca/crl.pem")).unwrap()];
    let when = when.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    PeerCredential::certificates(policy)
        .examine(
            &"edge1.example.net".parse().unwrap(),
            &chain.payloads(),
            when,
            &Revocations::new(lists, BTreeMap::new()),
        )
        .map(|_| ())
}

#[test]
fn a_site_gets_a_certificate_and_loses_it() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for key in ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa"] {
        let line = format!(
            "ca HERE/ca --name Example_CA --organization Example --key {key} --crl-url http://pki.example.net/c"
        );
        pki(here, &line, now()).unwrap();
        let said =
            pki(here, &format!("issue HERE/ca edge1.example.net --also 192.0.2.1 --unit Edges --key {key}"), now());
        assert!(said.unwrap().contains("edge1.example.net until 2027-07-03"));
        assert_eq!(accepted(here, "ca/edge1.example.net.pem", now()), Ok(()));
        let (certificate, own) = (here.join("ca/edge1.example.net.pem"), here.join("ca/edge1.example.net.key"));
        for secret in [&own, &here.join("ca/ca.key")] {
            assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let chain = CertificateChain::from_pem(&fs::read(&certificate).unwrap()).unwrap();
        let key = PrivateKey::from_pem(&fs::read(&own).unwrap()).unwrap();
        let credential = LocalCredential::certificate(chain, key).unwrap();
        for name in ["edge1.example.net", "192.0.2.1"] {
            assert_eq!(credential.vouches_for(&name.parse().unwrap()), Ok(()));
        }
        let said = pki(here, "revoke HERE/ca edge1.example.net", now()).unwrap();
        assert!(said.contains("is taken back") && said.contains("list 2, 1 taken back"), "{said}");
        let refused = accepted(here, "ca/edge1.example.net.pem", now()).unwrap_err();
        assert!(matches!(refused, ChainError::Revoked { .. }), "{refused}");
        fs::remove_dir_all(here.join("ca")).unwrap();
    }
}

#[test]
fn a_site_keeps_its_key_and_gets_the_names_that_the_operator_says() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pki(here, "ca HERE/ca --name Example_CA --permit example.net --permit 192.0.2.0/24", now()).unwrap();
    let out = here.join("site");
    fs::create_dir(&out).unwrap();
    pki(here, "request hub.example.net --out HERE/site", now()).unwrap();
    let said =
        pki(here, "issue HERE/ca edge1.example.net --request HERE/site/hub.example.net.csr --out HERE/site", now());
    assert!(!said.unwrap().contains("its key"));
    assert_eq!(accepted(here, "site/edge1.example.net.pem", now()), Ok(()));
    let chain = CertificateChain::from_pem(&fs::read(out.join("edge1.example.net.pem")).unwrap()).unwrap();
    let key = PrivateKey::from_pem(&fs::read(out.join("hub.example.net.key")).unwrap()).unwrap();
    assert!(LocalCredential::certificate(chain, key).is_ok(), "the key of the request");
    // Names outside of what the authority may certify are refused by whoever checks.
    pki(here, "issue HERE/ca edge1.example.com --also edge1.example.net", now()).unwrap();
    assert!(matches!(accepted(here, "ca/edge1.example.com.pem", now()), Err(ChainError::Refused { .. })));
    // A request that was changed on the way has no signature any more.
    let request = fs::read_to_string(out.join("hub.example.net.csr")).unwrap();
    let at = request.len() / 2;
    let other = if request.as_bytes()[at] == b'A' { "B" } else { "A" };
    fs::write(out.join("bad.csr"), format!("{}{other}{}", &request[..at], &request[at + 1..])).unwrap();
    assert!(pki(here, "issue HERE/ca edge2.example.net --request HERE/site/bad.csr", now()).is_err());
}

#[test]
fn renewal_leaves_the_old_one_until_it_is_taken_back_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pki(here, "ca HERE/ca --name Example_CA --days 400", now()).unwrap();
    let out = |n: u32| {
        let out = here.join(format!("out{n}"));
        fs::create_dir(&out).unwrap();
        pki(here, &format!("issue HERE/ca edge1.example.net --out HERE/out{n}"), now()).unwrap()
    };
    let serial = |said: &str| said.split_once("serial ").unwrap().1.lines().next().unwrap().to_owned();
    let (first, second) = (serial(&out(1)), serial(&out(2)));
    assert_ne!(first, second);
    pki(here, &format!("revoke HERE/ca {}", first.to_uppercase()), now()).unwrap();
    assert!(accepted(here, "out1/edge1.example.net.pem", now()).is_err());
    assert_eq!(accepted(here, "out2/edge1.example.net.pem", now()), Ok(()));
    let json: serde_json::Value = serde_json::from_str(&pki(here, "list HERE/ca --json", now()).unwrap()).unwrap();
    let states: Vec<_> = (0..2).map(|n| json["certificates"][n]["state"].as_str().unwrap()).collect();
    assert_eq!((states, json["crlNumber"].as_u64()), (vec!["revoked", "valid"], Some(2)));
    // What has expired by itself leaves the list; an authority that has ended issues nothing.
    let later = now() + Duration::from_secs(399 * 86_400);
    assert!(pki(here, "crl HERE/ca", later).unwrap().contains("list 3, 0 taken back"));
    let ended = now() + Duration::from_secs(401 * 86_400);
    assert!(pki(here, "issue HERE/ca edge2.example.net", ended).unwrap_err().contains("the authority ends on"));
    // Nothing outlives its authority.
    let said = pki(here, "issue HERE/ca edge3.example.net", later).unwrap();
    assert!(said.contains("until 2027-07-06"), "{said}");
}

#[test]
fn files_are_shown_and_nothing_is_overwritten_that_cannot_be_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    pki(here, "ca HERE/ca --name Example_CA", now()).unwrap();
    pki(here, "issue HERE/ca edge1.example.net", now()).unwrap();
    let shown = pki(here, "show HERE/ca/edge1.example.net.pem", now()).unwrap();
    for part in
        ["certificate of CN=edge1.example.net", "issued by CN=Example CA", "id edge1.example.net", "fingerprint "]
    {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(
        pki(here, "show HERE/ca/crl.pem", now()).unwrap().starts_with("revocation list of CN=Example CA\n  number 1")
    );
    for file in ["edge1.example.net.pem", "crl.pem"] {
        let json = pki(here, &format!("show HERE/ca/{file} --json"), now()).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&json).unwrap().is_object());
    }
    for (line, words) in [
        ("ca HERE/ca --name Other_CA", "the folder is not empty"),
        ("issue HERE/ca edge1.example.net", "edge1.example.net.key: File exists"),
        ("issue HERE/ca ../edge1", "cannot be a site's name"),
        ("issue HERE/ca edge2 --also bad_name", "is no name for a certificate"),
        ("issue HERE/none edge2", "is no authority's folder"),
        ("revoke HERE/ca edge9", "no certificate is named \"edge9\""),
        ("show HERE/ca/ca.key", "neither certificates nor a revocation list"),
        ("ca HERE/ca2 --name X --permit 10.0.0.0/33", "neither a domain nor a network"),
    ] {
        let refused = pki(here, line, now()).unwrap_err();
        assert!(refused.contains(words), "{line}: {refused}");
    }
    assert!(!here.join("ca2").exists(), "what is refused leaves nothing behind");
    let before = pki(here, "list HERE/ca", now()).unwrap();
    assert_eq!(before.lines().count(), 2, "{before}");
}
