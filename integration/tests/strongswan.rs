//! IKEv2 and ESP with strongSwan: both as initiator and responder, by key and by certificate, with rekeying and traffic.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::capture::Capture;
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::peers::{Connection, Secret, StrongSwan};
use integration::pki::{Authority, KeyKind, Validity};
use integration::{Lab, packages};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const KEY: &str = "correct horse battery staple";

#[derive(Clone, Copy, PartialEq)]
enum Initiator {
    Ours,
    Theirs,
}

#[derive(Clone, Copy, PartialEq)]
enum Auth {
    Psk,
    /// And a postquantum one beside it, of this name at strongSwan's end.
    PskAndPpk(&'static str),
    Certificate(KeyKind),
}

struct Pair {
    wan: OneWan,
    ours: Edge,
    theirs: StrongSwan,
}

/// Algorithms of IKE and of ESP, as each end has them.
struct Suites {
    ours: (&'static str, &'static str),
    theirs: (&'static str, &'static str),
}

impl Suites {
    const USUAL: Self = Self::both("aes256gcm16-prfsha384-ecp384", "aes256gcm16");

    /// The same at both ends.
    const fn both(ike: &'static str, esp: &'static str) -> Self {
        Self { ours: (ike, esp), theirs: (ike, esp) }
    }
}

/// Our edge on the left, strongSwan on the right; waits until the tunnel is up at both ends.
fn connect(lab: &Lab, initiator: Initiator, auth: Auth, ours_more: &str, theirs_more: (&str, &str)) -> Result<Pair> {
    connect_with(lab, initiator, auth, &Suites::USUAL, ours_more, theirs_more)
}

fn connect_with(
    lab: &Lab,
    initiator: Initiator,
    auth: Auth,
    suites: &Suites,
    ours_more: &str,
    theirs_more: (&str, &str),
) -> Result<Pair> {
    packages::ensure(&packages::PEERS)?;
    let wan = OneWan::build(lab)?;
    let mut text = Text::new(Side::Left)
        .proposal(suites.ours.0, suites.ours.1)
        .tunnel("local-ts 10.1.0.0/24")
        .tunnel("remote-ts 10.2.0.0/24")
        .tunnel(ours_more);
    if initiator == Initiator::Theirs {
        text = text.tunnel("initiate never");
    }
    let secret = match auth {
        Auth::Psk => {
            text = text.psk();
            one_wan::write_psk(&wan.left, KEY)?;
            Secret::Psk(KEY.to_owned())
        }
        Auth::PskAndPpk(name) => {
            text = text.psk();
            one_wan::write_psk(&wan.left, KEY)?;
            integration::pki::write_secret(&wan.left.folder().join("ppk"), "from another safe place\n")?;
            Secret::PskAndPpk(KEY.to_owned(), (name.to_owned(), "from another safe place".to_owned()))
        }
        Auth::Certificate(kind) => {
            text = text.certificate();
            let authority = Authority::new("Lab CA")?;
            authority.issue(Side::Left.id(), kind, Validity::Current)?.write(wan.left.folder(), "own", &authority)?;
            let theirs = authority.issue(Side::Right.id(), kind, Validity::Current)?;
            Secret::Certificate(theirs.write(wan.right.folder(), "own", &authority)?)
        }
    };
    let connection = Connection {
        local: Side::Right.wan_address().to_owned(),
        remote: Side::Left.wan_address().to_owned(),
        local_id: Side::Right.id().to_owned(),
        remote_id: Side::Left.id().to_owned(),
        selectors: ("10.2.0.0/24".to_owned(), "10.1.0.0/24".to_owned()),
        ike: suites.theirs.0.to_owned(),
        esp: suites.theirs.1.to_owned(),
        secret,
        more: theirs_more.0.to_owned(),
        more_child: theirs_more.1.to_owned(),
    };
    let theirs = StrongSwan::start(&wan.right, &connection)?;
    let mut ours = Edge::new(&wan.left, &Binaries::find()?, &text.to_string())?;
    ours.start_ipsecd()?;
    if initiator == Initiator::Theirs {
        lab.wait_for("strongSwan's tunnel", SECONDS(30), || theirs.initiate().map(|_| true))?;
    }
    one_wan::wait_up(lab, &mut ours)?;
    lab.wait_for("strongSwan has installed the child", SECONDS(10), || theirs.is_up())?;
    theirs.must_have_the_labs_datapath()?;
    wan.left.route("10.2.0.0/24 dev tun1 src 10.1.0.1")?;
    Ok(Pair { wan, ours, theirs })
}

fn interoperate(name: &str, initiator: Initiator, auth: Auth) {
    Lab::test(name, |lab| {
        let pair = connect(lab, initiator, auth, "", ("", ""))?;
        let capture = Capture::start(&pair.wan.isp, |_| true)?;
        pair.wan.ping_through(Side::Left)?;
        pair.wan.ping_through(Side::Right)?;
        let captured = capture.finish()?;
        let leaks = pair.wan.clearness()?.findings(&captured);
        ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_a_key() {
    interoperate("ours-psk", Initiator::Ours, Auth::Psk);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_a_key() {
    interoperate("theirs-psk", Initiator::Theirs, Auth::Psk);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_ecdsa_certificates() {
    interoperate("ours-ecdsa", Initiator::Ours, Auth::Certificate(KeyKind::EcdsaP256));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_ecdsa_certificates() {
    interoperate("theirs-ecdsa", Initiator::Theirs, Auth::Certificate(KeyKind::EcdsaP384));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_rsa_certificates() {
    interoperate("ours-rsa", Initiator::Ours, Auth::Certificate(KeyKind::Rsa2048));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_ed25519_certificates() {
    interoperate("theirs-ed25519", Initiator::Theirs, Auth::Certificate(KeyKind::Ed25519));
}

/// The IKE SA comes without a child SA, the first of which then has a key exchange of its own (RFC 6023).
fn childless(name: &str, initiator: Initiator, ours: &str, theirs: &str) {
    Lab::test(name, |lab| {
        let suites = Suites::both("aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384");
        let pair = connect_with(lab, initiator, Auth::Psk, &suites, ours, (theirs, ""))?;
        let sas = pair.theirs.sas()?;
        ensure!(sas.contains("ESP:AES_GCM_16-256/ECP_384"), "the first child SA has no key exchange: {sas}");
        pair.wan.ping_through(Side::Left)?;
        pair.wan.ping_through(Side::Right)?;
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_without_a_child() {
    childless("ours-childless", Initiator::Ours, "childless prefer", "childless = force");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_without_a_child() {
    childless("theirs-childless", Initiator::Theirs, "childless force", "childless = force");
}

/// charon is configured not to know of it: the child SA comes with IKE_AUTH.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_a_child_where_they_never_do_without() {
    Lab::test("never-childless", |lab| {
        let suites = Suites::both("aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384");
        let more = ("childless = never", "");
        let pair = connect_with(lab, Initiator::Ours, Auth::Psk, &suites, "childless prefer", more)?;
        let sas = pair.theirs.sas()?;
        ensure!(sas.contains("ESP:AES_GCM_16-256") && !sas.contains("AES_GCM_16-256/ECP_384"), "by itself: {sas}");
        pair.wan.ping_through(Side::Left)
    });
}

/// The number that charon gives to an SA: `net: #3, ESTABLISHED` and `net: #7, reqid 1, INSTALLED`.
fn unique_id(sas: &str, state: &str) -> Result<u32> {
    let line = sas.lines().find(|line| line.contains(state)).with_context(|| format!("no SA is {state}: {sas}"))?;
    let id = line.split_once('#').and_then(|(_, rest)| rest.split(',').next());
    Ok(id.with_context(|| format!("no number in {line}"))?.parse()?)
}

/// Checks that an SA has been replaced while traffic flowed, and that traffic still does.
fn rekeyed(lab: &Lab, pair: &Pair, state: &str, rekey: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = unique_id(&pair.theirs.sas()?, state)?;
    rekey()?;
    lab.wait_for("the SA is a new one", SECONDS(120), || {
        let sas = pair.theirs.sas()?;
        let states = sas.matches(state).count();
        Ok(states == 1 && unique_id(&sas, state)? > before)
    })?;
    pair.wan.ping_through(Side::Left)?;
    pair.wan.ping_through(Side::Right)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_rekey_the_child_and_the_ike_sa() {
    Lab::test("theirs-rekey", |lab| {
        let pair = connect(lab, Initiator::Ours, Auth::Psk, "", ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))?;
        rekeyed(lab, &pair, "ESTABLISHED", || pair.theirs.rekey("--ike net").map(drop))?;
        // And once more the child, under the new IKE SA.
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_rekey_the_child_and_the_ike_sa() {
    Lab::test("ours-rekey", |lab| {
        let pair = connect(lab, Initiator::Ours, Auth::Psk, "rekey ike 60\nrekey child 30", ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        rekeyed(lab, &pair, "INSTALLED", || Ok(()))?;
        rekeyed(lab, &pair, "ESTABLISHED", || Ok(()))
    });
}

/// Traffic both ways, then every kind of rekey by strongSwan and the traffic again; charon says `shown` of its SAs.
fn older_algorithms(name: &str, initiator: Initiator, suites: &Suites, shown: [&str; 2]) {
    Lab::test(name, |lab| {
        let pair = connect_with(lab, initiator, Auth::Psk, suites, "", ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        pair.wan.ping_through(Side::Right)?;
        let sas = pair.theirs.sas()?;
        ensure!(shown.iter().all(|text| sas.contains(text)), "{shown:?} expected: {sas}");
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))?;
        rekeyed(lab, &pair, "ESTABLISHED", || pair.theirs.rekey("--ike net").map(drop))?;
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_cbc_and_modp2048() {
    let suites = Suites::both("aes256-sha256-modp2048", "aes256-sha256-modp2048");
    let shown = ["AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_CBC-256/HMAC_SHA2_256_128"];
    older_algorithms("ours-cbc", Initiator::Ours, &suites, shown);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_cbc_and_modp2048() {
    let suites = Suites::both("aes128-sha256-modp2048", "aes128-sha256-modp2048");
    let shown = ["AES_CBC-128/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048", "AES_CBC-128/HMAC_SHA2_256_128"];
    older_algorithms("theirs-cbc", Initiator::Theirs, &suites, shown);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_sha512_and_modp4096() {
    let suites = Suites::both("aes192-sha512-modp4096", "aes192-sha512-modp3072");
    let shown = ["AES_CBC-192/HMAC_SHA2_512_256/PRF_HMAC_SHA2_512/MODP_4096", "AES_CBC-192/HMAC_SHA2_512_256"];
    older_algorithms("theirs-modp4096", Initiator::Theirs, &suites, shown);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_sha384_and_p521() {
    let suites = Suites::both("aes256-sha384-ecp521", "aes256gcm16-ecp521");
    let shown = ["AES_CBC-256/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384/ECP_521", "AES_GCM_16-256"];
    older_algorithms("ours-p521", Initiator::Ours, &suites, shown);
}

/// We rekey: IKE SA and child with a key exchange of each one's own, in CBC.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_rekey_with_cbc_and_modp2048() {
    Lab::test("ours-cbc-rekey", |lab| {
        let suites = Suites::both("aes256-sha256-modp2048", "aes256-sha256-modp2048");
        let more = "rekey ike 60\nrekey child 30";
        let pair = connect_with(lab, Initiator::Ours, Auth::Psk, &suites, more, ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        rekeyed(lab, &pair, "INSTALLED", || Ok(()))?;
        rekeyed(lab, &pair, "ESTABLISHED", || Ok(()))
    });
}

/// The first group offered is not one of the other end's: INVALID_KE_PAYLOAD names another, in IKE_SA_INIT and, once the
/// child is rekeyed, in CREATE_CHILD_SA.
fn another_group(name: &str, initiator: Initiator) {
    Lab::test(name, |lab| {
        let (many, few) = ("aes256-sha256-modp2048-ecp521", "aes256-sha256-ecp521");
        // Ours are suites of one group each; the second is what the peer can do.
        let ours_many = ("aes256-sha256-modp2048 aes256-sha256-ecp521", "aes256-sha256-modp2048 aes256-sha256-ecp521");
        let suites = match initiator {
            Initiator::Ours => Suites { ours: ours_many, theirs: (few, few) },
            Initiator::Theirs => Suites { ours: (few, few), theirs: (many, many) },
        };
        let pair = connect_with(lab, initiator, Auth::Psk, &suites, "rekey child 30", ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        let sas = pair.theirs.sas()?;
        ensure!(sas.contains("ECP_521"), "another group than the common one: {sas}");
        match initiator {
            Initiator::Ours => rekeyed(lab, &pair, "INSTALLED", || Ok(())),
            Initiator::Theirs => rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop)),
        }
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_are_asked_for_another_group() {
    another_group("ours-group", Initiator::Ours);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_are_asked_for_another_group() {
    another_group("theirs-group", Initiator::Theirs);
}

/// A postquantum preshared key (RFC 8784), and rekeys of both kinds on top.
fn postquantum_key(name: &str, initiator: Initiator, theirs: (&'static str, &str), ours: &str, used: bool) {
    Lab::test(name, |lab| {
        let more = (theirs.1, "");
        let ours = format!("ppk site7 file /etc/holdfast/ppk {ours}");
        let pair = connect(lab, initiator, Auth::PskAndPpk(theirs.0), &ours, more)?;
        pair.wan.ping_through(Side::Left)?;
        let sas = pair.theirs.sas()?;
        ensure!(sas.contains("/PPK") == used, "the key is used: {used} expected: {sas}");
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))?;
        rekeyed(lab, &pair, "ESTABLISHED", || pair.theirs.rekey("--ike net").map(drop))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_a_postquantum_key_that_both_insist_on() {
    postquantum_key("ours-ppk", Initiator::Ours, ("site7", "ppk_id = site7\nppk_required = yes"), "required", true);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_a_postquantum_key_that_both_insist_on() {
    postquantum_key("theirs-ppk", Initiator::Theirs, ("site7", "ppk_id = site7\nppk_required = yes"), "required", true);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_postquantum_key_of_another_name_is_done_without_where_nobody_insists() {
    postquantum_key("ours-no-ppk", Initiator::Ours, ("site8", ""), "", false);
    postquantum_key("theirs-no-ppk", Initiator::Theirs, ("site8", "ppk_id = site8"), "", false);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_authenticate_anew_without_a_gap() {
    Lab::test("ours-reauth", |lab| {
        let pair = connect(lab, Initiator::Ours, Auth::Psk, "reauthenticate 10", ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        rekeyed(lab, &pair, "ESTABLISHED", || Ok(()))?;
        rekeyed(lab, &pair, "ESTABLISHED", || Ok(()))?;
        let shown = pair.ours.json("show ipsec tunnel tun1 json")?;
        let count = |what: &str| shown.pointer(&format!("/tun1/{what}")).and_then(serde_json::Value::as_u64);
        ensure!(count("timesUp") == Some(1) && count("ikeReauths") >= Some(2), "it was down, or not renewed: {shown}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_silent_peer_is_noticed_and_comes_back() {
    Lab::test("dpd", |lab| {
        let more = ("dpd_delay = 2s", "dpd_action = clear");
        let mut pair = connect(lab, Initiator::Ours, Auth::Psk, "dpd interval 1 timeout 4", more)?;
        // Requests of the peer are answered: it would give up otherwise.
        lab.holds_for("both ends stay up while they ask each other", SECONDS(6), || {
            Ok(pair.theirs.is_up()? && pair.ours.tunnel_state("tun1")?.starts_with("up"))
        })?;
        pair.wan.isp.ip("rule add pref 0 blackhole")?;
        lab.wait_for("the tunnel is down", SECONDS(30), || Ok(!pair.ours.tunnel_state("tun1")?.starts_with("up")))?;
        pair.wan.isp.ip("rule del pref 0 blackhole")?;
        one_wan::wait_up(lab, &mut pair.ours)?;
        lab.wait_for("traffic again", SECONDS(20), || pair.wan.ping_through(Side::Left).map(|()| true))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tunnel_that_the_peer_deletes_goes_down() {
    Lab::test("delete", |lab| {
        let pair = connect(lab, Initiator::Theirs, Auth::Psk, "", ("", ""))?;
        pair.theirs.swanctl("--terminate --ike net")?;
        lab.wait_for("the tunnel is down", SECONDS(10), || Ok(!pair.ours.tunnel_state("tun1")?.starts_with("up")))
    });
}
