//! The task against servers on the loopback: what it fetches, asks, keeps and publishes.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use ike_crypto::{Identity, PeerCredential, PeerPolicy, RevocationPolicy, TrustAnchors};
use ike_wire::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// An authority for tests.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn certificate(&self, name: &str, serial: u64) -> Vec<u8> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn names_of(&self, name: &str, serial: u64) -> CertificateNames {
        CertificateNames::read(&self.certificate(name, serial)).unwrap()
    }

    fn list_der(&self, revoked: &[u64], number: u64) -> Vec<u8> {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2040, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn list(&self, revoked: &[u64], number: u64) -> RevocationList {
        RevocationList::read(&self.list_der(revoked, number)).unwrap()
    }

    fn policy(&self, responder: Option<&str>) -> PeerCredential {
        let anchors = TrustAnchors::from_pem([self.pem.as_bytes()]).unwrap();
        PeerCredential::certificates(PeerPolicy {
            revocation: RevocationPolicy::Strict,
            responder: responder.map(Into::into),
            ..PeerPolicy::trusting(anchors)
        })
    }
}

fn trust() -> (Trust, State) {
    let (state, _requests) = crate::show::tests::state();
    (Trust::start(state.clone()), state)
}

/// What must come, within a bound that only a failure needs.
async fn published(trust: &mut Trust, what: &str, wanted: impl Fn(&Revocations) -> bool) -> Arc<Revocations> {
    let come = async {
        loop {
            let known = trust.changed().await;
            if wanted(&known) {
                return known;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), come).await.unwrap_or_else(|_| panic!("not published: {what}"))
}

fn takes_back(known: &Revocations, count: usize) -> bool {
    known.lists().iter().map(RevocationList::revoked).eq([count])
}

/// A server that gives what `body` says, and its URL.
async fn server(mut body: impl FnMut() -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = vec![0; 4096];
            let _read = stream.read(&mut asked).await;
            let body = body();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _closed = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
    url
}

fn lists(sources: impl IntoIterator<Item = (ListSource, Option<RevocationList>)>) -> Material {
    Material { held: Vec::new(), lists: sources.into_iter().collect() }
}

#[tokio::test]
async fn a_list_is_fetched_and_its_server_may_fail() {
    let authority = Authority::new("Example CA");
    let der = authority.list_der(&[1, 2, 3], 1);
    let good = server(move || der.clone()).await;
    let bad = server(|| b"not a list".to_vec()).await;
    let (mut trust, state) = trust();
    let source = |url: &str| (ListSource::Url(url.parse().unwrap()), None);
    trust.configure(lists([source(&good), source(&bad)]));
    published(&mut trust, "the list", |known| takes_back(known, 3)).await;
    let failed = || state.trust().lists.iter().any(|view| view.failures > 0 && view.error.is_some());
    let told = async {
        while !failed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("the failure is shown");
    // Configured no more, it is known no more.
    let known = trust.configure(lists([]));
    assert!(takes_back(&known, 3), "until the task has had its turn");
    published(&mut trust, "nothing", |known| known.lists().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_it_changes_and_not_forgotten_when_it_breaks() {
    let authority = Authority::new("Example CA");
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("site.crl");
    std::fs::write(&path, authority.list_der(&[1], 1)).unwrap();
    let (mut trust, _state) = trust();
    let known = trust.configure(lists([(ListSource::File(path.clone()), Some(read_list(&path).unwrap()))]));
    assert!(takes_back(&known, 1), "known at once");
    std::fs::write(&path, "garbage").unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    std::fs::write(&path, authority.list_der(&[1, 2], 2)).unwrap();
    published(&mut trust, "the new list", |known| takes_back(known, 2)).await;
}

#[tokio::test]
async fn a_responder_is_asked_once_and_its_silence_is_known_for_a_while() {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let authority = Authority::new("Example CA");
    let url = server(|| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        b"not an answer".to_vec()
    })
    .await;
    let policy = authority.policy(Some(&url));
    let peer: Identity = "edge1.example.net".parse().unwrap();
    let data = authority.certificate("edge1.example.net", 7);
    let sent = [Certificate { encoding: ike_wire::CertEncoding::X509Signature, data }];
    let examine = |known: &Revocations| policy.examine(&peer, &sent, since_1970(), known);
    let (mut trust, state) = trust();
    let query = examine(&Revocations::default()).unwrap().expect("a question");
    for _ in 0..3 {
        trust.asker().ask(query.clone());
    }
    let known = published(&mut trust, "the silence", |known| examine(known).is_err()).await;
    assert!(examine(&known).unwrap_err().to_string().contains("did not answer"));
    let view = &state.trust().responders[0];
    assert_eq!(
        (view.url.as_str(), view.answers, view.failures, ASKED.load(Ordering::Relaxed)),
        (url.as_str(), 0, 1, 1)
    );
}
