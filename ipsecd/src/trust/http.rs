//! Fetching what authorities publish: one request a connection, in bounded time and memory, no redirection.
//!
//! Only URLs of the configuration are fetched. Certificates name places, too, but a stranger's certificate is no reason to
//! connect to anything.

use std::{io, time::Duration};

use bytes::Bytes;
use config::model::HttpUrl;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long a fetch may take, from the name to the last octet. Shorter than a peer waits in IKE_AUTH.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Late,
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the exchange broke: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {0} octets, or broke off")]
    Body(usize),
    #[error("the URL cannot be asked for: {0}")]
    Url(#[from] hyper::http::Error),
}

/// A body to send, and what it is.
pub(super) struct Post {
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
}

/// Gets what is there, at most `limit` octets of it; with `post`, as the answer to that.
pub(super) async fn fetch(url: &HttpUrl, post: Option<Post>, limit: usize) -> Result<Bytes, FetchError> {
    tokio::time::timeout(PATIENCE, exchange(url, post, limit)).await.unwrap_or(Err(FetchError::Late))
}

async fn exchange(url: &HttpUrl, post: Option<Post>, limit: usize) -> Result<Bytes, FetchError> {
    let authority = url.authority();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let place = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let stream = TcpStream::connect(place).await.map_err(FetchError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder().uri(url.path()).header(header::HOST, authority);
    let request = match post {
        None => request.method(Method::GET).body(Full::default())?,
        Some(Post { kind, body }) => {
            request.method(Method::POST).header(header::CONTENT_TYPE, kind).body(Full::new(Bytes::from(body)))?
        }
    };
    let answer = async move {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        body.map(|body| body.to_bytes()).map_err(|_| FetchError::Body(limit))
    };
    // The connection has to be driven, and ends with the answer.
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers one connection with these octets and gives what was asked.
    async fn served(answer: &'static [u8], post: Option<Post>) -> (Result<Bytes, FetchError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: HttpUrl = format!("http://{}/a.crl", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            asked.truncate(read);
            String::from_utf8(asked).unwrap()
        });
        let outcome = fetch(&url, post, 10).await;
        (outcome, server.await.unwrap())
    }

    #[tokio::test]
    async fn lists_are_got_and_questions_posted() {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let (got, asked) = served(ok, None).await;
        assert_eq!(got.unwrap(), "abc");
        assert!(asked.starts_with("GET /a.crl HTTP/1.1\r\n") && asked.contains("host: 127.0.0.1:"), "{asked}");
        let post = Post { kind: "application/ocsp-request", body: b"xyz".to_vec() };
        let (got, asked) = served(ok, Some(post)).await;
        assert_eq!(got.unwrap(), "abc");
        assert!(
            asked.starts_with("POST /a.crl") && asked.ends_with("xyz") && asked.contains("ocsp-request"),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn what_is_refused_or_too_long_or_broken_is_an_error() {
        let (refused, _) =
            served(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n", None).await;
        assert!(matches!(refused, Err(FetchError::Status(StatusCode::FOUND))), "{refused:?}");
        let (long, _) = served(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nabcdefghijk", None).await;
        assert!(matches!(long, Err(FetchError::Body(10))), "{long:?}");
        let (cut, _) = served(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", None).await;
        assert!(matches!(cut, Err(FetchError::Body(10) | FetchError::Exchange(_))), "{cut:?}");
        let (noise, _) = served(b"220 smtp.example.net\r\n", None).await;
        assert!(matches!(noise, Err(FetchError::Exchange(_))), "{noise:?}");
    }
}
