//! What ipsecd refuses, and that it says why: the tunnel stays down and the log names the reason.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::Lab;
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::pki::{Authority, KeyKind, Validity};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Starts both ends and waits until one of them has logged a refusal; neither may ever be up.
///
/// `reasons` are spellings of which at least one must be in a line of the log, in lower case.
fn refused(name: &str, prepare: impl FnOnce(&OneWan) -> Result<(Text, Text)>, reasons: &[&str]) {
    Lab::test(name, |lab| {
        let wan = OneWan::build(lab)?;
        let (left, right) = prepare(&wan)?;
        let binaries = Binaries::find()?;
        let mut left = Edge::new(&wan.left, &binaries, &left.to_string())?;
        let mut right = Edge::new(&wan.right, &binaries, &right.tunnel("initiate never").to_string())?;
        right.start_ipsecd()?;
        left.start_ipsecd()?;
        let log = |edge: &Edge| edge.ipsecd.as_ref().map(|process| process.log().to_lowercase()).unwrap_or_default();
        lab.wait_for("a refusal in the log", SECONDS(30), || {
            left.must_run()?;
            right.must_run()?;
            for edge in [&left, &right] {
                ensure!(!edge.tunnel_state("tun1")?.starts_with("up"), "tun1 is up at {}", edge.node.name());
            }
            let lines = log(&left) + &log(&right);
            Ok(lines.lines().any(|line| reasons.iter().any(|reason| line.contains(reason))))
        })?;
        lab.holds_for("the tunnel stays down", SECONDS(2), || {
            Ok(!left.tunnel_state("tun1")?.starts_with("up") && !right.tunnel_state("tun1")?.starts_with("up"))
        })
    });
}

fn credential(wan: &OneWan, side: Side, issuer: &Authority, trusted: &Authority, validity: Validity) -> Result<()> {
    let credential = issuer.issue(side.id(), KeyKind::EcdsaP256, validity)?;
    credential.write(wan.node(side).folder(), "own", trusted).map(drop)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_wrong_key() {
    refused(
        "wrong-psk",
        |wan| {
            one_wan::write_psk(&wan.left, "one key of this test")?;
            one_wan::write_psk(&wan.right, "another key of this test")?;
            Ok((Text::new(Side::Left).psk(), Text::new(Side::Right).psk()))
        },
        &["pre-shared key", "pre-shared-key"],
    );
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_wrong_identity() {
    refused(
        "wrong-id",
        |wan| {
            for node in [&wan.left, &wan.right] {
                one_wan::write_psk(node, "the key of this test")?;
            }
            Ok((Text::new(Side::Left).psk().own_id("stranger.example.net"), Text::new(Side::Right).psk()))
        },
        &["stranger.example.net"],
    );
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_expired_certificate() {
    refused(
        "expired",
        |wan| {
            let authority = Authority::new("Lab CA")?;
            credential(wan, Side::Left, &authority, &authority, Validity::Expired)?;
            credential(wan, Side::Right, &authority, &authority, Validity::Current)?;
            Ok((Text::new(Side::Left).certificate(), Text::new(Side::Right).certificate()))
        },
        &["expired"],
    );
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_untrusted_certificate() {
    refused(
        "untrusted",
        |wan| {
            let (authority, stranger) = (Authority::new("Lab CA")?, Authority::new("Another CA")?);
            credential(wan, Side::Left, &stranger, &authority, Validity::Current)?;
            credential(wan, Side::Right, &authority, &authority, Validity::Current)?;
            Ok((Text::new(Side::Left).certificate(), Text::new(Side::Right).certificate()))
        },
        &["trust", "issuer"],
    );
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn no_common_proposal() {
    refused(
        "proposals",
        |wan| {
            for node in [&wan.left, &wan.right] {
                one_wan::write_psk(node, "the key of this test")?;
            }
            let left = Text::new(Side::Left).psk().proposal("aes128gcm16-prfsha256-ecp256", "aes128gcm16");
            Ok((left, Text::new(Side::Right).psk()))
        },
        &["proposal"],
    );
}
