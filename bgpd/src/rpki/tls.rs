//! TLS to a cache (RFC 8210 §9.2): the cache proves its name, and we ours where we are asked to.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{0}: {1}")]
    File(PathBuf, rustls::pki_types::pem::Error),
    #[error("{0} has no certificate in PEM")]
    Empty(PathBuf),
    #[error("{0}: {1}")]
    Unusable(PathBuf, rustls::Error),
    #[error("\"{0}\" is not a name that a certificate can have; say which with \"server-name\"")]
    Name(String),
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    #[error("TLS: {0}")]
    Io(#[from] io::Error),
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |error| TlsError::File(path.to_owned(), error);
    let found = CertificateDer::pem_file_iter(path).map_err(file)?.collect::<Result<Vec<_>, _>>().map_err(file)?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

/// Files are read anew for each connection, so that a certificate that was renewed is used.
pub(super) async fn connect(
    stream: TcpStream,
    name: &str,
    trust_anchor: &Path,
    client: Option<&(PathBuf, PathBuf)>,
) -> Result<TlsStream<TcpStream>, TlsError> {
    let mut roots = RootCertStore::empty();
    for anchor in certificates(trust_anchor)? {
        roots.add(anchor).map_err(|error| TlsError::Unusable(trust_anchor.to_owned(), error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File(key.clone(), error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| TlsError::Unusable(key.clone(), error))?
        }
    };
    let server = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))?;
    Ok(TlsConnector::from(Arc::new(config)).connect(server, stream).await?)
}
