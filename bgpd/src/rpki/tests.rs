//! Caches made of sockets, with and without TLS, against a real table.

use std::{path::Path, sync::Arc, time::Duration};

use bgp_core::rib::RibConfig;
use config::model::{self, RpkiTransport};
use net_types::{Asn, RouterId};
use rtr::{Pdu, Version};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::rib_thread::{self, Outlet};

struct Nowhere;

impl Outlet for Nowhere {
    fn fib_room(&self) -> usize {
        usize::MAX
    }
    fn fib_changes(&self, _: Vec<bgp_core::rib::BestChange>) {}
    fn next_hop_room(&self) -> usize {
        usize::MAX
    }
    fn next_hop(&self, _: bgp_core::rib::NextHopEvent) {}
    fn event(&self, _: bgp_core::rib::RibEvent) {}
    fn end_of_rib(&self, _: bgp_core::PeerId, _: net_types::Family) {}
    fn idle(&self) {}
}

fn table() -> RibHandle {
    let config = RibConfig::new(Asn::literal(65001), RouterId::try_from(1).unwrap(), 1);
    rib_thread::spawn(config, Nowhere).unwrap().0
}

fn roa(text: &str) -> Roa {
    Roa::new(text.parse().unwrap(), 24, Some(Asn::literal(65002))).unwrap()
}

/// Answers the first query with these payloads, and holds the connection until it is closed.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, payloads: &[&str]) {
    let mut query = [0; 8];
    stream.read_exact(&mut query).await.unwrap();
    assert_eq!(Pdu::parse(&query), Ok((Version::V1, Pdu::ResetQuery)));
    let mut answer = vec![Pdu::CacheResponse { session: 9 }];
    answer.extend(payloads.iter().map(|text| Pdu::Prefix { announce: true, roa: roa(text) }));
    answer.push(Pdu::EndOfData { session: 9, serial: 1, intervals: Some([3600, 600, 7200]) });
    for pdu in answer {
        stream.write_all(&pdu.to_bytes(Version::V1)).await.unwrap();
    }
    stream.flush().await.unwrap();
    let _ = stream.read(&mut query).await; // until it is closed, in whichever way
}

fn cache(port: u16, transport: RpkiTransport) -> RpkiCache {
    RpkiCache { host: "127.0.0.1".parse().unwrap(), port, transport }
}

fn caches(caches: impl IntoIterator<Item = (u8, RpkiCache)>) -> model::Rpki {
    model::Rpki { caches: caches.into_iter().collect(), ..model::Rpki::default() }
}

/// Waits until the table has exactly these payloads.
async fn until_in_force(rib: &RibHandle, payloads: &[&str]) {
    let wanted: Vec<Roa> = payloads.iter().map(|text| roa(text)).collect();
    let all = async {
        loop {
            let found = rib.query(|rib, _| rib.roas().iter().copied().collect::<Vec<_>>()).await.unwrap();
            if found == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("payloads in force");
}

#[tokio::test]
async fn the_preferred_cache_is_in_force_and_the_next_one_takes_over() {
    let rib = table();
    let rpki = Rpki::new(rib.clone());
    let (first, second) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let one = (1, cache(port(&first), RpkiTransport::Tcp));
    let two = (2, cache(port(&second), RpkiTransport::Tcp));
    rpki.configure(&caches([one, two.clone()])).await;
    let (to_second, _) = second.accept().await.unwrap();
    let spare = tokio::spawn(serve_owned(to_second, vec!["10.2.0.0/16", "10.3.0.0/16"]));
    until_in_force(&rib, &["10.2.0.0/16", "10.3.0.0/16"]).await;
    let (to_first, _) = first.accept().await.unwrap();
    let preferred = tokio::spawn(serve_owned(to_first, vec!["10.1.0.0/16", "10.2.0.0/16"]));
    until_in_force(&rib, &["10.1.0.0/16", "10.2.0.0/16"]).await;
    // Lost: the spare one, which is connected, is better than what is left of the first.
    preferred.abort();
    drop(first);
    until_in_force(&rib, &["10.2.0.0/16", "10.3.0.0/16"]).await;
    // Not configured any more: nothing of it stays.
    rpki.configure(&caches([])).await;
    until_in_force(&rib, &[]).await;
    assert!(rpki.status().await.is_empty());
    spare.abort();
}

async fn serve_owned(stream: tokio::net::TcpStream, payloads: Vec<&'static str>) {
    serve(stream, &payloads).await;
}

/// An authority, and a certificate of it for `name`, as files.
fn certified(folder: &Path, name: &str) -> Arc<ServerConfig> {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    Arc::new(config)
}

#[tokio::test]
async fn a_cache_behind_tls_has_to_have_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let acceptor = TlsAcceptor::from(certified(folder.path(), "cache.example.net"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = |name: &str| RpkiTransport::Tls {
        trust_anchor: folder.path().join("ca.pem"),
        server_name: Some(name.parse().unwrap()),
        client: None,
    };
    let rib = table();
    let rpki = Rpki::new(rib.clone());
    rpki.configure(&caches([(1, cache(port, tls("another.example.net")))])).await;
    let (stream, _) = listener.accept().await.unwrap();
    assert!(acceptor.accept(stream).await.is_err(), "our side ends the handshake");
    let trouble = async {
        loop {
            if let Some(trouble) = rpki.status().await[0].trouble.clone() {
                return trouble;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let trouble = tokio::time::timeout(Duration::from_secs(20), trouble).await.expect("trouble is told");
    assert!(trouble.contains("certificate"), "{trouble}");

    rpki.configure(&caches([(1, cache(port, tls("cache.example.net")))])).await;
    let (stream, _) = listener.accept().await.unwrap();
    let stream = acceptor.accept(stream).await.unwrap();
    let server = tokio::spawn(async move { serve(stream, &["10.1.0.0/16"]).await });
    until_in_force(&rib, &["10.1.0.0/16"]).await;
    server.abort();
}
